//! Where the counters of all workers stand.
//!
//! Picks touch the counters of workers drawn from the whole fleet, so what a pick costs in a large fleet is how far apart these lie.
//! Here they stand side by side, in blocks that stay where they are: a list of workers finds the counters of
//! one by a small number, not through the worker. The numbers are given out and taken back by the owner alone.

use std::{collections::VecDeque, ops::Deref, sync::Arc};

use super::Counters;
use crate::time::Timestamp;

/// Counters in a block: enough that a hundred thousand workers need few blocks, few enough for a fleet of one.
const BLOCK: usize = 256;

/// How many seats that are given back are looked at for one that nobody uses any more. Old lists
/// hold theirs; a few looks find one unless nearly all are held.
const LOOKS: usize = 4;

/// A worker's counters, for as long as anybody holds this.
#[derive(Debug)]
pub struct Seat {
    block: Arc<[Counters]>,
    number: u32,
}

impl Seat {
    /// By which [`Blocks`] find the counters.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Deref for Seat {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        &self.block[self.number as usize % BLOCK]
    }
}

/// The owner's book of seats.
#[derive(Debug, Default)]
pub struct Bank {
    blocks: Vec<Arc<[Counters]>>,
    /// Seats ever given out.
    given: u32,
    /// Given back by the owner; lists that still show the worker may hold them.
    returned: VecDeque<Arc<Seat>>,
}

impl Bank {
    /// Counters at zero, that nobody else has.
    pub fn take(&mut self) -> Arc<Seat> {
        for _ in 0..self.returned.len().min(LOOKS) {
            let Some(mut seat) = self.returned.pop_front() else { break };
            // The last one to hold it sees all that others did with it before they let it go.
            if Arc::get_mut(&mut seat).is_some() {
                seat.clear();
                return seat;
            }
            self.returned.push_back(seat);
        }
        let number = self.given;
        if number as usize / BLOCK == self.blocks.len() {
            self.blocks.push((0..BLOCK).map(|_| Counters::default()).collect());
        }
        self.given += 1;
        let block = Arc::clone(&self.blocks[number as usize / BLOCK]);
        Arc::new(Seat { block, number })
    }

    /// The worker has left. Its counters get another owner when no list shows it any more.
    pub fn give_back(&mut self, seat: Arc<Seat>) {
        self.returned.push_back(seat);
    }
}

/// The blocks in which the workers of a list have their counters.
#[derive(Debug, Default)]
pub struct Blocks(Vec<Arc<[Counters]>>);

impl Blocks {
    /// The counters of the seat of this number, which is one of those that the blocks were collected from.
    pub fn counters(&self, seat: u32) -> &Counters {
        let seat = seat as usize;
        &self.0[seat / BLOCK][seat % BLOCK]
    }
}

impl<'a> FromIterator<&'a Seat> for Blocks {
    fn from_iter<Seats: IntoIterator<Item = &'a Seat>>(seats: Seats) -> Self {
        let mut blocks: Vec<Arc<[Counters]>> = Vec::new();
        for seat in seats {
            let place = seat.number as usize / BLOCK;
            if place >= blocks.len() {
                blocks.resize_with(place + 1, Arc::default);
            }
            if blocks[place].is_empty() {
                blocks[place] = Arc::clone(&seat.block);
            }
        }
        Self(blocks)
    }
}

/// What a pick reads of a worker, and counts in.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// Its counters.
    pub counters: &'a Counters,
    /// Calls it runs at once.
    pub slots: u16,
}

impl Load<'_> {
    /// Calls expected inside the worker and on their way to it.
    pub fn expected_calls(&self, now: Timestamp) -> f64 {
        self.counters.expected_calls(self.slots, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenClass;

    #[test]
    fn a_seat_is_given_anew_only_when_nobody_holds_it() {
        let mut bank = Bank::default();
        let seat = bank.take();
        seat.issue(TokenClass::Picked);
        let held = Arc::clone(&seat);
        bank.give_back(seat);
        let other = bank.take();
        assert_ne!(other.number, held.number);
        held.issue(TokenClass::Picked);
        assert_eq!(other.estimate(), 0);
        let number = held.number;
        drop(held);
        let again = bank.take();
        assert_eq!(again.number, number);
        assert_eq!(again.estimate(), 0, "what the worker before had is forgotten");
    }

    #[test]
    fn a_list_finds_the_counters_of_its_workers() {
        let mut bank = Bank::default();
        let seats: Vec<_> = (0..3 * BLOCK).map(|_| bank.take()).collect();
        let listed: Vec<_> = seats.iter().rev().step_by(100).collect();
        let blocks: Blocks = listed.iter().map(|seat| &***seat).collect();
        assert!(
            listed
                .iter()
                .all(|seat| std::ptr::eq(blocks.counters(seat.number()), &raw const ****seat))
        );
    }
}
