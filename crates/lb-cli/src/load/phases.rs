//! What became of calls while they came at one rate, where the rate changed in the middle of a run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::{Plan, Shape};

/// What a change of the rate may take: queues fill and empty. Calls that end within it are not counted, so that what is left shows
/// whether all is as it should be two seconds later.
const CHANGE: Duration = Duration::from_secs(2);

/// A time of one rate, without its first two seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseResult {
    /// When the rate began, since the run did.
    pub from_seconds: f64,
    /// Calls begun, per second.
    pub rate_per_second: f64,
    /// Calls answered well, per second.
    pub answered_per_second: f64,
    /// Calls that failed, per second.
    pub failed_per_second: f64,
}

/// The phases of a run so far; none where the rate stays.
#[derive(Debug)]
pub(super) struct Phases(Vec<Phase>);

#[derive(Debug)]
struct Phase {
    from: Duration,
    rate_per_second: f64,
    answered: u64,
    failed: u64,
}

impl Phases {
    pub(super) fn of(plan: &Plan) -> Self {
        let changes = plan.rate_changes();
        let Shape::Open { rate_per_second, .. } = plan.shape() else { return Self(Vec::new()) };
        if changes.is_empty() {
            return Self(Vec::new());
        }
        let first = (Duration::ZERO, rate_per_second);
        let later = changes.iter().map(|change| (change.at, change.rate_per_second));
        let phase =
            |(from, rate_per_second)| Phase { from, rate_per_second, answered: 0, failed: 0 };
        Self(std::iter::once(first).chain(later).map(phase).collect())
    }

    /// A call has ended, so long after the run began.
    pub(super) fn record(&mut self, at: Duration, failed: bool) {
        let begun = self.0.iter_mut().rfind(|phase| phase.from <= at);
        if let Some(phase) = begun.filter(|phase| phase.from + CHANGE <= at) {
            *(if failed { &mut phase.failed } else { &mut phase.answered }) += 1;
        }
    }

    /// Those that lasted long enough to tell, of a run that began calls for so long.
    pub(super) fn finish(&self, until: Duration) -> Vec<PhaseResult> {
        let ends = self.0.iter().skip(1).map(|phase| phase.from).chain([until]);
        let result = |(phase, end): (&Phase, Duration)| {
            let seconds = end.min(until).checked_sub(phase.from + CHANGE)?.as_secs_f64();
            (seconds > 0.0).then(|| PhaseResult {
                from_seconds: phase.from.as_secs_f64(),
                rate_per_second: phase.rate_per_second,
                answered_per_second: phase.answered as f64 / seconds,
                failed_per_second: phase.failed as f64 / seconds,
            })
        };
        self.0.iter().zip(ends).filter_map(result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{End, RateChange, Spacing};

    #[test]
    fn the_first_two_seconds_of_a_rate_are_left_out() {
        let seconds = Duration::from_secs;
        let spacing = Spacing::Constant;
        let shape = Shape::Open { rate_per_second: 10.0, spacing };
        let plan = Plan::new("p", shape, End::Elapsed(seconds(10))).unwrap();
        assert!(Phases::of(&plan).finish(seconds(10)).is_empty(), "the rate stays");
        let change = RateChange { at: seconds(4), rate_per_second: 40.0 };
        let mut phases = Phases::of(&plan.with_rate_changes(vec![change]).unwrap());
        for quarter in 0..40 {
            let at = seconds(1) * quarter / 4;
            phases.record(at, at >= seconds(5));
        }
        let found = phases.finish(seconds(10));
        let rates: Vec<_> = found
            .iter()
            .map(|phase| (phase.from_seconds, phase.answered_per_second, phase.failed_per_second))
            .collect();
        assert_eq!(rates, [(0.0, 4.0, 0.0), (4.0, 0.0, 4.0)]);
    }
}
