//! Each worker in turn.
//!
//! Source: gRPC's `round_robin`. Over any window of picks on one list no worker gets more than one call
//! more than another. Weakness: it counts calls, not work; unequal workers or unequal tasks pile up on the slowest.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use fastrand::Rng;

use super::{Choice, Field, Pick, Reason};

/// The place in the round. It outlives a list of workers, so that a change of the list does not start
/// the round anew and favour whoever stands first.
#[derive(Debug, Clone, Default)]
pub struct Cursor(Arc<AtomicUsize>);

impl Cursor {
    /// The present place; the next caller gets the next one.
    pub(super) fn advance(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(crate) struct RoundRobin {
    cursor: Cursor,
}

impl RoundRobin {
    pub(crate) fn new(cursor: &Cursor) -> Self {
        Self { cursor: cursor.clone() }
    }
}

impl Pick for RoundRobin {
    fn pick(&self, field: &Field<'_>, _rng: &mut Rng) -> Option<Choice> {
        let turn = self.cursor.advance();
        let place = turn.checked_rem(field.count_allowed())?;
        // The place among the allowed ones: else whoever stands after a gap would get the gap's turns too.
        field.nth_allowed(place).map(|index| Choice { index, reason: Reason::Turn })
    }
}
