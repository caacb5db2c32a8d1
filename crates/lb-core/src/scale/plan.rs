//! A plan as a value: what should run where, who wanted it, why, and not before when it can be less.

use std::{fmt, fmt::Write as _};

use super::reason::{Reason, Why};
use crate::{id::HostId, time::Timestamp};

/// Counts plans, over all balancers: each is above all that any scaler has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(u64);

impl Generation {
    /// The highest number. One that is near it is nobody's honest count; it would leave no room for later ones.
    pub const LIMIT: u64 = 1 << 62;

    /// Before any plan, and any setting.
    pub const FIRST: Self = Self(0);

    /// `None`: above [`Self::LIMIT`].
    pub const fn new(number: u64) -> Option<Self> {
        if number <= Self::LIMIT { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The one after it; at the limit, itself: nobody takes it for a new one, and nobody refuses it.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.0 < Self::LIMIT { Self(self.0 + 1) } else { self }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What an operator wants; it stands above the demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Mode {
    /// The demand decides.
    #[default]
    Auto,
    /// So many instances, whatever the demand and min; never above max.
    Set(u32),
    /// Nothing is started or stopped; not even what is lost is made good.
    Paused,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.pad("auto"),
            Self::Set(count) => write!(formatter, "set to {count}"),
            Self::Paused => formatter.pad("paused"),
        }
    }
}

/// A [`Mode`], and which setting it was, counted over all balancers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manual {
    /// What was set.
    pub mode: Mode,
    /// The newest setting has the highest.
    pub generation: Generation,
}

impl Manual {
    /// The newer of two settings. Of two that are equally new, set at two balancers at once, all settle on the same: pausing stands
    /// above a number, a higher number above a lower one, and that above the demand.
    #[must_use]
    pub fn newer(self, other: Self) -> Self {
        let rank = |manual: Self| (manual.generation, manual.mode);
        if rank(other) > rank(self) { other } else { self }
    }

    /// This setting replaced by a new one.
    #[must_use]
    pub fn changed(self, mode: Mode) -> Self {
        Self { mode, generation: self.generation.next() }
    }
}

/// What should run where. It is complete: what is not in it should not run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// A scaler takes a plan only if this is above that of the one it has.
    pub generation: Generation,
    /// The setting by hand that it was made under.
    pub manual: Manual,
    /// Instances that were wanted before.
    pub before: u32,
    /// Instances that are wanted.
    pub desired: u32,
    /// Of those, instances that no host has room for.
    pub missing: u32,
    /// Why.
    pub reason: Reason,
    /// For want of demand nothing is taken away before this moment.
    pub not_down_before: Timestamp,
    /// In the order of ids. A host without instances is there as well.
    pub hosts: Vec<HostPlan>,
}

/// What should run on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan {
    /// Which host.
    pub host: HostId,
    /// All instances that should run there, in the order of numbers.
    pub instances: Vec<Wanted>,
    /// What this plan changes against the one before: the stops, then the starts.
    pub changes: Vec<Change>,
}

/// An instance that should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its number on the host.
    pub number: u32,
    /// Why it was started there.
    pub why: Why,
}

/// An instance that should begin, or end, to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number on the host.
    pub number: u32,
    /// What becomes of it.
    pub action: Action,
    /// Why this one.
    pub why: Why,
}

/// What becomes of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It is drained, then stopped.
    Stop,
    /// It is started.
    Start,
}

impl Action {
    /// One word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
        }
    }
}

impl HostPlan {
    /// Whether the same should run on the same host, for whatever reason.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let number = |wanted: &Wanted| wanted.number;
        self.host == other.host
            && self.instances.iter().map(number).eq(other.instances.iter().map(number))
    }
}

impl Plan {
    /// The plan of a host.
    pub fn host(&self, host: &HostId) -> Option<&HostPlan> {
        self.hosts.iter().find(|plan| plan.host == *host)
    }

    /// Instances that some host should run.
    pub fn placed(&self) -> u32 {
        self.desired.saturating_sub(self.missing)
    }

    /// The plan in words: who wants what, why, and not before when it can be less.
    pub fn explain(&self, now: Timestamp) -> String {
        let Self { generation, before, desired, reason, .. } = self;
        let change = if before == desired {
            format!("{desired} instances")
        } else {
            format!("{before} to {desired} instances")
        };
        let mut text = format!("plan {generation}, {}: {change}, {reason}", self.manual.mode);
        let wait = self.not_down_before.since(now).as_secs_f64();
        if wait > 0.0 && self.manual.mode == Mode::Auto {
            put(&mut text, format_args!("; no fewer for want of demand in the next {wait:.0} s"));
        }
        if self.missing > 0 {
            put(&mut text, format_args!("\n{} of them have no room on any host", self.missing));
        }
        for plan in &self.hosts {
            for Change { number, action, why } in &plan.changes {
                put(&mut text, format_args!("\n{}: {} {number}, {why}", plan.host, action.name()));
            }
        }
        text
    }
}

fn put(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes everything");
}
