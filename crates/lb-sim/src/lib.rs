//! A deterministic simulator of the balancer and everything around it.
//!
//! It drives the very same [`lb_core::registry::Registry`], estimator and policies as the daemon does; only the clock, the
//! network, the workers and the clients are made up. One seed gives one run, to the last bit, so a run that went wrong can be
//! looked at again.
//!
//! A [`Scenario`] says what happens: the fleet, the arrivals, the work, the reports, the faults, and which [`Rule`]s are compared.
//! [`run`] runs every rule on the same arrivals and the same sizes of calls, and gives a [`Summary`], a table in which an
//! oracle that sees the true queues is the yardstick.

mod agenda;
mod balancer;
pub mod evidence;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod rule;
pub mod scaling;
mod scenario;
mod service;
mod summary;
mod worker;
mod world;

pub use rule::{Rule, UnknownRule};
pub use scenario::{
    Arrivals, Calls, Fault, FaultKind, Machine, Phase, Reports, Scenario, ScenarioError,
};
pub use service::Service;
pub use summary::{Moment, Row, Summary, Tally, percentile};
pub use world::run_once;

/// Runs every rule of a scenario on every seed of it and sums up.
pub fn run(scenario: &Scenario) -> Summary {
    let rows = scenario.rules.iter().map(|&rule| {
        let mut tally = Tally::default();
        for &seed in &scenario.seeds {
            tally.merge(run_once(scenario, rule, seed));
        }
        tally.row(rule)
    });
    Summary::new(scenario, rows.collect())
}
