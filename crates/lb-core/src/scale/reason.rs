//! Why something is planned, or is not, in words.

use std::{fmt, sync::Arc, time::Duration};

use super::schedule::Window;
use crate::id::HostId;

/// Why the fleet is planned as it is: who wanted it, and what was seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// The planner has just begun, and keeps what it found.
    Begun {
        /// Instances that were running.
        found: u32,
    },
    /// There is more to do than the instances should have.
    MoreDemand {
        /// What was seen.
        seen: Seen,
        /// Not a single slot was free, so it was not waited for the next judgement.
        saturated: bool,
        /// Why they are not more, though more would be needed.
        limit: Option<Limit>,
    },
    /// For a long time there was less to do than the instances could have.
    LessDemand {
        /// The highest that was seen.
        seen: Seen,
    },
    /// There would be fewer than the least number.
    Min {
        /// The least number.
        min: u32,
        /// The window of the schedule that demands it.
        window: Option<Window>,
    },
    /// There would be more than the greatest number.
    Max {
        /// The greatest number.
        max: u32,
        /// The window of the schedule that demands it.
        window: Option<Window>,
    },
    /// Somebody has set the number by hand.
    ByHand {
        /// The number that was set.
        count: u32,
        /// The most there may be.
        max: u32,
    },
    /// Hosts are gone; others stand in, unless it is paused.
    HostLost {
        /// One of them.
        host: HostId,
        /// How many instances all of them had.
        instances: u32,
    },
    /// A host has come, and what it runs is kept until the demand says otherwise.
    HostFound {
        /// Which.
        host: HostId,
        /// How many it runs.
        instances: u32,
    },
    /// Instances died again and again, and others stand in.
    Failed {
        /// The host of one of them.
        host: HostId,
        /// Its number.
        number: u32,
        /// What its scaler has seen.
        reason: Arc<str>,
    },
    /// Somebody has paused the planner: nothing changes.
    Paused,
    /// Somebody has let the demand decide again.
    Resumed,
    /// Hosts have more room, or less, than before.
    Room,
    /// Another balancer planned before; its plan goes on.
    TakenOver,
}

/// What keeps a step from adding as many as are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// One step adds only so many.
    Step,
    /// There may be no more.
    Max,
}

/// Calls per slot, compared with what they should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Calls per slot on average, running and queued.
    pub per_slot: f64,
    /// What they should be.
    pub target: f64,
    /// Over which time.
    pub over: Duration,
}

impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { per_slot, target, over } = self;
        write!(
            formatter,
            "{per_slot:.2} calls per slot in {:.0} s, target {target:.2}",
            over.as_secs_f64()
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheduled = |window: &Option<Window>| {
            window.map_or_else(String::new, |window| format!(" from {window}"))
        };
        match self {
            Self::Begun { found } => write!(formatter, "begun with the {found} that run"),
            Self::MoreDemand { seen, saturated, limit } => {
                let how = if *saturated { "no slot is free" } else { "demand" };
                let limit = match limit {
                    Some(Limit::Step) => ", as many as one step may add",
                    Some(Limit::Max) => ", as many as there may be",
                    None => "",
                };
                write!(formatter, "{how}: {seen}{limit}")
            }
            Self::LessDemand { seen } => write!(formatter, "demand: at most {seen}"),
            Self::Min { min, window } => write!(formatter, "min is {min}{}", scheduled(window)),
            Self::Max { max, window } => write!(formatter, "max is {max}{}", scheduled(window)),
            Self::ByHand { count, max } if count > max => {
                write!(formatter, "set to {count} by hand, max is {max}")
            }
            Self::ByHand { count, .. } => write!(formatter, "set to {count} by hand"),
            Self::HostLost { host, instances } => {
                write!(formatter, "host {host} is gone, {instances} instances are lost")
            }
            Self::HostFound { host, instances } => {
                write!(formatter, "host {host} has come with {instances}, kept for now")
            }
            Self::Failed { host, number, reason } => {
                write!(formatter, "instance {number} of {host} has failed: {reason}")
            }
            Self::Paused => formatter.write_str("paused by hand"),
            Self::Resumed => formatter.write_str("resumed by hand"),
            Self::Room => formatter.write_str("room on the hosts has changed"),
            Self::TakenOver => formatter.write_str("taken over from another balancer"),
        }
    }
}

/// Why no instance is added or taken away at the moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Held {
    /// The planner waits until scalers and workers are back.
    Settling,
    /// Somebody has paused it.
    Paused,
    /// The number was set by hand.
    ByHand,
    /// The demand is what it should be.
    OnTarget(Seen),
    /// Nobody knows the demand.
    Unknown,
    /// The demand is low, but has not been known and low for long enough.
    Stabilizing(Seen),
    /// The demand is low, but there was a change just now.
    Cooling(Seen),
    /// No fewer, or no more, are allowed.
    AtLimit(Seen),
    /// Another balancer is obeyed: whatever it wants is wanted.
    Following,
    /// Something has changed just now.
    Changed,
}

impl fmt::Display for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settling => formatter.write_str("waits until scalers and workers are back"),
            Self::Paused => formatter.write_str("paused by hand"),
            Self::ByHand => formatter.write_str("set by hand"),
            Self::OnTarget(seen) => write!(formatter, "as it should be: {seen}"),
            Self::Unknown => formatter.write_str("the demand is not known, so nothing is changed"),
            Self::Stabilizing(seen) => write!(formatter, "{seen}, but not for long enough"),
            Self::Cooling(seen) => write!(formatter, "{seen}, but there was a change just now"),
            Self::AtLimit(seen) => write!(formatter, "{seen}, at the limit"),
            Self::Following => formatter.write_str("another balancer plans"),
            Self::Changed => formatter.write_str("changed just now"),
        }
    }
}

/// Why an instance is started or stopped where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It ran when the planner first saw its host.
    Found,
    /// This host had the most room.
    MostRoom,
    /// This host had fewer than it should run.
    HostMin,
    /// This host has more than it may run.
    HostMax,
    /// Nothing is lost: it has not begun to work.
    NotReady,
    /// It has the least work.
    LeastWork {
        /// Calls it still has.
        outstanding: u32,
    },
    /// Nobody knows how much work it has; there was no better choice.
    UnknownWork,
    /// Its scaler has given up on it.
    Failed(Arc<str>),
    /// Another balancer, which planned before, wanted it so.
    TakenOver,
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found => formatter.write_str("it was running"),
            Self::MostRoom => formatter.write_str("most room here"),
            Self::HostMin => formatter.write_str("the host's min"),
            Self::HostMax => formatter.write_str("the host's max"),
            Self::NotReady => formatter.write_str("not working yet"),
            Self::LeastWork { outstanding } => write!(formatter, "least work, {outstanding} calls"),
            Self::UnknownWork => formatter.write_str("its work is not known"),
            Self::Failed(reason) => write!(formatter, "failed: {reason}"),
            Self::TakenOver => formatter.write_str("wanted by the balancer before"),
        }
    }
}
