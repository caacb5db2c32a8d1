//! Response times, kept in a histogram of fixed size and precision.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::merge::TimeCounts;

/// Longest time told apart; longer ones count as this long.
const MAX_MICROSECONDS: u64 = 3_600_000_000;

/// Digits kept of each time: 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Least step between two points of a distribution's body: 200 points draw a smooth line.
const CDF_STEP: f64 = 0.005;

/// In the tail, each point leaves at most this part of what the last one left out, so that p99.9
/// is drawn as finely as p90.
const CDF_TAIL: f64 = 0.9;

/// Mean and quantiles of times, in microseconds, to 0.1 %.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseTimes {
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: u64,
    /// 90 % took at most this long.
    pub p90_us: u64,
    /// 99 % took at most this long.
    pub p99_us: u64,
    /// 99.9 % took at most this long.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// One point of a cumulative distribution: this fraction of the calls took at most so long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CdfPoint {
    /// Time in microseconds.
    pub time_us: u64,
    /// 0 to 1.
    pub fraction: f64,
}

/// A growing set of times.
#[derive(Debug)]
pub(super) struct Times {
    histogram: Histogram<u64>,
}

impl Times {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_max(MAX_MICROSECONDS, SIGNIFICANT_DIGITS)
            .expect("the histogram's bounds are constants in its range");
        Self { histogram }
    }

    pub(super) fn record(&mut self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(MAX_MICROSECONDS);
        self.histogram.saturating_record(microseconds);
    }

    /// Takes in times that were counted elsewhere.
    pub(super) fn add(&mut self, counts: &TimeCounts) {
        for (time_us, count) in counts {
            self.histogram.saturating_record_n(*time_us, *count);
        }
    }

    pub(super) fn counts(&self) -> TimeCounts {
        let times = self.histogram.iter_recorded();
        times.map(|time| (time.value_iterated_to(), time.count_at_value())).collect()
    }

    /// `None` when nothing was recorded.
    pub(super) fn summary(&self) -> Option<ResponseTimes> {
        let times = &self.histogram;
        if times.is_empty() {
            return None;
        }
        Some(ResponseTimes {
            mean_us: times.mean(),
            p50_us: times.value_at_quantile(0.5),
            p90_us: times.value_at_quantile(0.9),
            p99_us: times.value_at_quantile(0.99),
            p999_us: times.value_at_quantile(0.999),
            max_us: times.max(),
        })
    }

    /// Some three hundred points, from fraction 0 at the shortest time to 1 at the longest.
    pub(super) fn cdf(&self) -> Vec<CdfPoint> {
        let total = self.histogram.len();
        let mut points = Vec::new();
        let mut count = 0;
        for value in self.histogram.iter_recorded() {
            count += value.count_at_value();
            let point = CdfPoint {
                time_us: value.value_iterated_to(),
                fraction: count as f64 / total as f64,
            };
            let last: f64 = points.last().map_or(0.0, |last: &CdfPoint| last.fraction);
            if points.is_empty() {
                let time_us = point.time_us;
                points.push(CdfPoint { time_us, fraction: 0.0 });
            }
            let in_tail = 1.0 - point.fraction <= (1.0 - last) * CDF_TAIL;
            if point.fraction - last >= CDF_STEP || in_tail || count == total {
                points.push(point);
            }
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_recorded_has_no_summary() {
        let times = Times::new();
        assert_eq!(times.summary(), None);
        assert_eq!(times.cdf(), []);
    }

    #[test]
    fn the_distribution_is_short_monotonic_and_ends_at_one() {
        let mut times = Times::new();
        for microseconds in 1..=100_000 {
            times.record(Duration::from_micros(microseconds));
        }
        let points = times.cdf();
        assert!((150..400).contains(&points.len()), "{}", points.len());
        assert!(points.is_sorted_by(|left, right| left.time_us <= right.time_us));
        assert!(points.is_sorted_by(|left, right| left.fraction <= right.fraction));
        assert!(points.first().unwrap().fraction.abs() < f64::EPSILON);
        assert!((points.last().unwrap().fraction - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_time_beyond_the_range_counts_as_the_longest() {
        let mut times = Times::new();
        times.record(Duration::from_secs(100 * 3600));
        let longest = times.summary().unwrap().max_us;
        assert!(longest.abs_diff(MAX_MICROSECONDS) < MAX_MICROSECONDS / 500);
    }
}
