//! The worker with the shortest expected wait.
//!
//! A new call on a worker with `estimate` calls and `weight` capacity (slots times speed) waits in
//! proportion to `(estimate + 1) / weight`; the least one wins, ties at random (join the shortest queue, Weber
//! 1978). The estimate is the balancer's own count between reports, see [`crate::estimator`]; without it, a
//! stale report sends everybody to the same worker. One pick in [`1 / EXPLORATION`](EXPLORATION) goes
//! anywhere, so that a worker that looks bad gets a chance to show otherwise.
//!
//! Weakness: it knows calls, not their length; and several balancers that do not know each other's picks
//! agree too well on who is best.
//!
//! Scores stand in a tree of minima beside the list ([`super::min_tree`]). A score in it may be out of date for a
//! moment: a picked worker's score is checked against its counters before it is used.

use std::sync::Arc;

use fastrand::Rng;

use super::{Choice, Field, Pick, Reason, min_tree::MinTree};
use crate::snapshot::Worker;

/// Share of picks that go to any worker.
pub const EXPLORATION: f32 = 0.03;

/// How often a pick looks again when it finds an outdated score. Each look repairs one, so more
/// than a few mean that others pick at the same time, and any of the candidates is as good.
const LOOKS: usize = 4;

#[derive(Debug)]
pub(crate) struct LeastLoad {
    scores: MinTree,
}

impl LeastLoad {
    pub(crate) fn new(workers: &[Arc<Worker>]) -> Self {
        Self { scores: MinTree::new(workers.iter().map(|worker| score(worker))) }
    }

    fn least(&self, workers: &[Arc<Worker>], rng: &mut Rng) -> Option<usize> {
        let mut index = self.scores.least(rng)?;
        for _ in 1..LOOKS {
            if !self.scores.set(index, score(&workers[index])) {
                break;
            }
            index = self.scores.least(rng)?;
        }
        Some(index)
    }
}

impl Pick for LeastLoad {
    fn pick(&self, field: &Field<'_>, rng: &mut Rng) -> Option<Choice> {
        if rng.f32() < EXPLORATION {
            return field.draw(rng).map(|index| Choice { index, reason: Reason::Explored });
        }
        let index = match field.eligible {
            None => self.least(field.workers, rng)?,
            Some(_) => least_allowed(field, rng)?,
        };
        let worker = &field.workers[index];
        let reason = Reason::LeastLoad { estimate: worker.estimate(), slots: worker.slots };
        Some(Choice { index, reason })
    }

    fn load_changed(&self, index: usize, worker: &Worker) {
        self.scores.set(index, score(worker));
    }
}

/// Expected wait in units of one call on one slot, as bits that order like the number: the sign is plus.
fn score(worker: &Worker) -> u32 {
    let wait = (f64::from(worker.estimate()) + 1.0) / worker.weight;
    #[expect(clippy::cast_possible_truncation, reason = "a score only needs to order workers")]
    let wait = wait as f32;
    wait.to_bits()
}

/// The slow way, for picks that exclude workers or require labels.
fn least_allowed(field: &Field<'_>, rng: &mut Rng) -> Option<usize> {
    let mut best: Option<(u32, usize)> = None;
    let mut ties = 0;
    for index in (0..field.workers.len()).filter(|&index| field.allows(index)) {
        let score = score(&field.workers[index]);
        match best {
            Some((least, _)) if score > least => continue,
            Some((least, _)) if score == least => ties += 1,
            _ => ties = 1,
        }
        if rng.usize(..ties) == 0 {
            best = Some((score, index));
        }
    }
    best.map(|(_, index)| index)
}
