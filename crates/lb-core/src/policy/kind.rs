//! The policies there are, and their names.

use std::{fmt, str::FromStr};

use super::{
    Cursor, Picker, least_load::LeastLoad, maglev::Maglev, p2c::PowerOfTwo, pick_first::PickFirst,
    prequal::Prequal, random::Random, ring_hash::RingHash, round_robin::RoundRobin,
    weighted_round_robin::WeightedRoundRobin,
};
use crate::{snapshot::Roster, time::Timestamp};

/// The policies there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PolicyKind {
    /// Always the first worker in the order of ids.
    PickFirst,
    /// Each worker in turn.
    RoundRobin,
    /// The worker with the shortest expected delay.
    #[default]
    LeastLoad,
    /// Any worker.
    Random,
    /// Each worker in turn, in proportion to its capacity.
    WeightedRoundRobin,
    /// The better of two drawn at random.
    PowerOfTwo,
    /// The same worker for the same key, by a ring of hashes.
    RingHash,
    /// The same worker for the same key, by a lookup table.
    Maglev,
    /// The fastest of those that are not crowded.
    Prequal,
}

impl PolicyKind {
    /// All policies.
    pub const ALL: [Self; 9] = [
        Self::PickFirst,
        Self::RoundRobin,
        Self::LeastLoad,
        Self::Random,
        Self::WeightedRoundRobin,
        Self::PowerOfTwo,
        Self::RingHash,
        Self::Maglev,
        Self::Prequal,
    ];

    /// The policy's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PickFirst => "pick_first",
            Self::RoundRobin => "round_robin",
            Self::LeastLoad => "least_load",
            Self::Random => "random",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::PowerOfTwo => "p2c",
            Self::RingHash => "ring_hash",
            Self::Maglev => "maglev",
            Self::Prequal => "prequal",
        }
    }

    /// Its name for people in a hurry.
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::PickFirst => "first",
            Self::RoundRobin => "rr",
            Self::LeastLoad => "ll",
            Self::WeightedRoundRobin => "wrr",
            Self::RingHash => "ring",
            Self::Random | Self::PowerOfTwo | Self::Maglev | Self::Prequal => self.name(),
        }
    }

    const fn source(self) -> &'static str {
        match self {
            Self::PickFirst => include_str!("pick_first.rs"),
            Self::RoundRobin => include_str!("round_robin.rs"),
            Self::LeastLoad => include_str!("least_load.rs"),
            Self::Random => include_str!("random.rs"),
            Self::WeightedRoundRobin => include_str!("weighted_round_robin.rs"),
            Self::PowerOfTwo => include_str!("p2c.rs"),
            Self::RingHash => include_str!("ring_hash.rs"),
            Self::Maglev => include_str!("maglev.rs"),
            Self::Prequal => include_str!("prequal.rs"),
        }
    }

    /// What it does, where it comes from and where it is weak: the documentation of its module, as plain text.
    pub fn explain(self) -> String {
        let lines = self.source().lines().map_while(|line| line.strip_prefix("//!"));
        let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
        let text = lines.collect::<Vec<_>>().join("\n");
        text.replace("[`", "`").replace("`]", "`").replace("super::", "").replace("crate::", "")
    }

    /// The fast half for this list of workers. `cursor` is the place in the round, kept across lists.
    pub(crate) fn prepare(self, roster: &Roster, cursor: &Cursor, now: Timestamp) -> Picker {
        let workers = &roster.workers;
        match self {
            Self::PickFirst => Picker::PickFirst(PickFirst),
            Self::RoundRobin => Picker::RoundRobin(RoundRobin::new(cursor)),
            Self::LeastLoad => Picker::LeastLoad(LeastLoad::new(roster, now)),
            Self::Random => Picker::Random(Random),
            Self::WeightedRoundRobin => {
                Picker::WeightedRoundRobin(WeightedRoundRobin::new(workers, cursor))
            }
            Self::PowerOfTwo => Picker::PowerOfTwo(PowerOfTwo::new(roster, now)),
            Self::RingHash => Picker::RingHash(RingHash::new(workers)),
            Self::Maglev => Picker::Maglev(Maglev::new(workers)),
            Self::Prequal => Picker::Prequal(Prequal),
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
    "unknown policy {found:?}: expected pick_first (first), round_robin (rr), least_load (ll), random, \
     weighted_round_robin (wrr), p2c, ring_hash (ring), maglev or prequal"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_short_names_are_taken() {
        for kind in PolicyKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(kind.short_name().parse(), Ok(kind));
        }
        let error = "fastest".parse::<PolicyKind>().unwrap_err().to_string();
        assert!(error.starts_with("unknown policy \"fastest\": expected pick_first"));
        assert!(PolicyKind::ALL.iter().all(|kind| error.contains(kind.name())));
    }

    #[test]
    fn each_names_its_source_and_its_weakness() {
        for kind in PolicyKind::ALL {
            let text = kind.explain();
            assert!(text.contains("Weakness"), "{kind}: {text}");
            assert!(text.contains("Source") || text.contains("Mitzenmacher"), "{kind}: {text}");
        }
    }
}
