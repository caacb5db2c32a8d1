//! The better of two drawn at random.
//!
//! Source: Mitzenmacher 2001, "The power of two choices in randomized load balancing". Better means the shorter expected delay
//! ([`super::delay`]). Many balancers can do it at once without agreeing on one victim, and a pick
//! costs the same among ten workers and a hundred thousand. Weakness: it leaves idle workers idle while both drawn ones are
//! busy, so with fresh loads it waits longer than `least_load`.

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
