//! Workers that come and go while calls arrive: the planner of the core against one that knows what is to come.

use std::time::Duration;

use lb_core::scale::Settings;

use crate::scenario::Scenario;

pub mod cases;
mod yardstick;

pub use yardstick::{Comparison, Outcome, compare, outcome};

/// How a fleet grows and shrinks.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// Who decides.
    pub pilot: Pilot,
    /// Hosts that share the places of the scenario's fleet evenly, at least 1.
    pub hosts: u32,
    /// Workers that run at the start.
    pub running: u32,
    /// The least time from the order to start a worker until it says hello.
    pub start_least: Duration,
    /// The most time for it; in between any is as likely.
    pub start_most: Duration,
    /// A worker that has just started works at half its speed for so long.
    pub cold: Duration,
}

/// Who decides how many workers run.
#[derive(Debug, Clone, PartialEq)]
pub enum Pilot {
    /// The planner of the core, with these settings.
    Planner(Settings),
    /// One who knows the rates to come, orders workers so early that they are there in time, and sends each away when its time is over.
    Clairvoyant(Staffing),
}

/// How many workers a load takes, for one who knows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Staffing {
    /// So many that this share of their slots is busy.
    Utilization(f64),
    /// As many slots as are busy on average, and so many times the square root of that: the chance to wait is then the same under
    /// any load.
    ///
    /// Source: S. Halfin and W. Whitt, Heavy-traffic limits for queues with many exponential servers, Operations Research 29 (1981).
    SquareRoot(f64),
}

impl Staffing {
    /// Workers of so many slots, when `busy` slots are busy on average.
    pub fn workers(self, busy: f64, slots: u16) -> u32 {
        let wanted = match self {
            Self::Utilization(share) => busy / share,
            Self::SquareRoot(times) => busy + times * busy.sqrt(),
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a fleet is small"
        )]
        let workers = (wanted / f64::from(slots)).ceil() as u32;
        workers.max(1)
    }
}

impl Scenario {
    /// Workers that one who knows the rates has at this moment: as many as any rate until a worker ordered now is there takes.
    pub(crate) fn foreseen(&self, staffing: Staffing, now: Duration, ahead: Duration) -> u32 {
        let busy = |rate: f64| rate * self.service.mean();
        let slots = self.fleet.first().map_or(1, |machine| machine.slots);
        let until = self.phases.partition_point(|phase| phase.at <= now + ahead);
        let from = self.phases.partition_point(|phase| phase.at <= now);
        let soon = self.phases[from..until].iter().map(|phase| phase.rate);
        let highest = soon.chain(self.rate(now)).fold(0.0, f64::max);
        staffing.workers(busy(highest), slots)
    }
}
