//! What a policy picks from.

use fastrand::Rng;

use crate::{
    estimator::Load,
    snapshot::{Roster, Wish, Worker},
};

/// What a picker sees: the list, and which of it may be picked.
pub(crate) struct Field<'a> {
    pub(crate) roster: &'a Roster,
    /// What the pick asks for. By reference: to copy it would cost more than to draw from the list.
    pub(crate) wish: &'a Wish<'a>,
}

impl Field<'_> {
    pub(super) fn workers(&self) -> &[Worker] {
        &self.roster.workers
    }

    pub(super) fn load(&self, index: usize) -> Load<'_> {
        self.roster.load(index)
    }

    pub(super) fn allows(&self, index: usize) -> bool {
        self.wish.eligible.is_none_or(|eligible| eligible(&self.workers()[index]))
    }

    pub(super) fn count_allowed(&self) -> usize {
        match self.wish.eligible {
            None => self.workers().len(),
            Some(eligible) => self.workers().iter().filter(|worker| eligible(worker)).count(),
        }
    }

    /// The place of the allowed worker that has `number` allowed ones before it.
    pub(super) fn nth_allowed(&self, number: usize) -> Option<usize> {
        match self.wish.eligible {
            None => (number < self.workers().len()).then_some(number),
            Some(_) => (0..self.workers().len()).filter(|&index| self.allows(index)).nth(number),
        }
    }

    /// One allowed place, each equally likely.
    pub(super) fn draw(&self, rng: &mut Rng) -> Option<usize> {
        if self.wish.eligible.is_none() {
            return (!self.workers().is_empty()).then(|| rng.usize(..self.workers().len()));
        }
        // Reservoir sampling of one: the k-th allowed place replaces the choice with chance 1/k.
        let allowed = (0..self.workers().len()).filter(|&index| self.allows(index));
        allowed.zip(1..).fold(
            None,
            |chosen, (index, found)| {
                if rng.usize(..found) == 0 { Some(index) } else { chosen }
            },
        )
    }

    /// Two allowed places, different if there are two.
    pub(super) fn draw_two(&self, rng: &mut Rng) -> Option<(usize, usize)> {
        if self.wish.eligible.is_some() {
            let mut drawn = [0; 2];
            return match self.sample(&mut drawn, rng) {
                0 => None,
                1 => Some((drawn[0], drawn[0])),
                _ => Some((drawn[0], drawn[1])),
            };
        }
        let one = self.draw(rng)?;
        let others = self.workers().len() - 1;
        let other = if others == 0 { one } else { one + 1 + rng.usize(..others) };
        Some((one, other % self.workers().len()))
    }

    /// Fills `drawn` with allowed places drawn at random. Returns how many there are: all, when they fit.
    pub(super) fn sample(&self, drawn: &mut [usize], rng: &mut Rng) -> usize {
        let count = self.workers().len();
        if self.wish.eligible.is_none() && count > drawn.len() {
            drawn.fill_with(|| rng.usize(..count));
            return drawn.len();
        }
        // Reservoir sampling: the k-th allowed place goes to a random seat of k, if the reservoir has it.
        let mut found = 0;
        for index in (0..count).filter(|&index| self.allows(index)) {
            let seat = if found < drawn.len() { found } else { rng.usize(..=found) };
            if let Some(seat) = drawn.get_mut(seat) {
                *seat = index;
            }
            found += 1;
        }
        found.min(drawn.len())
    }
}
