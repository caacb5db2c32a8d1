//! The better of two drawn at random.
//!
//! Source: Mitzenmacher 2001, "The power of two choices in randomized load balancing". Better means the shorter expected delay
//! ([`super::delay`]). Many balancers can do it at once without agreeing on one victim, and a pick
//! costs the same among ten workers and a hundred thousand. Weakness: it leaves idle workers idle while both drawn ones are
//! busy, so with fresh loads it waits longer than `least_load`.
//!
//! Where each client knows its own calls only (100 workers of one slot, 90 %), the mean is 4.0 times an oracle's with 10 clients and
//! 6.6 with 100 (prototypes: 3.9 and 6.7): nobody sees the others' calls. Least load is
//! worse there (30 with 100), since all clients agree on who is best.
//!
//! The scores of all stand in one column, so that only the memory of the worker that is picked is touched; picks and reports
//! write to it, and picks renew it in turn ([`super::refresh`]).

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use fastrand::Rng;

use super::{
    Choice, Field, Pick, Reason,
    delay::score,
    refresh::{BLOCK, Refresh},
};
use crate::{estimator::Load, snapshot::Roster, time::Timestamp};

/// A pick renews half a score. Two choices do not hang on the last percent of one score: a whole one changed no result by more than chance.
const PICKS_PER_BLOCK: usize = 2 * BLOCK;

#[derive(Debug)]
pub(crate) struct PowerOfTwo {
    /// Each stands for itself and may be a little late, so no order among them is needed: Relaxed.
    scores: Box<[AtomicU32]>,
    refresh: Refresh,
}

impl PowerOfTwo {
    pub(crate) fn new(roster: &Roster, now: Timestamp) -> Self {
        let scores = (0..roster.workers.len()).map(|index| {
            let load = roster.load(index);
            AtomicU32::new(score(load, load.expected_calls(now)))
        });
        Self { scores: scores.collect(), refresh: Refresh::new(PICKS_PER_BLOCK) }
    }
}

impl Pick for PowerOfTwo {
    #[inline]
    fn pick(&self, field: &Field<'_>, rng: &mut Rng) -> Option<Choice> {
        for index in self.refresh.due(self.scores.len(), rng) {
            let load = field.load(index);
            self.load_changed(index, load, load.expected_calls(field.wish.now));
        }
        let (one, other) = field.draw_two(rng)?;
        let score = |index: usize| self.scores[index].load(Relaxed);
        let index = if score(other) < score(one) { other } else { one };
        let Load { counters, slots } = field.load(index);
        let reason = Reason::BetterOfTwo { estimate: counters.estimate(), slots };
        Some(Choice { index, reason })
    }

    #[inline]
    fn load_changed(&self, index: usize, load: Load<'_>, calls: f64) {
        let score = score(load, calls);
        // A line that nobody writes stays in the cache of every thread.
        if self.scores[index].load(Relaxed) != score {
            self.scores[index].store(score, Relaxed);
        }
    }
}
