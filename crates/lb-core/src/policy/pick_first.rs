//! Always the first worker in the order of ids.
//!
//! Source: gRPC's `pick_first` (`grpc/doc/load-balancing.md`). Good for a main worker with stand-ins.
//! Weakness: it does not balance; all others idle until the first one leaves.

use fastrand::Rng;

use super::{Choice, Field, Pick, Reason};

#[derive(Debug)]
pub(crate) struct PickFirst;

impl Pick for PickFirst {
    fn pick(&self, field: &Field<'_>, _rng: &mut Rng) -> Option<Choice> {
        field.nth_allowed(0).map(|index| Choice { index, reason: Reason::First })
    }
}
