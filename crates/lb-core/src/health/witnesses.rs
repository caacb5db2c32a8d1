//! Who says what of a worker.
//!
//! A client can be wrong: its own network is broken, its deadlines are too short, or it lies. So one client alone puts nobody out
//! whom another finds well. A few of each side are remembered, since no more are asked for: a table of all clients for each worker
//! would be without a bound.

use std::time::Duration;

use crate::{id::ClientKey, time::Timestamp};

/// How long a word counts.
const FRESH: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
struct Witness {
    client: ClientKey,
    at: Timestamp,
}

/// The last two of one side.
#[derive(Debug, Default)]
struct Side([Option<Witness>; 2]);

impl Side {
    fn note(&mut self, client: ClientKey, at: Timestamp) {
        let [first, second] = &mut self.0;
        if second.is_some_and(|witness| witness.client == client) {
            std::mem::swap(first, second);
        } else if first.is_none_or(|witness| witness.client != client) {
            *second = *first;
        }
        *first = Some(Witness { client, at });
    }

    fn fresh(&self, now: Timestamp) -> impl Iterator<Item = ClientKey> {
        let is_fresh = move |witness: &&Witness| now.since(witness.at) <= FRESH;
        self.0.iter().flatten().filter(is_fresh).map(|witness| witness.client)
    }
}

/// Accusers and defenders of one worker.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    accusers: Side,
    defenders: Side,
}

impl Witnesses {
    /// A call of this client failed.
    pub(super) fn accuses(&mut self, client: ClientKey, at: Timestamp) {
        self.accusers.note(client, at);
    }

    /// A call of this client was answered.
    pub(super) fn defends(&mut self, client: ClientKey, at: Timestamp) {
        self.defenders.note(client, at);
    }

    /// `None`: those who accuse cannot be believed. Else whether they are several.
    pub(super) fn are_credible(&self, now: Timestamp) -> Option<bool> {
        let mut accusers = self.accusers.fresh(now);
        let accuser = accusers.next()?;
        if accusers.next().is_some() {
            return Some(true);
        }
        let contradicted = self.defenders.fresh(now).any(|defender| defender != accuser);
        (!contradicted).then_some(false)
    }

    /// Whether somebody was answered lately who does not complain.
    pub(super) fn are_content(&self, now: Timestamp) -> bool {
        self.defenders
            .fresh(now)
            .any(|defender| self.accusers.fresh(now).all(|accuser| accuser != defender))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::at(Duration::from_secs(seconds))
    }

    #[test]
    fn one_against_another_is_not_believed() {
        let mut witnesses = Witnesses::default();
        assert_eq!(witnesses.are_credible(at(0)), None);
        witnesses.accuses(ClientKey(1), at(0));
        witnesses.defends(ClientKey(1), at(0));
        assert_eq!(witnesses.are_credible(at(1)), Some(false), "it is the only one that calls");
        witnesses.defends(ClientKey(2), at(1));
        assert_eq!(witnesses.are_credible(at(1)), None);
        assert!(witnesses.are_content(at(1)));
        (0..100).for_each(|_| witnesses.accuses(ClientKey(1), at(2)));
        assert_eq!(witnesses.are_credible(at(2)), None, "however loud it is");
        witnesses.accuses(ClientKey(3), at(3));
        assert_eq!(witnesses.are_credible(at(3)), Some(true));
        witnesses.accuses(ClientKey(1), at(8));
        assert_eq!(witnesses.are_credible(at(14)), Some(false), "the others spoke long ago");
    }
}
