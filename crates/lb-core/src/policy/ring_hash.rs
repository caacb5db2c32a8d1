//! The same worker for the same key, by a ring of hashes.
//!
//! Source: Karger et al. 1997, "Consistent hashing and random trees", with bounded loads ([`super::affinity`]). Each worker
//! stands on the ring at points in proportion to its capacity; a key goes to the next point. A worker that comes or goes moves only the
//! keys next to its points. Weakness: shares differ by about a tenth with [`POINTS`] points, and the ring is large;
//! `maglev` is even and faster, but moves a few more keys.

use fastrand::Rng;

use super::{
    Choice, Field, Pick, Reason,
    affinity::{Shares, hash, hash_of_key},
};
use crate::{estimator::Load, snapshot::Worker};

/// Points of a worker of mean capacity: shares of the keys then differ by 1 in √100.
const POINTS: f64 = 100.0;

/// Most points of one worker.
const POINT_LIMIT: u64 = 1_000;

#[derive(Debug)]
pub(crate) struct RingHash {
    /// Hash and worker, in the order of hashes.
    ring: Box<[(u64, u32)]>,
    shares: Shares,
}

impl RingHash {
    pub(crate) fn new(workers: &[Worker]) -> Self {
        let capacity: f64 = workers.iter().map(|worker| worker.weight).sum();
        let mean = capacity / workers.len() as f64;
        let mut ring = Vec::new();
        for (index, worker) in (0..).zip(workers) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is clamped"
            )]
            let points = ((worker.weight / mean * POINTS) as u64).clamp(1, POINT_LIMIT);
            let id = worker.id.as_str().as_bytes();
            ring.extend((1..=points).map(|point| (hash(id, point), index)));
        }
        ring.sort_unstable();
        Self { ring: ring.into(), shares: Shares::new(workers) }
    }
}

impl Pick for RingHash {
    fn pick(&self, field: &Field<'_>, rng: &mut Rng) -> Option<Choice> {
        let key = hash_of_key(field, rng);
        let start = self.ring.partition_point(|(point, _)| *point < key);
        let (before, after) = self.ring.split_at(start);
        let mut first = None;
        for &(_, index) in after.iter().chain(before) {
            let index = index as usize;
            if !field.allows(index) {
                continue;
            }
            let home = *first.get_or_insert(index);
            if self.shares.has_room(index, &field.workers()[index]) {
                let reason = if index == home { Reason::Affinity } else { Reason::Overflow };
                return Some(Choice { index, reason });
            }
        }
        first.map(|index| Choice { index, reason: Reason::Affinity })
    }

    fn load_changed(&self, index: usize, load: Load<'_>, _calls: f64) {
        self.shares.changed(index, load);
    }
}
