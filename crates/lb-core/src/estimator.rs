//! How many calls are inside a worker, between its reports.
//!
//! A report is old the moment it is sent. What has happened since is known to the balancer itself:
//! it issued the picks. So the estimate is exact counting, not smoothing:
//!
//! ```text
//! estimate = calls of others, by the last report
//!          + tokens issued − tokens settled            (for each class of token)
//! settled  = done by the report + expired                      for class `Picked`
//!          = max(done by the report, closed) + returned        for class `Session`
//! ```
//!
//! A token counts from the moment it is issued, wherever it is: on its way, queued or running. No call is counted
//! twice, since the report's own calls in flight are taken out of "others" by the very tokens that count them.
//!
//! It stops counting when its end is known. Of a unary pick only the worker can tell; one that nobody claims
//! expires after a lease ([`LEASE`]). Arrivals of the last lease can stand in for a lost pick, so on a
//! worker that is picked all the time a lost pick is noticed when picks pause, or when the lost outnumber the arrivals.
//! Of a session's pick the client tells as well, and sooner; or that it was never sent (returned). When a session ends with picks
//! open, they become orphans: they count until the worker's reports show that they cannot be there any more.
//!
//! A worker that stands beside its service ([`LoadReport::measured`]) sees no tokens. Then everything that is out by the balancer's own
//! count is taken out of the measured number, so the estimate is the larger of the two; a unary pick counts until its lease is over.
//!
//! A call that failed counts for longer than it takes (`held`), so that failing fast makes no worker look free.
//!
//! That is exact where every end is told, by an outcome or by a report that follows the change. Where reports are older than that,
//! [`Counters::expected_calls`] takes off what has likely ended since (`drain`), and how likely follows from the
//! speed of the worker, which is learned (`pace`).
//!
//! The picking side and the owner share [`Counters`]; everything else, the [`Ledger`], belongs to the
//! owner alone. A pick adds one to a counter and never waits; a report stores one number.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

mod bank;
mod curve;
mod drain;
mod held;
mod number;
mod pace;

pub use {
    bank::{Bank, Blocks, Load, Seat},
    pace::FleetPace,
};

use {drain::Drain, held::Held, pace::Pace};

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
///
/// They fill one cache line: in a large fleet nearly every worker that is looked at is a miss of the cache. And no
/// two workers share a line, so threads that pick different workers do not disturb each other.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counters {
    issued_picked: AtomicU64,
    issued_session: AtomicU64,
    /// Calls of others minus settled tokens, modulo 2³², as is enough for a difference; written by the owner only.
    correction: AtomicU32,
    /// Settled tokens of sessions minus failed calls that still count, modulo 2³²; written by the owner only.
    session_settled: AtomicU32,
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
        difference(self.issued(), self.correction.load(Ordering::Acquire).wrapping_neg())
    }

    /// Calls whose end somebody tells: of sessions, wherever they are, and those that failed and still count.
    fn session_open(&self) -> u32 {
        let issued = self.issued_session.load(Ordering::Acquire);
        difference(issued, self.session_settled.load(Ordering::Acquire))
    }

    /// How fast the worker is, as far as is known: 1 is the fleet's mean, 2 takes half the time for a call.
    pub fn speed(&self) -> f64 {
        let speed = self.drain.speed.load();
        if speed > 0.0 { speed } else { 1.0 }
    }

    /// As if nothing had ever been counted. For the owner, while nobody else knows the counters.
    fn clear(&self) {
        let Self { issued_picked, issued_session, correction, session_settled, drain } = self;
        for count in [issued_picked, issued_session] {
            count.store(0, Ordering::Relaxed);
        }
        for count in [correction, session_settled] {
            count.store(0, Ordering::Relaxed);
        }
        drain.clear();
    }

    /// Picks issued in all.
    pub fn issued(&self) -> u64 {
        self.issued_picked.load(Ordering::Acquire) + self.issued_session.load(Ordering::Acquire)
    }
}

/// Most calls of others that are believed: the estimate stays a number of 31 bits.
const MOST_CALLS: u32 = i32::MAX as u32 / 2;

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn low_half(count: u64) -> u32 {
    count as u32
}

/// How far `count` is above `other`, which is known modulo 2³²; 0 if it is below. They are no further apart than 2³¹.
fn difference(count: u64, other: u32) -> u32 {
    let difference = low_half(count).wrapping_sub(other).cast_signed();
    difference.max(0).cast_unsigned()
}

/// A worker's counts of one class of token, without tokens that nobody issued.
///
/// A token used twice, or forged, is seen and was not issued. Such calls are real work, but nobody's pick: they
/// are taken out here, and so count among the calls of others.
#[derive(Debug, Default)]
struct Arrivals {
    surplus: u64,
    counts: TokenCounts,
}

impl Arrivals {
    fn report(&mut self, reported: TokenCounts, issued: u64) {
        self.surplus = self.surplus.max(reported.seen.saturating_sub(issued));
        let seen = reported.seen.saturating_sub(self.surplus);
        let done = reported.done.saturating_sub(self.surplus).min(seen);
        self.counts = TokenCounts { seen, done };
    }

    fn running(&self) -> u64 {
        self.counts.seen - self.counts.done
    }
}

/// What is known of the tokens that the unary `Pick` issued.
#[derive(Debug, Default)]
struct PickedLedger {
    arrivals: Arrivals,
    reported_at: Timestamp,
    /// Not seen by anyone for a lease.
    expired: u64,
    /// Readings of the issue counter, oldest first.
    readings: VecDeque<(Timestamp, u64)>,
}

impl PickedLedger {
    fn report(&mut self, reported: TokenCounts, now: Timestamp, issued: u64) {
        self.arrivals.report(reported, issued);
        self.reported_at = now;
        // A token that arrives after it expired was not lost after all.
        self.expired = self.expired.min(issued.saturating_sub(self.arrivals.counts.seen));
    }

    /// Expires what was issued a lease before the last report and is not in it. A worker need not tell of an arrival before its next
    /// heartbeat, so what was issued later may be there.
    fn expire(&mut self, now: Timestamp, issued: u64) {
        let reported_at = self.reported_at;
        let older_than_lease = |(at, _): &&(Timestamp, u64)| reported_at.since(*at) >= LEASE;
        if let Some((_, issued_then)) = self.readings.iter().rev().find(older_than_lease) {
            let accounted = self.arrivals.counts.seen + self.expired;
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

    fn settled(&self) -> u64 {
        self.arrivals.counts.done + self.expired
    }
}

/// Open picks of sessions that have ended.
#[derive(Debug)]
struct Orphans {
    count: u64,
    /// When the last of these sessions ended.
    since: Timestamp,
    /// Tokens issued at that time: once as many have ended, the orphans are among them.
    issued: u64,
}

/// What is known of the tokens that sessions issued.
#[derive(Debug, Default)]
struct SessionLedger {
    arrivals: Arrivals,
    /// Ended, as clients said, or as can be concluded of orphans.
    closed: u64,
    /// Given back unsent.
    returned: u64,
    orphans: Option<Orphans>,
}

impl SessionLedger {
    fn report(&mut self, reported: TokenCounts, now: Timestamp, issued: u64) {
        self.arrivals.report(reported, issued);
        let Some(orphans) = &mut self.orphans else { return };
        let left = if self.arrivals.counts.done >= orphans.issued {
            0
        } else if now.since(orphans.since) >= LEASE {
            // Each has arrived or is lost by now, so no more can be left than run.
            orphans.count.min(self.arrivals.running())
        } else {
            return;
        };
        self.closed += orphans.count - left;
        orphans.count = left;
        if left == 0 {
            self.orphans = None;
        }
    }

    fn outcomes(&mut self, sent: bool, count: u64, issued: u64) {
        let orphans = self.orphans.as_ref().map_or(0, |orphans| orphans.count);
        let room = issued.saturating_sub(self.closed + self.returned + orphans);
        let ended = if sent { &mut self.closed } else { &mut self.returned };
        *ended += count.min(room);
    }

    fn abandoned(&mut self, count: u64, now: Timestamp, issued: u64) {
        let before = self.orphans.as_ref().map_or(0, |orphans| orphans.count);
        let room = issued.saturating_sub(self.closed + self.returned + before);
        let count = before + count.min(room);
        if count > 0 {
            self.orphans = Some(Orphans { count, since: now, issued });
        }
    }

    fn settled(&self, issued: u64) -> u64 {
        let settled = self.arrivals.counts.done.max(self.closed) + self.returned;
        settled.min(issued)
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
    picked: PickedLedger,
    session: SessionLedger,
    /// Calls in the worker that carry none of our tokens, by the last report.
    others: u32,
    held: Held,
    pace: Pace,
}

impl Ledger {
    /// Takes a worker's report.
    pub fn report(&mut self, report: &LoadReport, now: Timestamp, counters: &Counters) {
        self.held.release(now);
        self.picked.report(report.picked, now, counters.issued_picked.load(Ordering::Acquire));
        self.session.report(report.session, now, counters.issued_session.load(Ordering::Acquire));
        let ours = if report.is_measured() {
            self.open(counters)
        } else {
            self.picked.arrivals.running() + self.session.arrivals.running()
        };
        self.others = report.in_flight.saturating_sub(u32::try_from(ours).unwrap_or(u32::MAX));
        self.correct(counters);
    }

    /// Learns from a report that has been taken, and expects from now on what it says. The worker may tell what has
    /// changed since when `interval` is over.
    pub fn learn(
        &mut self,
        report: &LoadReport,
        fleet: &mut FleetPace,
        now: Timestamp,
        interval: Duration,
        counters: &Counters,
    ) {
        // Who does not see calls end cannot say how long they take.
        let learned = (!report.is_measured()).then(|| self.pace.learn(report, fleet)).flatten();
        if let Some(learned) = learned {
            counters.set_service(learned.service);
            counters.drain.speed.store(learned.speed);
        }
        counters.restart_drain(report.slots(), now, interval);
    }

    /// Takes the end of `count` calls picked over sessions. `sent` is false if they never left the client.
    pub fn outcomes(&mut self, sent: bool, count: u64, counters: &Counters) {
        self.session.outcomes(sent, count, counters.issued_session.load(Ordering::Acquire));
        self.correct(counters);
    }

    /// Clients tell of `told` more failed calls, a report of `reported` more: they go on counting for a while.
    pub fn failed(&mut self, told: u64, reported: u64, now: Timestamp, counters: &Counters) {
        self.held.failed(told, reported, counters.service(), now);
        self.correct(counters);
    }

    /// Counts `calls` that are not there for `time`: the worker gets few until then, or until [`Ledger::unhold`].
    pub fn hold(&mut self, calls: u16, time: Duration, now: Timestamp, counters: &Counters) {
        self.held.hold(calls.into(), time, now);
        self.correct(counters);
    }

    /// Calls in the estimate that are not there: failed ones, and those of [`Ledger::hold`].
    pub fn held(&self) -> u32 {
        self.held.count()
    }

    /// Counts only calls that are there, from now on.
    pub fn unhold(&mut self, counters: &Counters) {
        self.held.release_all();
        self.correct(counters);
    }

    /// A session has ended with `count` picks open.
    pub fn abandoned(&mut self, count: u64, now: Timestamp, counters: &Counters) {
        self.session.abandoned(count, now, counters.issued_session.load(Ordering::Acquire));
        self.correct(counters);
    }

    /// Lets picks expire that nobody has claimed for a [`LEASE`]. Call several times in a lease.
    pub fn expire(&mut self, now: Timestamp, counters: &Counters) {
        self.picked.expire(now, counters.issued_picked.load(Ordering::Acquire));
        self.held.release(now);
        self.correct(counters);
    }

    /// The worker has left: the fleet's pace no longer counts what it runs.
    pub fn leave(&self, fleet: &mut FleetPace) {
        self.pace.leave(fleet);
    }

    /// How many calls the worker will have seen when all have arrived. A call that is lost on its way makes it
    /// more than ever arrive; a draining worker therefore waits no longer than a lease.
    pub fn expected(&self, counters: &Counters) -> Expected {
        let picked = counters.issued_picked.load(Ordering::Acquire);
        let session = counters.issued_session.load(Ordering::Acquire);
        Expected {
            picked: picked.saturating_sub(self.picked.expired),
            session: session.saturating_sub(self.session.returned),
        }
    }

    /// Tokens issued and not settled: what is out by our own count.
    fn open(&self, counters: &Counters) -> u64 {
        let picked = counters.issued_picked.load(Ordering::Acquire);
        let session = counters.issued_session.load(Ordering::Acquire);
        picked.saturating_sub(self.picked.settled()) + session - self.session.settled(session)
    }

    fn correct(&self, counters: &Counters) {
        let session = self.session.settled(counters.issued_session.load(Ordering::Acquire));
        let picked = self.picked.settled();
        let (others, held) = (self.others.min(MOST_CALLS) + self.held.count(), self.held.count());
        counters.session_settled.store(low_half(session).wrapping_sub(held), Ordering::Release);
        counters
            .correction
            .store(others.wrapping_sub(low_half(picked + session)), Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
