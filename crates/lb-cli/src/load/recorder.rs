//! The one owner of a run's figures: calls come in as they end, a result goes out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::driver::Finished;
use super::histogram::Times;
use super::merge::Counts;
use super::phases::Phases;
use super::plan::Plan;
use super::result::{Pace, RunResult, WorkerUse};
use super::target::Outcome;
use super::usage::Seen;

/// Most names told apart among statuses and among workers. They come from the network; what is
/// beyond counts under [`OTHER`].
const MAX_NAMES: usize = 4096;

/// Where the names beyond [`MAX_NAMES`] are counted.
const OTHER: &str = "(other)";

/// Calls of one worker.
#[derive(Debug, Default)]
struct WorkerCalls {
    requests: u64,
    failures: u64,
}

/// The figures of a run so far.
#[derive(Debug)]
pub(super) struct Recorder {
    requests: u64,
    failed: u64,
    failures: BTreeMap<String, u64>,
    workers: BTreeMap<String, WorkerCalls>,
    response: Times,
    pick: Times,
    queued: Times,
    service: Times,
    phases: Phases,
}

/// How a run ended; with the recorder's figures it makes a result.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) elapsed: Duration,
    /// How long calls were begun, at most.
    pub(super) driven: Duration,
    pub(super) cancelled: bool,
    pub(super) abandoned: u64,
    pub(super) pace: Option<Pace>,
    pub(super) seen: Seen,
}

impl Recorder {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            phases: Phases::of(plan),
            requests: 0,
            failed: 0,
            failures: BTreeMap::new(),
            workers: BTreeMap::new(),
            response: Times::new(),
            pick: Times::new(),
            queued: Times::new(),
            service: Times::new(),
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// Takes in one call that ended, so long after the run began.
    pub(super) fn record(&mut self, finished: Finished, at: Duration) {
        let Finished { response, sample } = finished;
        self.requests += 1;
        let failed = match sample.outcome {
            Outcome::Ok => {
                self.response.record(response);
                0
            }
            Outcome::Failed(status) => {
                *named(&mut self.failures, status) += 1;
                1
            }
        };
        self.failed += failed;
        self.phases.record(at, failed > 0);
        if let Some(pick) = sample.pick {
            self.pick.record(pick);
        }
        if let Some(queued) = sample.queued {
            self.queued.record(queued);
        }
        if let Some(service) = sample.service {
            self.service.record(service);
        }
        if let Some(worker_id) = sample.worker_id {
            let calls = named(&mut self.workers, worker_id);
            calls.requests += 1;
            calls.failures += failed;
        }
    }

    /// Everything there is to say about the run.
    pub(super) fn finish(self, plan: &Plan, ending: Ending) -> RunResult {
        let elapsed_seconds = ending.elapsed.as_secs_f64();
        let answered = self.requests - self.failed;
        let throughput_per_second =
            if elapsed_seconds > 0.0 { answered as f64 / elapsed_seconds } else { 0.0 };
        let trusted = ending.pace.as_ref().is_none_or(|pace| pace.kept);
        RunResult {
            name: plan.name().to_owned(),
            load: plan.describe(),
            elapsed_seconds,
            requests: self.requests,
            failures: self.failures,
            cancelled: ending.cancelled,
            abandoned: ending.abandoned,
            throughput_per_second,
            response: self.response.summary().filter(|_| trusted),
            response_cdf: if trusted { self.response.cdf() } else { Vec::new() },
            pick: self.pick.summary().filter(|_| trusted),
            queued: self.queued.summary(),
            service: self.service.summary(),
            counts: plan.keeps_counts().then(|| Counts {
                response: self.response.counts(),
                pick: self.pick.counts(),
                queued: self.queued.counts(),
                service: self.service.counts(),
            }),
            workers: worker_uses(self.workers, &ending.seen),
            utilisation: ending.seen.samples,
            phases: self.phases.finish(ending.driven),
            pace: ending.pace,
        }
    }
}

/// The entry of a name, or of all the others once there are too many.
fn named<V: Default>(entries: &mut BTreeMap<String, V>, name: String) -> &mut V {
    let known = entries.len() < MAX_NAMES || entries.contains_key(&name);
    entries.entry(if known { name } else { OTHER.to_owned() }).or_default()
}

/// Joins what callers counted with what workers said. A worker that got no call is listed too:
/// that a policy left it idle is a result.
fn worker_uses(mut calls: BTreeMap<String, WorkerCalls>, seen: &Seen) -> Vec<WorkerUse> {
    for worker_id in seen.workers.keys() {
        calls.entry(worker_id.clone()).or_default();
    }
    let total: u64 = calls.values().map(|calls| calls.requests).sum();
    calls
        .into_iter()
        .map(|(worker_id, calls)| {
            let known = seen.workers.get(&worker_id);
            WorkerUse {
                slots: known.map(|(slots, _)| *slots),
                requests: calls.requests,
                failures: calls.failures,
                share: calls.requests as f64 / total.max(1) as f64,
                utilisation: known.and_then(|(_, utilisation)| *utilisation),
                worker_id,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_are_counted_together() {
        let mut entries: BTreeMap<String, u64> = BTreeMap::new();
        for index in 0..MAX_NAMES + 5 {
            *named(&mut entries, format!("w{index}")) += 1;
        }
        *named(&mut entries, "w0".to_owned()) += 1;
        assert_eq!(entries.len(), MAX_NAMES + 1);
        assert_eq!(entries[OTHER], 5);
        assert_eq!(entries["w0"], 2);
    }
}
