//! Which worker gets the next call.
//!
//! A policy has two halves. The slow half prepares a picker from the list of workers, when that
//! list changes; the fast half picks, for every call, and allocates nothing. Each
//! policy has a file of its own; the set of them is [`PolicyKind`].

use std::fmt;

use fastrand::Rng;

use crate::estimator::Load;

mod affinity;
mod delay;
mod field;
mod kind;
mod least_load;
mod maglev;
mod min_tree;
mod p2c;
mod pick_first;
mod prequal;
mod random;
mod refresh;
mod ring_hash;
mod round_robin;
mod weighted_round_robin;

pub use kind::{PolicyKind, UnknownPolicy};
pub use least_load::EXPLORATION;
pub use round_robin::Cursor;

pub(crate) use field::Field;

use {
    least_load::LeastLoad, maglev::Maglev, p2c::PowerOfTwo, pick_first::PickFirst,
    prequal::Prequal, random::Random, ring_hash::RingHash, round_robin::RoundRobin,
    weighted_round_robin::WeightedRoundRobin,
};

/// Why a worker was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is the first in the order of ids.
    First,
    /// It was its turn.
    Turn,
    /// It was drawn.
    Drawn,
    /// Nobody has a shorter expected wait.
    LeastLoad {
        /// Its estimate of calls, before this one; those that have likely ended since its last report are still in it.
        estimate: u32,
        /// Calls it runs at once.
        slots: u16,
    },
    /// Of two that were drawn it has the shorter expected delay.
    BetterOfTwo {
        /// Its estimate of calls, before this one.
        estimate: u32,
        /// Calls it runs at once.
        slots: u16,
    },
    /// The key belongs to it.
    Affinity,
    /// The worker that the key belongs to has more than its share; this one is next.
    Overflow,
    /// It is the fastest that is not crowded.
    Cold,
    /// All that were looked at are crowded, it is the least so.
    LeastCrowded,
    /// It was drawn, so that a worker that is avoided gets another chance.
    Explored,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => formatter.write_str("first in the order of ids"),
            Self::Turn => formatter.write_str("its turn"),
            Self::Drawn => formatter.write_str("drawn at random"),
            Self::LeastLoad { estimate, slots } => {
                write!(formatter, "least load: {estimate} calls on {slots} slots")
            }
            Self::BetterOfTwo { estimate, slots } => {
                write!(formatter, "better of two: {estimate} calls on {slots} slots")
            }
            Self::Affinity => formatter.write_str("the key belongs to it"),
            Self::Overflow => formatter.write_str("next after the key's own worker, which is full"),
            Self::Cold => formatter.write_str("fastest of those not crowded"),
            Self::LeastCrowded => formatter.write_str("least crowded, all are"),
            Self::Explored => formatter.write_str("drawn at random to try a worker anew"),
        }
    }
}

/// A worker, by its place in the list, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Place in the list of workers.
    pub index: usize,
    /// Why this one.
    pub reason: Reason,
}

/// The fast half of a policy.
pub(crate) trait Pick {
    /// Picks among the allowed workers; `None` if there is none.
    fn pick(&self, field: &Field<'_>, rng: &mut Rng) -> Option<Choice>;

    /// Hears that the load of the worker at `index` is another now, with that many calls expected in it, if the picker asks
    /// for that ([`Picker::expects`]).
    fn load_changed(&self, _index: usize, _load: Load<'_>, _calls: f64) {}
}

/// The fast half of any policy.
#[derive(Debug)]
pub(crate) enum Picker {
    PickFirst(PickFirst),
    RoundRobin(RoundRobin),
    LeastLoad(LeastLoad),
    Random(Random),
    WeightedRoundRobin(WeightedRoundRobin),
    PowerOfTwo(PowerOfTwo),
    RingHash(RingHash),
    Maglev(Maglev),
    Prequal(Prequal),
}

impl Picker {
    /// Whether it asks how many calls are expected in a worker; to know that costs every pick some nanoseconds.
    pub(crate) fn expects(&self) -> bool {
        matches!(self, Self::LeastLoad(_) | Self::PowerOfTwo(_) | Self::Prequal(_))
    }
}

impl Pick for Picker {
    #[inline]
    fn pick(&self, field: &Field<'_>, rng: &mut Rng) -> Option<Choice> {
        match self {
            Self::PickFirst(policy) => policy.pick(field, rng),
            Self::RoundRobin(policy) => policy.pick(field, rng),
            Self::LeastLoad(policy) => policy.pick(field, rng),
            Self::Random(policy) => policy.pick(field, rng),
            Self::WeightedRoundRobin(policy) => policy.pick(field, rng),
            Self::PowerOfTwo(policy) => policy.pick(field, rng),
            Self::RingHash(policy) => policy.pick(field, rng),
            Self::Maglev(policy) => policy.pick(field, rng),
            Self::Prequal(policy) => policy.pick(field, rng),
        }
    }

    fn load_changed(&self, index: usize, load: Load<'_>, calls: f64) {
        match self {
            Self::LeastLoad(policy) => policy.load_changed(index, load, calls),
            Self::PowerOfTwo(policy) => policy.load_changed(index, load, calls),
            Self::RingHash(policy) => policy.load_changed(index, load, calls),
            Self::Maglev(policy) => policy.load_changed(index, load, calls),
            _ => {}
        }
    }
}
