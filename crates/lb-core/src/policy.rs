//! Which worker gets the next call.
//!
//! A policy has two halves. The slow half prepares a picker from the list of workers, when that
//! list changes; the fast half picks, for every call, and allocates nothing. Each
//! policy has a file of its own; the set of them is [`PolicyKind`].

use std::{fmt, str::FromStr};

use fastrand::Rng;

use crate::{snapshot::Worker, time::Timestamp};

mod least_load;
mod min_tree;
mod pick_first;
mod random;
mod round_robin;

pub use least_load::EXPLORATION;
pub use round_robin::Cursor;

use {least_load::LeastLoad, pick_first::PickFirst, random::Random, round_robin::RoundRobin};

/// The policies there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PolicyKind {
    /// Always the first worker in the order of ids.
    PickFirst,
    /// Each worker in turn.
    RoundRobin,
    /// The worker with the shortest expected wait.
    #[default]
    LeastLoad,
    /// Any worker.
    Random,
}

impl PolicyKind {
    /// All policies.
    pub const ALL: [Self; 4] = [Self::PickFirst, Self::RoundRobin, Self::LeastLoad, Self::Random];

    /// The policy's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PickFirst => "pick_first",
            Self::RoundRobin => "round_robin",
            Self::LeastLoad => "least_load",
            Self::Random => "random",
        }
    }

    const fn short_name(self) -> &'static str {
        match self {
            Self::PickFirst => "first",
            Self::RoundRobin => "rr",
            Self::LeastLoad => "ll",
            Self::Random => "random",
        }
    }

    /// The fast half for this list of workers. `cursor` is the place in the round, kept across lists.
    pub(crate) fn prepare(
        self,
        workers: &[std::sync::Arc<Worker>],
        cursor: &Cursor,
        now: Timestamp,
    ) -> Picker {
        match self {
            Self::PickFirst => Picker::PickFirst(PickFirst),
            Self::RoundRobin => Picker::RoundRobin(RoundRobin::new(cursor)),
            Self::LeastLoad => Picker::LeastLoad(LeastLoad::new(workers, now)),
            Self::Random => Picker::Random(Random),
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A name that is no policy's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown policy {found:?}: expected pick_first (first), round_robin (rr), least_load (ll) or random"
)]
pub struct UnknownPolicy {
    found: String,
}

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let same = |kind: &Self| kind.name() == text || kind.short_name() == text;
        let unknown = || UnknownPolicy { found: text.chars().take(40).collect() };
        Self::ALL.into_iter().find(same).ok_or_else(unknown)
    }
}

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

/// What a picker sees: the list, and which of it may be picked.
pub(crate) struct Field<'a> {
    pub(crate) workers: &'a [std::sync::Arc<Worker>],
    /// `None`: all of them.
    pub(crate) eligible: Option<&'a dyn Fn(&Worker) -> bool>,
    pub(crate) affinity: Option<&'a str>,
    pub(crate) now: Timestamp,
}

impl Field<'_> {
    fn allows(&self, index: usize) -> bool {
        self.eligible.is_none_or(|eligible| eligible(&self.workers[index]))
    }

    /// The first allowed place at or after `start`, going round.
    fn next_allowed(&self, start: usize) -> Option<usize> {
        let count = self.workers.len();
        (start..count).chain(0..start.min(count)).find(|&index| self.allows(index))
    }

    /// One allowed place, each equally likely.
    fn draw(&self, rng: &mut Rng) -> Option<usize> {
        if self.eligible.is_none() {
            return (!self.workers.is_empty()).then(|| rng.usize(..self.workers.len()));
        }
        // Reservoir sampling of one: the k-th allowed place replaces the choice with chance 1/k.
        let allowed = (0..self.workers.len()).filter(|&index| self.allows(index));
        allowed.zip(1..).fold(
            None,
            |chosen, (index, found)| {
                if rng.usize(..found) == 0 { Some(index) } else { chosen }
            },
        )
    }
}

/// The fast half of a policy.
pub(crate) trait Pick {
    /// Picks among the allowed workers; `None` if there is none.
    fn pick(&self, field: &Field<'_>, rng: &mut Rng) -> Option<Choice>;

    /// Hears that the load of the worker at `index` is another now.
    fn load_changed(&self, _index: usize, _worker: &Worker, _now: Timestamp) {}
}

/// The fast half of any policy.
#[derive(Debug)]
pub(crate) enum Picker {
    PickFirst(PickFirst),
    RoundRobin(RoundRobin),
    LeastLoad(LeastLoad),
    Random(Random),
}

impl Pick for Picker {
    fn pick(&self, field: &Field<'_>, rng: &mut Rng) -> Option<Choice> {
        match self {
            Self::PickFirst(policy) => policy.pick(field, rng),
            Self::RoundRobin(policy) => policy.pick(field, rng),
            Self::LeastLoad(policy) => policy.pick(field, rng),
            Self::Random(policy) => policy.pick(field, rng),
        }
    }

    fn load_changed(&self, index: usize, worker: &Worker, now: Timestamp) {
        if let Self::LeastLoad(policy) = self {
            policy.load_changed(index, worker, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_short_names_are_taken() {
        for kind in PolicyKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(kind.short_name().parse(), Ok(kind));
        }
        let error = "fastest".parse::<PolicyKind>().unwrap_err();
        assert!(error.to_string().starts_with("unknown policy \"fastest\": expected pick_first"));
    }
}
