//! The fastest of those that are not crowded.
//!
//! Source: Wydrowski, Kleinberg, Rumble and Archer 2024, "Load is not what you should balance: Introducing Prequal". From a
//! pool of [`POOL`] workers drawn at random, those with more calls per slot than 84 % of the pool (`Q_RIF`, [`COLD_PERCENT`]) are hot. Among the cold ones the
//! lowest expected latency wins ([`super::delay`], where Prequal asks the worker); if all are hot, the fewest calls win (hot–cold lexicographic).
//! On 100 workers of one slot at 90 % its p99 is 1.2, 1.4, 2.2 times an oracle's with a report every 0.1, 1, 10 service times: the counts
//! between reports are the balancer's own, and sixteen are looked at.
//! Weakness: it looks at a part of the fleet only, and pays for the pool with every pick. The latency must
//! contain the wait: with the bare speed of a worker in its place, the fastest by a hair drew all calls until it was hot, and so
//! made hot mean ever more.

use fastrand::Rng;

use super::{Choice, Field, Pick, Reason, delay::delay};
use crate::estimator::Load;

/// Workers looked at, as many as Prequal keeps probes.
const POOL: usize = 16;

/// How many of 100 workers are cold: Prequal's `Q_RIF`.
const COLD_PERCENT: usize = 84;

#[derive(Debug)]
pub(crate) struct Prequal;

impl Pick for Prequal {
    fn pick(&self, field: &Field<'_>, rng: &mut Rng) -> Option<Choice> {
        let mut drawn = [0; POOL];
        let count = field.sample(&mut drawn, rng);
        let pool = &drawn[..count];
        let crowd = |index: usize| crowd(field.load(index), field);
        let mut crowds = [0.0; POOL];
        for (slot, &index) in crowds.iter_mut().zip(pool) {
            *slot = crowd(index);
        }
        crowds[..count].sort_unstable_by(f64::total_cmp);
        let threshold = *crowds.get((COLD_PERCENT * count / 100).min(count.checked_sub(1)?))?;
        let rank = |index: usize| {
            let crowd = crowd(index);
            let latency =
                delay(field.load(index), field.load(index).expected_calls(field.wish.now));
            // Cold before hot; then latency, and calls among equally fast ones; hot by calls alone.
            if crowd <= threshold { (false, latency, crowd) } else { (true, crowd, latency) }
        };
        let order = |a: &(bool, f64, f64), b: &(bool, f64, f64)| {
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2))
        };
        let ranked = pool.iter().map(|&index| (rank(index), index));
        let (rank, index) = ranked.min_by(|(a, _), (b, _)| order(a, b))?;
        let reason = if rank.0 { Reason::LeastCrowded } else { Reason::Cold };
        Some(Choice { index, reason })
    }
}

fn crowd(load: Load<'_>, field: &Field<'_>) -> f64 {
    load.expected_calls(field.wish.now) / f64::from(load.slots)
}
