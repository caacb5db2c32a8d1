//! Several repeats of the same run, as one line: the median of each figure, from the least to the
//! greatest.
//!
//! One run on a shared machine says little, and a mean of runs is moved by the one that somebody
//! disturbed. So every figure is taken in each repeat, and its median is shown with its range.
//! Curves have no median: they are those of one repeat, the one in the middle by its p99.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::load::{Pace, ResponseTimes, RunResult};

/// A figure over the repeats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Of an even number of repeats, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// Figures of times over the repeats, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimeRanges {
    /// Arithmetic mean.
    pub mean_us: Range,
    /// Median of the calls.
    pub p50_us: Range,
    /// 90 % took at most this long.
    pub p90_us: Range,
    /// 99 % took at most this long.
    pub p99_us: Range,
    /// 99.9 % took at most this long.
    pub p999_us: Range,
    /// The longest.
    pub max_us: Range,
}

/// All repeats of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Name of the run: the policy, where policies are compared.
    pub name: String,
    /// Repeats that the figures are taken from.
    pub repeats: usize,
    /// Repeats that were cut short and are left out; or, when there is no other, the one.
    pub cancelled: usize,
    /// Repeats in which the rate was not kept: their times are left out.
    pub late: usize,
    /// Of those, in which too many calls were outstanding for it.
    pub held: usize,
    /// Calls that ended, in all repeats together.
    pub requests: u64,
    /// Of those, how many failed, by the name of their status.
    pub failures: BTreeMap<String, u64>,
    /// Calls answered well, per second.
    pub throughput_per_second: Range,
    /// Response times; `None` when no repeat has any to show.
    pub response: Option<TimeRanges>,
    /// Times to pick, a part of the response times.
    pub pick: Option<TimeRanges>,
    /// The least that the longest response time can be, set by slots and processors alone, in
    /// microseconds, where that can be told.
    pub limit_us: Option<f64>,
}

impl Range {
    /// `None` when there are no values.
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = values.len() / 2;
        let lower = (values.len() - 1) / 2;
        Some(Self { median: f64::midpoint(values[lower], values[upper]), min, max })
    }
}

impl TimeRanges {
    fn of(times: &[&ResponseTimes]) -> Option<Self> {
        let range = |read: fn(&ResponseTimes) -> f64| Range::of(times.iter().map(|one| read(one)));
        Some(Self {
            mean_us: range(|times| times.mean_us)?,
            p50_us: range(|times| times.p50_us as f64)?,
            p90_us: range(|times| times.p90_us as f64)?,
            p99_us: range(|times| times.p99_us as f64)?,
            p999_us: range(|times| times.p999_us as f64)?,
            max_us: range(|times| times.max_us as f64)?,
        })
    }
}

impl Spread {
    /// Of all repeats of one run; `None` when there are none. A repeat that was cut short counts only
    /// when none was finished.
    pub fn of(runs: &[RunResult], limit_us: Option<f64>) -> Option<Self> {
        let counted = counted(runs);
        let paces = |of: fn(&Pace) -> bool| {
            counted.iter().filter(|run| run.pace.as_ref().is_some_and(of)).count()
        };
        let mut failures = BTreeMap::new();
        for (status, failed) in counted.iter().flat_map(|run| &run.failures) {
            *failures.entry(status.clone()).or_default() += failed;
        }
        let times = |read: fn(&RunResult) -> Option<&ResponseTimes>| {
            let times: Vec<&ResponseTimes> = counted.iter().filter_map(|run| read(run)).collect();
            TimeRanges::of(&times)
        };
        Some(Self {
            name: runs.first()?.name.clone(),
            repeats: counted.len(),
            cancelled: runs.iter().filter(|run| run.cancelled).count(),
            late: paces(|pace| !pace.kept),
            held: paces(Pace::was_held),
            requests: counted.iter().map(|run| run.requests).sum(),
            failures,
            throughput_per_second: Range::of(counted.iter().map(|run| run.throughput_per_second))?,
            response: times(|run| run.response.as_ref()),
            pick: times(|run| run.pick.as_ref()),
            limit_us,
        })
    }

    /// How many calls failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The longest response time over the limit, where both are known.
    pub fn over_limit(&self) -> Option<f64> {
        Some(self.response.as_ref()?.max_us.median / self.limit_us?)
    }
}

/// The repeat to draw curves of: in the middle by its p99.
pub fn middle(runs: &[RunResult]) -> Option<&RunResult> {
    let mut counted = counted(runs);
    let p99 = |run: &RunResult| run.response.as_ref().map(|times| times.p99_us);
    if counted.iter().any(|run| p99(run).is_some()) {
        counted.retain(|run| p99(run).is_some());
    }
    counted.sort_by_key(|run| p99(run));
    counted.get(counted.len().saturating_sub(1) / 2).copied()
}

/// The finished repeats, or all when none was finished.
fn counted(runs: &[RunResult]) -> Vec<&RunResult> {
    let finished: Vec<&RunResult> = runs.iter().filter(|run| !run.cancelled).collect();
    if finished.is_empty() { runs.iter().collect() } else { finished }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(p99_us: u64) -> ResponseTimes {
        let mean_us = p99_us as f64 / 2.0;
        ResponseTimes { mean_us, p50_us: 1, p90_us: 2, p99_us, p999_us: 9_000, max_us: 10_000 }
    }

    fn run(p99_us: u64) -> RunResult {
        RunResult {
            name: "least_load".to_owned(),
            load: String::new(),
            elapsed_seconds: 1.0,
            requests: 100,
            failures: BTreeMap::from([("UNAVAILABLE".to_owned(), 2)]),
            cancelled: false,
            abandoned: 0,
            throughput_per_second: p99_us as f64,
            response: Some(times(p99_us)),
            response_cdf: Vec::new(),
            pick: Some(times(7)),
            queued: None,
            service: None,
            counts: None,
            workers: Vec::new(),
            utilisation: Vec::new(),
            phases: Vec::new(),
            pace: None,
        }
    }

    fn late(mut run: RunResult) -> RunResult {
        run.response = None;
        run.pace = Some(Pace {
            intended_per_second: 100.0,
            achieved_per_second: 50.0,
            starts: 100,
            late_starts: 90,
            held_starts: 0,
            start_delay: None,
            kept: false,
        });
        run
    }

    #[test]
    fn figures_are_medians_with_their_range() {
        let runs = [run(300), run(100), run(200), run(900)];
        let spread = Spread::of(&runs, Some(8_000.0)).unwrap();
        assert_eq!((spread.repeats, spread.requests, spread.failed()), (4, 400, 8));
        let response = spread.response.clone().unwrap();
        assert_eq!(response.p99_us, Range { median: 250.0, min: 100.0, max: 900.0 });
        assert_eq!(spread.pick.as_ref().unwrap().p99_us, Range { median: 7.0, min: 7.0, max: 7.0 });
        assert_eq!(spread.over_limit(), Some(1.25));
        assert_eq!(middle(&runs).unwrap().response.as_ref().unwrap().p99_us, 200);
        assert_eq!(Spread::of(&[], None), None);
        assert_eq!(middle(&[]), None);
    }

    #[test]
    fn a_repeat_that_was_cut_short_counts_only_when_it_is_all_there_is() {
        let cut = RunResult { cancelled: true, requests: 3, ..run(50) };
        let spread = Spread::of(&[run(100), cut.clone()], None).unwrap();
        assert_eq!((spread.repeats, spread.cancelled, spread.requests), (1, 1, 100));
        let spread = Spread::of(std::slice::from_ref(&cut), None).unwrap();
        assert_eq!((spread.repeats, spread.cancelled, spread.requests), (1, 1, 3));
    }

    #[test]
    fn times_of_a_late_generator_are_left_out() {
        let runs = [run(100), late(run(5)), run(300)];
        let spread = Spread::of(&runs, None).unwrap();
        assert_eq!((spread.repeats, spread.late), (3, 1));
        assert_eq!(
            spread.response.unwrap().p99_us,
            Range { median: 200.0, min: 100.0, max: 300.0 }
        );
        assert!(middle(&runs).unwrap().response.is_some());
        let all_late = Spread::of(&[late(run(5))], None).unwrap();
        assert_eq!(all_late.response, None);
    }
}
