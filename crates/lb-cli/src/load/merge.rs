//! One result of several: of runs that generators on several machines made at the same time.
//!
//! Quantiles cannot be made of quantiles, so runs that are to be merged keep their [`Counts`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    histogram::Times,
    phases::PhaseResult,
    result::{Pace, RunResult, WorkerUse},
};

/// Times of a run: microseconds to 0.1 %, ascending, and how many calls took that long.
pub type TimeCounts = Vec<(u64, u64)>;

/// All times of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Of the calls answered well.
    pub response: TimeCounts,
    /// Until a worker was picked.
    pub pick: TimeCounts,
    /// Waiting in the worker.
    pub queued: TimeCounts,
    /// In the worker's slot.
    pub service: TimeCounts,
}

/// One result of runs that were made at the same time under the same name. `None` when there are none, or one has no
/// [`Counts`].
///
/// How busy workers were comes from the first: all saw the same. Like a single run, it has no times if one of the
/// generators did not keep its rate.
pub fn merged(parts: &[RunResult]) -> Option<RunResult> {
    let (first, rest) = parts.split_first()?;
    let counts: Vec<&Counts> =
        parts.iter().map(|part| part.counts.as_ref()).collect::<Option<_>>()?;
    let times = |read: fn(&Counts) -> &TimeCounts| {
        let mut times = Times::new();
        for counts in &counts {
            times.add(read(counts));
        }
        times
    };
    let mut failures = BTreeMap::new();
    for (status, failed) in parts.iter().flat_map(|part| &part.failures) {
        *failures.entry(status.clone()).or_default() += failed;
    }
    let requests: u64 = parts.iter().map(|part| part.requests).sum();
    let elapsed_seconds = parts.iter().map(|part| part.elapsed_seconds).fold(0.0, f64::max);
    let answered = requests - failures.values().sum::<u64>();
    let trusted = parts.iter().all(|part| part.pace.as_ref().is_none_or(|pace| pace.kept));
    let response = times(|counts| &counts.response);
    Some(RunResult {
        name: first.name.clone(),
        load: match rest.len() {
            0 => first.load.clone(),
            others => format!("from {} machines at once, each: {}", others + 1, first.load),
        },
        elapsed_seconds,
        requests,
        failures,
        cancelled: parts.iter().any(|part| part.cancelled),
        abandoned: parts.iter().map(|part| part.abandoned).sum(),
        throughput_per_second: if elapsed_seconds > 0.0 {
            answered as f64 / elapsed_seconds
        } else {
            0.0
        },
        response: response.summary().filter(|_| trusted),
        response_cdf: if trusted { response.cdf() } else { Vec::new() },
        pick: times(|counts| &counts.pick).summary().filter(|_| trusted),
        queued: times(|counts| &counts.queued).summary(),
        service: times(|counts| &counts.service).summary(),
        counts: None,
        workers: workers(parts),
        utilisation: first.utilisation.clone(),
        phases: phases(first, rest),
        pace: pace(parts),
    })
}

/// The rates of all together, in the phases that all have reached.
fn phases(first: &RunResult, rest: &[RunResult]) -> Vec<PhaseResult> {
    rest.iter().fold(first.phases.clone(), |sums, part| {
        let add = |(sum, other): (PhaseResult, &PhaseResult)| PhaseResult {
            from_seconds: sum.from_seconds,
            rate_per_second: sum.rate_per_second + other.rate_per_second,
            answered_per_second: sum.answered_per_second + other.answered_per_second,
            failed_per_second: sum.failed_per_second + other.failed_per_second,
        };
        sums.into_iter().zip(&part.phases).map(add).collect()
    })
}

fn workers(parts: &[RunResult]) -> Vec<WorkerUse> {
    let mut workers: BTreeMap<&str, WorkerUse> = BTreeMap::new();
    for worker in parts.iter().flat_map(|part| &part.workers) {
        let none = || WorkerUse { requests: 0, failures: 0, ..worker.clone() };
        let sum = workers.entry(&worker.worker_id).or_insert_with(none);
        sum.requests += worker.requests;
        sum.failures += worker.failures;
    }
    let total: u64 = workers.values().map(|worker| worker.requests).sum();
    let share = |worker: WorkerUse| WorkerUse {
        share: worker.requests as f64 / total.max(1) as f64,
        ..worker
    };
    workers.into_values().map(share).collect()
}

/// Of all generators together; how late single calls were is not told.
fn pace(parts: &[RunResult]) -> Option<Pace> {
    let paces: Vec<&Pace> = parts.iter().map(|part| part.pace.as_ref()).collect::<Option<_>>()?;
    Some(Pace {
        intended_per_second: paces.iter().map(|pace| pace.intended_per_second).sum(),
        achieved_per_second: paces.iter().map(|pace| pace.achieved_per_second).sum(),
        starts: paces.iter().map(|pace| pace.starts).sum(),
        late_starts: paces.iter().map(|pace| pace.late_starts).sum(),
        held_starts: paces.iter().map(|pace| pace.held_starts).sum(),
        start_delay: None,
        kept: paces.iter().all(|pace| pace.kept),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(times_us: &[u64], failed: u64) -> RunResult {
        let mut response = Times::new();
        for time in times_us {
            response.add(&vec![(*time, 1)]);
        }
        let requests = times_us.len() as u64 + failed;
        RunResult {
            name: "p2c".into(),
            load: "closed loop, 1 client, 1s".into(),
            elapsed_seconds: 1.0,
            requests,
            failures: BTreeMap::from([("UNAVAILABLE".to_owned(), failed)]),
            cancelled: false,
            abandoned: 0,
            throughput_per_second: times_us.len() as f64,
            response: response.summary(),
            response_cdf: response.cdf(),
            pick: None,
            queued: None,
            service: None,
            counts: Some(Counts { response: response.counts(), ..Counts::default() }),
            workers: vec![WorkerUse {
                worker_id: "w".into(),
                slots: Some(2),
                requests,
                failures: failed,
                share: 1.0,
                utilisation: Some(0.5),
            }],
            utilisation: Vec::new(),
            phases: vec![PhaseResult {
                from_seconds: 0.0,
                rate_per_second: requests as f64,
                answered_per_second: times_us.len() as f64,
                failed_per_second: failed as f64,
            }],
            pace: None,
        }
    }

    #[test]
    fn the_merged_run_is_the_one_that_a_single_machine_would_have_made() {
        let (slow, fast) = ([900, 1000, 5000], [100, 200, 300, 400, 500, 600, 700]);
        let all: Vec<u64> = slow.into_iter().chain(fast).collect();
        let result = merged(&[part(&slow, 1), part(&fast, 2)]).unwrap();
        let single = part(&all, 3);
        assert_eq!(result.response, single.response);
        assert_eq!(result.response_cdf, single.response_cdf);
        assert_eq!((result.requests, result.failed()), (13, 3));
        assert_eq!(result.workers, single.workers);
        assert_eq!(result.phases, single.phases);
        assert!((result.throughput_per_second - 10.0).abs() < 1e-9);
        assert_eq!(result.load, "from 2 machines at once, each: closed loop, 1 client, 1s");
    }

    #[test]
    fn one_late_generator_spoils_the_times_of_all() {
        let late = |kept| Pace {
            intended_per_second: 10.0,
            achieved_per_second: 9.0,
            starts: 10,
            late_starts: 1,
            held_starts: 0,
            start_delay: None,
            kept,
        };
        let parts = [true, false].map(|kept| RunResult { pace: Some(late(kept)), ..part(&[5], 0) });
        let result = merged(&parts).unwrap();
        assert_eq!((result.response, result.pace.unwrap().kept), (None, false));
    }

    #[test]
    fn without_counts_nothing_is_merged() {
        assert_eq!(merged(&[]), None);
        assert_eq!(merged(&[RunResult { counts: None, ..part(&[5], 0) }]), None);
    }
}
