//! Each worker in turn, in proportion to its capacity.
//!
//! Source: the static stride scheduler of gRPC's `weighted_round_robin` (gRFC A58). The turn goes round as in round robin; a
//! worker of weight `w` lets it pass in `max − w` of `max` rounds, spread evenly. The weight is slots times speed, as known when the
//! list was made. It needs no report to be fresh. Weakness: it sees no load; a burst of long calls on one worker
//! stays there, and a weight that has changed counts only in the next list.

use fastrand::Rng;

use super::{Choice, Cursor, Field, Pick, Reason};
use crate::snapshot::Worker;

/// What the largest weight is scaled to.
const TOP: u64 = u16::MAX as u64;

#[derive(Debug)]
pub(crate) struct WeightedRoundRobin {
    cursor: Cursor,
    /// 1 to [`TOP`].
    weights: Box<[u16]>,
}

impl WeightedRoundRobin {
    pub(crate) fn new(workers: &[Worker], cursor: &Cursor) -> Self {
        let top = workers.iter().map(|worker| worker.weight).fold(f64::MIN_POSITIVE, f64::max);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is clamped"
        )]
        let scale =
            |worker: &Worker| (worker.weight / top * TOP as f64).clamp(1.0, TOP as f64) as u16;
        Self { cursor: cursor.clone(), weights: workers.iter().map(scale).collect() }
    }

    /// Whether the worker at `index` takes the turn in this round.
    fn takes(&self, index: usize, round: u64) -> bool {
        let weight = u64::from(self.weights[index]);
        // Half a stride apart, so that neighbours of one weight do not pass in the same rounds.
        let phase = (index as u64).wrapping_mul(TOP / 2);
        weight.wrapping_mul(round).wrapping_add(phase) % TOP >= TOP - weight
    }
}

impl Pick for WeightedRoundRobin {
    fn pick(&self, field: &Field<'_>, _rng: &mut Rng) -> Option<Choice> {
        let count = field.workers().len();
        // The heaviest worker takes every turn, so among all workers one is found within a round.
        for _ in 0..count {
            let turn = self.cursor.advance();
            let index = turn % count;
            if self.takes(index, (turn / count) as u64) && field.allows(index) {
                return Some(Choice { index, reason: Reason::Turn });
            }
        }
        field.nth_allowed(0).map(|index| Choice { index, reason: Reason::Turn })
    }
}
