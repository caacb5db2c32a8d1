//! The same worker for the same key, by a lookup table.
//!
//! Source: Eisenbud et al. 2016, "Maglev: A fast and reliable software network load balancer", with bounded loads
//! ([`super::affinity`]). Each worker has its own order of the table's places; in turns, more often for more capacity, each takes the
//! next free place of its order. A pick is one look. Shares are even to a percent. Weakness: when a worker comes or
//! goes, a few keys of others move, too (nearly all when the
//! fleet outgrows the table), and the whole table is built anew.

use fastrand::Rng;

use super::{
    Choice, Field, Pick, Reason,
    affinity::{Shares, hash, hash_of_key},
};
use crate::{estimator::Load, snapshot::Worker};

/// Sizes of the table, all prime; the least that has [`PLACES`] for each worker is taken. They lie far apart, since nearly all keys move
/// when a fleet outgrows one; the first is Maglev's own and holds 655 workers.
const SIZES: [usize; 3] = [65_537, 1_048_573, 16_777_213];

/// Places a worker should have at least: shares are then even to a percent.
const PLACES: usize = 100;

/// No worker.
const FREE: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Maglev {
    table: Box<[u32]>,
    shares: Shares,
}

/// A worker's order of the places.
struct Order {
    next: usize,
    skip: usize,
    /// Turns it is owed; it takes a place when it has one.
    credit: f64,
    weight: f64,
}

impl Maglev {
    pub(crate) fn new(workers: &[Worker]) -> Self {
        Self { table: fill(workers), shares: Shares::new(workers) }
    }
}

fn fill(workers: &[Worker]) -> Box<[u32]> {
    let enough = |size: &usize| *size >= workers.len() * PLACES;
    let size = SIZES.into_iter().find(enough).unwrap_or(SIZES[SIZES.len() - 1]);
    let mean = workers.iter().map(|worker| worker.weight).sum::<f64>() / workers.len() as f64;
    let place = |hash: u64, places: usize| {
        usize::try_from(hash % places as u64).expect("below a table's size")
    };
    let order = |worker: &Worker| {
        let id = worker.id.as_str().as_bytes();
        let (next, skip) = (place(hash(id, 1), size), 1 + place(hash(id, 2), size - 1));
        Order { next, skip, credit: 0.0, weight: worker.weight / mean }
    };
    let mut orders: Vec<_> = workers.iter().map(order).collect();
    let mut table = vec![FREE; size];
    let mut free = if workers.is_empty() { 0 } else { size };
    // A round gives out as many places as there are workers, so the rounds are few even beside one that is worth them all.
    while free > 0 {
        for (index, order) in (0..).zip(&mut orders) {
            order.credit += order.weight;
            while order.credit >= 1.0 && free > 0 {
                order.credit -= 1.0;
                while table[order.next] != FREE {
                    order.next = (order.next + order.skip) % size;
                }
                table[order.next] = index;
                free -= 1;
            }
        }
    }
    table.into()
}

impl Pick for Maglev {
    fn pick(&self, field: &Field<'_>, rng: &mut Rng) -> Option<Choice> {
        if field.workers().is_empty() {
            return None;
        }
        let key = hash_of_key(field, rng) % self.table.len() as u64;
        let start = usize::try_from(key).expect("below the table's size");
        let (before, after) = self.table.split_at(start);
        let mut first = None;
        for &index in after.iter().chain(before) {
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
