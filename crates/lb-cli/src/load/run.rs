//! One run from start to result.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::driver::{Driver, Finished};
use super::plan::{End, Plan};
use super::recorder::{Ending, Recorder};
use super::result::RunResult;
use super::target::Target;
use super::usage::{Probe, Usage};

/// Ended calls waiting to be recorded. When it is full a call's task waits, after its time was
/// taken, so the figures stay right.
const RESULT_QUEUE: usize = 4096;

/// Ended calls recorded between two words on progress.
const RESULT_BATCH: usize = 256;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Calls that ended.
    pub done: u64,
    /// Calls to make, when the plan counts calls.
    pub total: Option<u64>,
    /// Of `done`, how many failed.
    pub failures: u64,
    /// Since the run began.
    pub elapsed: Duration,
    /// How much of the plan is done, 0 to 1.
    pub fraction: f64,
}

/// Runs the plan against the target and reports on it.
///
/// `progress` is called as calls end, at most once for each. When `cancel` fires, or the future is
/// dropped, no new call begins and those in flight are dropped; the result tells what was done.
///
/// # Panics
/// When a call of the target panics.
pub async fn run<T: Target, P: Probe>(
    plan: &Plan,
    target: T,
    probe: P,
    cancel: &CancellationToken,
    mut progress: impl FnMut(Progress) + Send,
) -> RunResult {
    // Fires also when this future is dropped: the spawned tasks must not outlive it.
    let stop = cancel.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    let usage = Usage::begin(probe, plan.reading_interval()).await;
    let finished = stop.child_token();
    let following = tokio::spawn(usage.follow(finished.clone()));

    let started = Instant::now();
    let (results, receiver) = mpsc::channel(RESULT_QUEUE);
    let driver = Driver { target, results, cancel: stop };
    let driving = tokio::spawn({
        let plan = plan.clone();
        async move { driver.drive(&plan).await }
    });
    let recorder = record(Recorder::new(plan), receiver, started, |recorder| {
        progress(progress_of(plan, recorder, started.elapsed()));
    })
    .await;
    let elapsed = started.elapsed();

    finished.cancel();
    let driving_end = joined(driving).await;
    let seen = joined(following).await;
    let ending = Ending {
        elapsed,
        driven: match plan.end() {
            End::Elapsed(time) => time.min(elapsed),
            End::Requests(_) => elapsed,
        },
        cancelled: cancel.is_cancelled()
            && cut_short(plan, &recorder, elapsed, driving_end.abandoned),
        abandoned: driving_end.abandoned,
        pace: driving_end.pace,
        seen,
    };
    recorder.finish(plan, ending)
}

/// Takes in calls until the last task that makes them is gone.
async fn record(
    mut recorder: Recorder,
    mut receiver: mpsc::Receiver<Finished>,
    started: Instant,
    mut tell: impl FnMut(&Recorder),
) -> Recorder {
    let mut batch = Vec::with_capacity(RESULT_BATCH);
    while receiver.recv_many(&mut batch, RESULT_BATCH).await > 0 {
        let at = started.elapsed();
        for finished in batch.drain(..) {
            recorder.record(finished, at);
        }
        tell(&recorder);
    }
    recorder
}

fn progress_of(plan: &Plan, recorder: &Recorder, elapsed: Duration) -> Progress {
    let done = recorder.requests();
    let (total, fraction) = match plan.end() {
        End::Requests(total) => (Some(total), done as f64 / total as f64),
        End::Elapsed(time) => (None, elapsed.as_secs_f64() / time.as_secs_f64()),
    };
    Progress { done, total, failures: recorder.failed(), elapsed, fraction: fraction.min(1.0) }
}

/// Whether a cancelled run had more to do: Ctrl-C after the last call changes nothing.
fn cut_short(plan: &Plan, recorder: &Recorder, elapsed: Duration, abandoned: u64) -> bool {
    abandoned > 0
        || match plan.end() {
            End::Requests(total) => recorder.requests() < total,
            End::Elapsed(time) => elapsed < time,
        }
}

/// The outcome of a task of this run; its panic goes on here.
async fn joined<R>(task: tokio::task::JoinHandle<R>) -> R {
    match task.await {
        Ok(outcome) => outcome,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests;
