//! The planner against the cheapest clairvoyant one that answers as quickly.
//!
//! The clairvoyant planner staffs for the true rate of each moment, by one of two rules with one number each ([`Staffing`]). The number is
//! the one with the fewest worker-hours whose p99, over the same calls, is not above that of the core's planner; of both rules the
//! cheaper one is the yardstick.

use super::{Pilot, Staffing};
use crate::{rule::Rule, scenario::Scenario, summary::Tally, summary::percentile, world::run_once};

/// What a pilot made of a scenario, over all its seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The 99th percentile, in milliseconds.
    pub p99: f64,
    /// Hours that workers ran, from the order to start them until they were gone.
    pub worker_hours: f64,
    /// How often the number of workers was changed.
    pub changes: usize,
    /// Calls that failed.
    pub failed: u64,
    /// The most workers that took calls at once.
    pub most: u32,
}

/// Both pilots on one scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The core's planner.
    pub planner: Outcome,
    /// The one who knows what is to come.
    pub clairvoyant: Outcome,
    /// How that one staffs.
    pub staffing: Staffing,
}

impl Comparison {
    /// Worker-hours of the planner over those of the clairvoyant one.
    pub fn ratio(&self) -> f64 {
        self.planner.worker_hours / self.clairvoyant.worker_hours
    }
}

/// Halvings of the range in which the clairvoyant planner's number is sought: to a hundredth of its worker-hours.
const HALVINGS: u32 = 6;

/// Least and most of that number: from too few workers to more than enough. A test would tell if they were not.
const UTILIZATION: (f64, f64) = (0.5, 1.0);
const SQUARE_ROOT: (f64, f64) = (0.5, 4.0);

/// Runs the scenario with its pilot.
pub fn outcome(scenario: &Scenario, rule: Rule) -> Outcome {
    let mut tally = Tally::default();
    for &seed in &scenario.seeds {
        tally.merge(run_once(scenario, rule, seed));
    }
    tally.latencies.sort_unstable();
    Outcome {
        p99: f64::from(percentile(&tally.latencies, 0.99)) / 1_000.0,
        worker_hours: tally.worker_seconds / 3_600.0,
        changes: tally.wanted.windows(2).filter(|pair| pair[0].1 != pair[1].1).count(),
        failed: tally.failed + tally.turned_away + tally.unfinished,
        most: tally.ready.iter().copied().max().unwrap_or(0),
    }
}

/// Runs the scenario with its pilot and with the clairvoyant one.
pub fn compare(scenario: &Scenario, rule: Rule) -> Comparison {
    let planner = outcome(scenario, rule);
    // A higher utilization is fewer workers; more times the square root is more of them.
    let (low, high) = UTILIZATION;
    let utilization = cheapest(scenario, rule, planner.p99, (high, low), Staffing::Utilization);
    let root = cheapest(scenario, rule, planner.p99, SQUARE_ROOT, Staffing::SquareRoot);
    let hours = |found: &(Outcome, Staffing)| found.0.worker_hours;
    let (clairvoyant, staffing) =
        if hours(&root) < hours(&utilization) { root } else { utilization };
    Comparison { planner, clairvoyant, staffing }
}

/// The staffing with the fewest workers whose p99 is at most `p99`. `range` begins with too few of them and ends with enough.
fn cheapest(
    scenario: &Scenario,
    rule: Rule,
    p99: f64,
    range: (f64, f64),
    staffing: fn(f64) -> Staffing,
) -> (Outcome, Staffing) {
    let (mut too_few, mut enough) = range;
    let run = |number| {
        let mut scenario = scenario.clone();
        let scaling = scenario.scaling.as_mut().expect("what is compared scales");
        scaling.pilot = Pilot::Clairvoyant(staffing(number));
        outcome(&scenario, rule)
    };
    let mut best = run(enough);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(too_few, enough);
        let found = run(middle);
        if found.p99 <= p99 {
            (enough, best) = (middle, found);
        } else {
            too_few = middle;
        }
    }
    (best, staffing(enough))
}
