//! Which scores a pick brings up to date, besides that of the worker it picks.
//!
//! Expected calls fall while nobody looks, so a score that was right when it was written is too high soon. A fleet at work takes about as
//! many picks in a service time as it has busy slots: when picks renew a score each, every score is renewed about once in that
//! time, besides what reports and picks do. Scores are renewed a block at a time, by one pick for many: neighbours share cache lines, the
//! memory of one is fetched while another is worked out, and threads that pick meet seldom at the counter.

use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use fastrand::Rng;

use super::min_tree::FAN_OUT;

/// Scores renewed at a time: a node of the tree of least load.
pub(super) const BLOCK: usize = FAN_OUT;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Refresh {
    next: AtomicUsize,
    picks_per_block: usize,
}

impl Refresh {
    /// One pick of so many renews a block.
    pub(super) fn new(picks_per_block: usize) -> Self {
        Self { next: AtomicUsize::new(0), picks_per_block }
    }

    /// The places that this pick is to renew, of so many: mostly none, at times a block.
    pub(super) fn due(&self, count: usize, rng: &mut Rng) -> Range<usize> {
        // By chance and not by turns: threads would fight over a counter that every pick raises.
        if rng.usize(..self.picks_per_block) > 0 {
            return 0..0;
        }
        // Only a turn is taken, nothing else is published by it: Relaxed.
        let turn = self.next.fetch_add(1, Relaxed);
        let start = turn.checked_rem(count.div_ceil(BLOCK)).unwrap_or(0) * BLOCK;
        start..count.min(start + BLOCK)
    }
}
