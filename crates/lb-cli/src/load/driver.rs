//! Makes the calls of a run at the moments its plan says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::histogram::Times;
use super::plan::{End, MAX_OUTSTANDING, Plan, Shape, Spacing};
use super::result::Pace;
use super::target::{Sample, Target};

/// A call begun this much after it was due is late: several ticks of tokio's timer, which counts
/// milliseconds.
const LATE_START: Duration = Duration::from_millis(5);

/// More late starts than this part of all, and the rate was not kept.
const LATE_STARTS_ALLOWED: f64 = 0.01;

/// One call that ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) response: Duration,
    pub(super) sample: Sample,
}

/// How the driving ended.
#[derive(Debug, Default)]
pub(super) struct Driven {
    /// Calls dropped in flight.
    pub(super) abandoned: u64,
    /// Of an open loop.
    pub(super) pace: Option<Pace>,
}

/// What every call of a run needs.
#[derive(Debug, Clone)]
pub(super) struct Driver<T> {
    pub(super) target: T,
    pub(super) results: mpsc::Sender<Finished>,
    pub(super) cancel: CancellationToken,
}

impl<T: Target> Driver<T> {
    /// Makes all calls of the plan and waits for their ends.
    pub(super) async fn drive(self, plan: &Plan) -> Driven {
        match plan.shape() {
            Shape::Closed { clients } => self.closed(clients, plan.end()).await,
            Shape::Open { rate_per_second, spacing } => {
                let arrivals = Arrivals::new(rate_per_second, spacing);
                self.open(arrivals, plan.end()).await
            }
        }
    }

    async fn closed(self, clients: usize, end: End) -> Driven {
        let begun = Instant::now();
        let next_index = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let client = self.clone();
            let next_index = Arc::clone(&next_index);
            tasks.spawn(async move {
                loop {
                    let index = next_index.fetch_add(1, Ordering::Relaxed);
                    let now = Instant::now();
                    if client.cancel.is_cancelled() || end.reached(index, now - begun) {
                        return false;
                    }
                    if client.call(index, now).await {
                        return true;
                    }
                }
            });
        }
        let mut abandoned = 0;
        while let Some(ended) = tasks.join_next().await {
            abandoned += u64::from(unwound(ended));
        }
        Driven { abandoned, pace: None }
    }

    async fn open(self, mut arrivals: Arrivals, end: End) -> Driven {
        let begun = Instant::now();
        let slots = Arc::new(Semaphore::new(MAX_OUTSTANDING));
        let mut tasks = JoinSet::new();
        let mut starts = Starts::new();
        let mut abandoned = 0;
        for index in 0.. {
            let due_after = arrivals.advance();
            if end.reached(index, due_after) {
                break;
            }
            let due = begun + due_after;
            let permit = tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                permit = async {
                    sleep_until(due).await;
                    starts.held += u64::from(slots.available_permits() == 0);
                    Arc::clone(&slots).acquire_owned().await
                } => permit.expect("nobody closes the semaphore of a run"),
            };
            starts.note(due.elapsed());
            let driver = self.clone();
            tasks.spawn(async move {
                let abandoned = driver.call(index, due).await;
                drop(permit);
                abandoned
            });
            while let Some(ended) = tasks.try_join_next() {
                abandoned += u64::from(unwound(ended));
            }
        }
        let starting = begun.elapsed();
        while let Some(ended) = tasks.join_next().await {
            abandoned += u64::from(unwound(ended));
        }
        Driven { abandoned, pace: Some(starts.pace(arrivals.rate_per_second, starting)) }
    }

    /// One call, timed from `due`. True when it was abandoned.
    async fn call(&self, index: u64, due: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => true,
            sample = self.target.call(index) => {
                let response = due.elapsed();
                // Fails only when nobody wants the result any more.
                let _unwanted = self.results.send(Finished { response, sample }).await;
                false
            }
        }
    }
}

impl End {
    /// Whether call `index`, due so long after the beginning, is one too many.
    fn reached(self, index: u64, due_after: Duration) -> bool {
        match self {
            Self::Requests(requests) => index >= requests,
            Self::Elapsed(time) => due_after >= time,
        }
    }
}

/// A panic in a call is a broken target: it goes on in the run's caller, never into the figures.
fn unwound(ended: Result<bool, JoinError>) -> bool {
    match ended {
        Ok(abandoned) => abandoned,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_aborted) => true,
    }
}

/// When the calls of an open loop are due.
#[derive(Debug)]
struct Arrivals {
    rate_per_second: f64,
    random: Option<fastrand::Rng>,
    arrived: u64,
    due_seconds: f64,
}

impl Arrivals {
    fn new(rate_per_second: f64, spacing: Spacing) -> Self {
        Self {
            rate_per_second,
            random: match spacing {
                Spacing::Constant => None,
                Spacing::Poisson { seed } => Some(fastrand::Rng::with_seed(seed)),
            },
            arrived: 0,
            due_seconds: 0.0,
        }
    }

    /// When the next call is due, from the beginning.
    fn advance(&mut self) -> Duration {
        match &mut self.random {
            // Multiplied, not added up: no error grows over a million gaps.
            None => self.due_seconds = self.arrived as f64 / self.rate_per_second,
            Some(random) => {
                // 1 - [0, 1) is never 0, whose logarithm is none.
                self.due_seconds -= (1.0 - random.f64()).ln() / self.rate_per_second;
            }
        }
        self.arrived += 1;
        Duration::from_secs_f64(self.due_seconds)
    }
}

/// How late the calls of an open loop were begun.
#[derive(Debug)]
struct Starts {
    delays: Times,
    count: u64,
    late: u64,
    held: u64,
}

impl Starts {
    fn new() -> Self {
        Self { delays: Times::new(), count: 0, late: 0, held: 0 }
    }

    fn note(&mut self, delay: Duration) {
        self.delays.record(delay);
        self.count += 1;
        self.late += u64::from(delay > LATE_START);
    }

    fn pace(self, intended_per_second: f64, starting: Duration) -> Pace {
        let seconds = starting.as_secs_f64();
        Pace {
            intended_per_second,
            achieved_per_second: if seconds > 0.0 { self.count as f64 / seconds } else { 0.0 },
            starts: self.count,
            late_starts: self.late,
            held_starts: self.held,
            start_delay: self.delays.summary(),
            kept: self.late as f64 <= self.count as f64 * LATE_STARTS_ALLOWED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_arrivals_have_the_rate_and_repeat() {
        let last = |seed| {
            let mut arrivals = Arrivals::new(1000.0, Spacing::Poisson { seed });
            (0..100_000).map(|_| arrivals.advance()).last().unwrap()
        };
        assert_eq!(last(1), last(1));
        assert_ne!(last(1), last(2));
        let seconds = last(1).as_secs_f64();
        assert!((99.0..101.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn constant_arrivals_do_not_drift() {
        let mut arrivals = Arrivals::new(300.0, Spacing::Constant);
        assert_eq!(arrivals.advance(), Duration::ZERO);
        let last = (0..300_000).map(|_| arrivals.advance()).last().unwrap();
        assert_eq!(last, Duration::from_secs(1000));
    }
}
