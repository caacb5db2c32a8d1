//! What a run is made of.
//!
//! A scenario is a text file ([`Scenario::load`], [`Scenario::parse`]) or a value made in code. A file that makes no sense is
//! refused with its name, the line and the field.

use std::time::Duration;

use lb_core::{
    allowance::{Allowance, SAVED},
    registry::HEARTBEAT,
};

use crate::{rule::Rule, scaling::Scaling, service::Service};

mod text;

pub use text::ScenarioError;

/// What happens, and which rules are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows, for people.
    pub about: String,
    /// One run for each; results are pooled.
    pub seeds: Vec<u64>,
    /// Rules to compare, the first oracle among them is the yardstick.
    pub rules: Vec<Rule>,
    /// Calls arrive for this long.
    pub length: Duration,
    /// Calls that start before this are not measured.
    pub warm_up: Duration,
    /// The workers.
    pub fleet: Vec<Machine>,
    /// Balancer processes side by side, at least 1.
    pub balancers: u32,
    /// When calls come.
    pub arrivals: Arrivals,
    /// Later rates of open arrivals, in order.
    pub phases: Vec<Phase>,
    /// Clients that share open arrivals, at least 1: whoever tells of failures is one of them.
    pub clients: u32,
    /// Calls that may wait at a worker; one more is turned away. `None`: any number.
    pub queue: Option<u32>,
    /// Whether clients try again, within their budget, when they are turned away.
    pub retries: bool,
    /// Whether balancers hear of a call's end from its client.
    pub calls: Calls,
    /// How much work a call is.
    pub service: Service,
    /// One way between any two.
    pub network_delay: Duration,
    /// From a call's end at the client until its balancer knows.
    pub outcome_delay: Duration,
    /// When workers report.
    pub reports: Reports,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Whether workers come and go with the demand, and how. `None`: the fleet is what it is.
    pub scaling: Option<Scaling>,
}

/// One worker's machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// Calls it runs at once, at least 1.
    pub slots: u16,
    /// How fast it works, 1 is normal. Above 0.
    pub speed: f64,
}

/// When calls come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// Whatever happens, at random (Poisson), at this mean rate a second.
    Open {
        /// Calls a second.
        rate: f64,
    },
    /// Each client calls again when its last call has ended.
    Closed {
        /// How many clients.
        clients: u32,
        /// Pause between an answer and the next call.
        think: Duration,
    },
}

/// From a moment on calls come at another rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    /// When, after the start.
    pub at: Duration,
    /// Calls a second.
    pub rate: f64,
}

/// Whether balancers hear of a call's end from its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// They do not: unary picks.
    OneShot,
    /// They do: picks over a session.
    Session,
}

/// When workers report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reports {
    /// When something has happened that the balancer does not know, as often as its [`Allowance`] lets it; besides that, each
    /// heartbeat.
    OnChange {
        /// Least time between two reports in the long run.
        interval: Duration,
    },
    /// Once an interval.
    Periodic {
        /// Time between two reports.
        interval: Duration,
    },
}

/// Clients of open arrivals where nothing is said of them.
pub(crate) const CLIENTS: u32 = 16;

/// Heartbeats leave after this share of the time, so that they arrive within it; as `lb-worker` does it.
const HEARTBEAT_SHARE: f64 = 0.9;

impl Reports {
    /// Least time between two reports.
    pub(crate) fn interval(self) -> Duration {
        match self {
            Self::OnChange { interval } | Self::Periodic { interval } => interval,
        }
    }

    /// How often a worker may report.
    pub(crate) fn allowance(self) -> Allowance {
        match self {
            Self::OnChange { interval } => Allowance::new(interval, SAVED),
            Self::Periodic { interval } => Allowance::new(interval, 0),
        }
    }

    /// From one heartbeat of a worker to the next.
    pub(crate) fn pause(self) -> Duration {
        match self {
            Self::OnChange { .. } => HEARTBEAT.mul_f64(HEARTBEAT_SHARE),
            Self::Periodic { interval } => interval,
        }
    }

    /// Most time between two reports, as the balancer expects.
    pub(crate) fn heartbeat(self) -> Duration {
        match self {
            Self::OnChange { .. } => HEARTBEAT,
            Self::Periodic { interval } => interval.max(HEARTBEAT),
        }
    }
}

/// Something that goes wrong, or is done to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When, after the start.
    pub at: Duration,
    /// How long; `None`: for good.
    pub lasts: Option<Duration>,
    /// What.
    pub kind: FaultKind,
    /// To which worker or balancer, counted from 0.
    pub target: u32,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A worker dies with all its calls; comes back empty.
    Crash,
    /// A worker stops working and talking, its connections stay; goes on where it was.
    Freeze,
    /// A worker is stopped in good order; comes back empty.
    Drain,
    /// A worker starts only now.
    Join,
    /// A worker fails this share of its calls (in percent) at once, with UNAVAILABLE.
    Sick(u8),
    /// All calls of a client fail, wherever they go.
    BrokenClient,
    /// A balancer dies; comes back knowing nothing.
    BalancerLoss,
    /// A host of scaled workers loses its power; comes back empty. The target is the host.
    HostLoss,
}

impl Scenario {
    /// The usual case, to be changed: 10 workers of 4 slots, 50 ms exponential, 70 % load, reports on change at most every
    /// 20 ms, 0.25 ms of network.
    pub fn usual() -> Self {
        let mut usual = Self {
            name: "usual".to_owned(),
            about: String::new(),
            seeds: vec![1, 2, 3],
            rules: vec![Rule::ShortestQueue],
            length: Duration::from_secs(120),
            warm_up: Duration::from_secs(5),
            fleet: vec![Machine { slots: 4, speed: 1.0 }; 10],
            balancers: 1,
            arrivals: Arrivals::Open { rate: 0.0 },
            phases: Vec::new(),
            clients: CLIENTS,
            queue: None,
            retries: false,
            calls: Calls::OneShot,
            service: Service::Exponential(0.05),
            network_delay: Duration::from_micros(250),
            outcome_delay: Duration::from_micros(250),
            reports: Reports::OnChange { interval: Duration::from_millis(20) },
            faults: Vec::new(),
            scaling: None,
        };
        usual.set_load(0.7);
        usual
    }

    /// Calls a second that keep the whole fleet busy.
    pub fn capacity(&self) -> f64 {
        let speed = |machine: &Machine| f64::from(machine.slots) * machine.speed;
        self.fleet.iter().map(speed).sum::<f64>() / self.service.mean()
    }

    /// Arrivals that keep this share of the fleet busy.
    pub fn set_load(&mut self, share: f64) {
        self.arrivals = Arrivals::Open { rate: share * self.capacity() };
    }

    /// The rate of open arrivals at a moment; `None` for closed ones.
    pub(crate) fn rate(&self, since_start: Duration) -> Option<f64> {
        let Arrivals::Open { rate } = self.arrivals else { return None };
        let begun = self.phases.partition_point(|phase| phase.at <= since_start);
        Some(self.phases[..begun].last().map_or(rate, |phase| phase.rate))
    }

    pub(crate) fn joins_later(&self, worker: usize) -> bool {
        let joins =
            |fault: &Fault| fault.kind == FaultKind::Join && fault.target as usize == worker;
        self.faults.iter().any(joins)
    }
}
