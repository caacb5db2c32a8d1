//! What decides who gets a call: a policy of the core, or a yardstick beside it.

use std::{fmt, str::FromStr};

use lb_core::policy::PolicyKind;

/// What decides who gets a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// One of the balancer's own policies.
    Core(PolicyKind),
    /// Oracle: the worker with the fewest calls per slot, by its true queue at this moment.
    ShortestQueue,
    /// Oracle: the worker that would end the call first on average, by its true queue and true speed.
    ShortestDelay,
    /// The worker with the least load in its last report: the obvious rule, and a harmful one.
    NaiveLeastLoad,
}

impl Rule {
    /// The rules that are no policy of the core.
    pub const YARDSTICKS: [Self; 3] =
        [Self::ShortestQueue, Self::ShortestDelay, Self::NaiveLeastLoad];

    /// The rule's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Core(kind) => kind.name(),
            Self::ShortestQueue => "oracle_queue",
            Self::ShortestDelay => "oracle_delay",
            Self::NaiveLeastLoad => "naive_least_load",
        }
    }

    /// Whether it sees what no balancer can.
    pub const fn is_oracle(self) -> bool {
        matches!(self, Self::ShortestQueue | Self::ShortestDelay)
    }

    /// The policy that runs in the registry for this rule.
    pub(crate) const fn policy(self) -> PolicyKind {
        match self {
            Self::Core(kind) => kind,
            _ => PolicyKind::Random,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A name that is no rule's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown rule {found:?}: expected oracle_queue, oracle_delay, naive_least_load or the name of a policy"
)]
pub struct UnknownRule {
    found: String,
}

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<Self, UnknownRule> {
        let yardstick = Self::YARDSTICKS.into_iter().find(|rule| rule.name() == text);
        yardstick
            .or_else(|| text.parse().ok().map(Self::Core))
            .ok_or_else(|| UnknownRule { found: text.chars().take(40).collect() })
    }
}
