//! How p99 grows with the time between two reports, by rule: the result of a sweep of the simulator.

use std::collections::BTreeSet;

use serde::Deserialize;

/// The file that the example `interval_sweep` of `lb-sim` writes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct IntervalSweep {
    /// What was simulated, in words.
    pub(crate) what: String,
    /// The command that does it again.
    pub(crate) command: String,
    pub(crate) points: Vec<SweepPoint>,
}

/// One rule at one load with one interval between reports.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct SweepPoint {
    /// Part of the capacity, above 0.
    pub(crate) load: f64,
    /// Between two reports of a worker.
    pub(crate) interval_ms: f64,
    pub(crate) rule: String,
    pub(crate) p99_ms: f64,
    /// Times the oracle's.
    pub(crate) p99_over_oracle: f64,
}

impl IntervalSweep {
    /// The loads, in percent, from the least.
    pub(crate) fn loads(&self) -> BTreeSet<u32> {
        self.points.iter().map(SweepPoint::load_percent).collect()
    }

    /// The points of a load.
    pub(crate) fn at(&self, load_percent: u32) -> impl Iterator<Item = &SweepPoint> {
        self.points.iter().filter(move |point| point.load_percent() == load_percent)
    }
}

impl SweepPoint {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share in percent, in a file of ours"
    )]
    fn load_percent(&self) -> u32 {
        (self.load * 100.0).round() as u32
    }
}
