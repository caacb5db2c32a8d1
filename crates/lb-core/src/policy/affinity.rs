//! What policies that keep a key on its worker have in common: the hash, and a bound on how much a popular key may pile up.
//!
//! Source of the bound: Mirrokni, Thorup and Zadimoghaddam 2016, "Consistent hashing with bounded loads". No worker
//! takes more than [`BOUND`] of its share of all calls; what would exceed it goes to the next place.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use fastrand::Rng;

use super::Field;
use crate::{estimator::Load, snapshot::Worker};

/// How far above its share of the calls a worker may go.
const BOUND: f64 = 1.25;

/// Calls per worker as last heard, and their sum.
#[derive(Debug)]
pub(super) struct Shares {
    calls: Box<[AtomicU32]>,
    total: AtomicI64,
    capacity: f64,
}

impl Shares {
    pub(super) fn new(workers: &[Worker]) -> Self {
        let calls: Box<[AtomicU32]> =
            workers.iter().map(|worker| AtomicU32::new(worker.estimate())).collect();
        let total = calls.iter().map(|calls| i64::from(calls.load(Ordering::Relaxed))).sum();
        let capacity = workers.iter().map(|worker| worker.weight).sum();
        Self { calls, total: AtomicI64::new(total), capacity }
    }

    pub(super) fn changed(&self, index: usize, load: Load<'_>) {
        let now = load.counters.estimate();
        let before = self.calls[index].swap(now, Ordering::Relaxed);
        self.total.fetch_add(i64::from(now) - i64::from(before), Ordering::Relaxed);
    }

    /// Whether one more call stays within the worker's bound.
    pub(super) fn has_room(&self, index: usize, worker: &Worker) -> bool {
        let total = self.total.load(Ordering::Relaxed).max(0) + 1;
        let share = total as f64 * worker.weight / self.capacity;
        f64::from(self.calls[index].load(Ordering::Relaxed)) + 1.0 <= (share * BOUND).ceil()
    }
}

/// The hash of the key of a pick; of no key, any.
pub(super) fn hash_of_key(field: &Field<'_>, rng: &mut Rng) -> u64 {
    field.wish.affinity.map_or_else(|| rng.u64(..), |key| hash(key.as_bytes(), 0))
}

/// FNV-1a with the finalizer of `SplitMix64`. The same in every process and version: balancers agree without talking.
pub(super) fn hash(bytes: &[u8], salt: u64) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold);
    let hash = hash.wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
