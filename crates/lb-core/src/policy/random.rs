//! Any worker, each equally likely.
//!
//! Needs no state, and is the yardstick for the others. Weakness: with n workers the busiest of n
//! calls has about ln n / ln ln n of them (Mitzenmacher 2001, "The power of two choices"),
//! and unequal workers are not told apart.

use fastrand::Rng;

use super::{Choice, Field, Pick, Reason};

#[derive(Debug)]
pub(crate) struct Random;

impl Pick for Random {
    fn pick(&self, field: &Field<'_>, rng: &mut Rng) -> Option<Choice> {
        field.draw(rng).map(|index| Choice { index, reason: Reason::Drawn })
    }
}
