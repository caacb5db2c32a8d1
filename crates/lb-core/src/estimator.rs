//! How many calls are inside a worker, between its reports.
//!
//! A report is old the moment it is sent. What has happened since is known to the balancer itself:
//! it issued the picks. So the estimate is exact counting, not smoothing:
//!
//! ```text
//! estimate = calls of others, by the last report
//!          + tokens issued − tokens settled            (for each class of token)
//! settled  = max(done by the report, closed by outcomes) + returned unsent + expired
//! ```
//!
//! A token counts from the moment it is issued, wherever it is: on its way, queued or running. It
//! stops counting when either side says that the call has ended, when the client gives it back
//! unsent, or when nobody has seen it for a lease ([`LEASE`]). No call is counted twice, since the
//! report's own calls in flight are taken out of "others" by the very tokens that count them.
//!
//! That is exact where every end is told, by an outcome or by a report that follows the change. Where reports are older than that,
//! [`Counters::expected_calls`] takes off what has likely ended since ([`drain`]), and how likely follows from the
//! speed of the worker, which is learned ([`pace`]).
//!
//! The picking side and the owner share [`Counters`]; everything else, the [`Ledger`], belongs to the
//! owner alone. A pick adds one to a counter and never waits; a report stores one number.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

mod curve;
mod drain;
mod number;
mod pace;

pub use pace::FleetPace;

use {drain::Drain, number::AtomicNumber, pace::Pace};

use crate::{
    load::{LoadReport, TokenCounts},
    time::Timestamp,
    token::TokenClass,
};

/// How long a pick may take to reach its worker before it counts as lost. Well above any
/// delay a client that means to call leaves between pick and call.
pub const LEASE: Duration = Duration::from_secs(2);

/// How many past readings of the issue counter are kept to know what is older than a lease.
const READINGS: usize = 8;

/// The counters that picks raise and the owner corrects, without waiting for each other.
#[derive(Debug, Default)]
pub struct Counters {
    issued_picked: AtomicU64,
    issued_session: AtomicU64,
    /// Calls of others minus settled tokens; written by the owner only.
    correction: AtomicI64,
    /// Settled tokens of sessions; written by the owner only.
    session_settled: AtomicU64,
    /// As [`Counters::speed`]; 0 while unknown.
    speed: AtomicNumber,
    drain: Drain,
}

impl Counters {
    /// Counts one pick and returns its sequence, from 1.
    /// A second choice is not counted here: the worker's report will tell if it was used.
    pub fn issue(&self, class: TokenClass) -> u64 {
        match class {
            TokenClass::Picked => self.issued_picked.fetch_add(1, Ordering::AcqRel) + 1,
            TokenClass::Session => self.issued_session.fetch_add(1, Ordering::AcqRel) + 1,
            TokenClass::Second => 0,
        }
    }

    /// Calls inside the worker and on their way to it.
    pub fn estimate(&self) -> u32 {
        let balance = i64::try_from(self.issued()).unwrap_or(i64::MAX)
            + self.correction.load(Ordering::Acquire);
        u32::try_from(balance.max(0)).unwrap_or(u32::MAX)
    }

    /// Calls of sessions that have not ended, wherever they are.
    fn session_open(&self) -> u32 {
        let issued = self.issued_session.load(Ordering::Acquire);
        let open = issued.saturating_sub(self.session_settled.load(Ordering::Acquire));
        u32::try_from(open).unwrap_or(u32::MAX)
    }

    /// How fast the worker is, as far as is known: 1 is the fleet's mean, 2 takes half the time for a call.
    pub fn speed(&self) -> f64 {
        let speed = self.speed.load();
        if speed > 0.0 { speed } else { 1.0 }
    }

    /// Picks issued in all.
    pub fn issued(&self) -> u64 {
        self.issued_picked.load(Ordering::Acquire) + self.issued_session.load(Ordering::Acquire)
    }
}

/// What the balancer has learned of the tokens of one class.
#[derive(Debug, Default)]
struct ClassLedger {
    reported: TokenCounts,
    /// Ended, as clients said.
    closed: u64,
    /// Given back unsent.
    returned: u64,
    /// Not seen by anyone for a lease.
    expired: u64,
    /// Readings of the issue counter, oldest first.
    readings: VecDeque<(Timestamp, u64)>,
}

impl ClassLedger {
    /// Takes a report's counts. A token that nobody issued (forged, or of a lost balancer) is not counted.
    fn report(&mut self, counts: TokenCounts, issued: u64) {
        self.reported =
            TokenCounts { seen: counts.seen.min(issued), done: counts.done.min(issued) };
        self.forgive(issued);
    }

    fn outcomes(&mut self, sent: bool, count: u64, issued: u64) {
        let room = issued.saturating_sub(self.closed + self.returned);
        let ended = if sent { &mut self.closed } else { &mut self.returned };
        *ended += count.min(room);
        self.forgive(issued);
    }

    /// Expires what was issued before `now − LEASE` and has not been seen since.
    fn expire(&mut self, now: Timestamp, issued: u64) {
        let older_than_lease = |(at, _): &&(Timestamp, u64)| now.since(*at) >= LEASE;
        if let Some((_, issued_then)) = self.readings.iter().rev().find(older_than_lease) {
            let accounted = self.arrived() + self.returned + self.expired;
            self.expired += issued_then.saturating_sub(accounted);
        }
        let spacing = LEASE / u32::try_from(READINGS - 2).expect("a small constant");
        if self.readings.back().is_none_or(|(at, _)| now.since(*at) >= spacing) {
            self.readings.push_back((now, issued));
            if self.readings.len() > READINGS {
                self.readings.pop_front();
            }
        }
    }

    /// A token that arrives after it expired was not lost after all.
    fn forgive(&mut self, issued: u64) {
        let room = issued.saturating_sub(self.arrived() + self.returned);
        self.expired = self.expired.min(room);
    }

    fn arrived(&self) -> u64 {
        self.reported.seen.max(self.closed)
    }

    /// Tokens that no longer count.
    fn settled(&self, issued: u64) -> u64 {
        let settled = self.reported.done.max(self.closed) + self.returned + self.expired;
        settled.min(issued)
    }

    /// Tokens that the worker will have seen when all have arrived.
    fn expected(&self, issued: u64) -> u64 {
        issued.saturating_sub(self.returned + self.expired)
    }
}

/// How many calls a draining worker should wait for; see `DrainAck` in `registry.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Of class [`TokenClass::Picked`].
    pub picked: u64,
    /// Of class [`TokenClass::Session`].
    pub session: u64,
}

/// The owner's half of the estimate of one worker.
#[derive(Debug, Default)]
pub struct Ledger {
    picked: ClassLedger,
    session: ClassLedger,
    /// Calls in the worker that carry none of our tokens, by the last report.
    others: u32,
    pace: Pace,
}

impl Ledger {
    /// Takes a worker's report.
    pub fn report(&mut self, report: &LoadReport, counters: &Counters) {
        let open =
            |counts: TokenCounts| u32::try_from(counts.seen - counts.done).unwrap_or(u32::MAX);
        let ours = open(report.picked).saturating_add(open(report.session));
        self.others = report.in_flight.saturating_sub(ours);
        self.picked.report(report.picked, counters.issued_picked.load(Ordering::Acquire));
        self.session.report(report.session, counters.issued_session.load(Ordering::Acquire));
        self.correct(counters);
    }

    /// Learns from a report that has been taken, and expects from now on what it says.
    pub fn learn(
        &mut self,
        report: &LoadReport,
        seen_before: u64,
        fleet: &mut FleetPace,
        now: Timestamp,
        counters: &Counters,
    ) {
        if let Some(learned) = self.pace.learn(report, fleet) {
            counters.set_service(learned.service);
            counters.speed.store(learned.speed);
        }
        let seen = report.picked.seen.saturating_add(report.session.seen);
        let all_seen = seen >= counters.issued();
        counters.restart_drain(report.slots(), now, seen > seen_before, all_seen);
    }

    /// Takes the end of `count` calls picked over sessions. `sent` is false if they never left the client.
    pub fn outcomes(&mut self, sent: bool, count: u64, counters: &Counters) {
        self.session.outcomes(sent, count, counters.issued_session.load(Ordering::Acquire));
        self.correct(counters);
    }

    /// Lets picks expire that nobody has claimed for a [`LEASE`]. Call several times in a lease.
    pub fn expire(&mut self, now: Timestamp, counters: &Counters) {
        self.picked.expire(now, counters.issued_picked.load(Ordering::Acquire));
        self.session.expire(now, counters.issued_session.load(Ordering::Acquire));
        self.correct(counters);
    }

    /// The worker has left: the fleet's pace no longer counts what it runs.
    pub fn leave(&self, fleet: &mut FleetPace) {
        self.pace.leave(fleet);
    }

    /// How many calls can still reach the worker, in all.
    pub fn expected(&self, counters: &Counters) -> Expected {
        Expected {
            picked: self.picked.expected(counters.issued_picked.load(Ordering::Acquire)),
            session: self.session.expected(counters.issued_session.load(Ordering::Acquire)),
        }
    }

    fn correct(&self, counters: &Counters) {
        let session = self.session.settled(counters.issued_session.load(Ordering::Acquire));
        let picked = self.picked.settled(counters.issued_picked.load(Ordering::Acquire));
        let settled = i64::try_from(picked + session).unwrap_or(i64::MAX);
        counters.session_settled.store(session, Ordering::Release);
        counters.correction.store(i64::from(self.others) - settled, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
