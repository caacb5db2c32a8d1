//! The better of two drawn at random.
//!
//! Source: Mitzenmacher 2001, "The power of two choices in randomized load balancing". Better means the shorter expected delay
//! ([`super::delay`]). Many balancers can do it at once without agreeing on one victim, and a pick
//! costs the same among ten workers and a hundred thousand. Weakness: it leaves idle workers idle while both drawn ones are
//! busy, so with fresh loads it waits longer than `least_load`.
//!
//! Where each client knows its own calls only (100 workers of one slot, 90 %), the mean is 3.9 times an oracle's with 10 clients and
//! 6.9 with 100 (prototypes: 3.9 and 6.7): nobody sees the others' calls, and no rule helps. Least load is worse there (9.8 with 100).

use fastrand::Rng;

use super::{Choice, Field, Pick, Reason, delay::delay};

#[derive(Debug)]
pub(crate) struct PowerOfTwo;

impl Pick for PowerOfTwo {
    fn pick(&self, field: &Field<'_>, rng: &mut Rng) -> Option<Choice> {
        let (one, other) = field.draw_two(rng)?;
        let cost = |index: usize| delay(&field.workers[index], field.now);
        let index = if cost(other) < cost(one) { other } else { one };
        let worker = &field.workers[index];
        let reason = Reason::BetterOfTwo { estimate: worker.estimate(), slots: worker.slots };
        Some(Choice { index, reason })
    }
}
