//! How calls that nobody reports on end, meanwhile.
//!
//! Between two reports the balancer hears nothing of the end of calls from unary picks, and nothing at all of the calls of others. It
//! knows how fast a worker works, so it can expect. Of `n` calls on `s` slots each takes `S` seconds; with `x = n / s` the number
//! falls as
//!
//! ```text
//! dx/dt = −(1 − e^−x) / S      few calls: each ends at the rate 1/S      many calls: the slots end s/S of them a second
//! x(t)  = ln(1 + e^((F − t)/S))
//! ```
//!
//! The solution needs one number for each worker, the moment `F` when it has about drained; a pick moves it, a report sets it. Since
//! the curves of like workers never cross, the longest idle worker of many that look empty is the next: when reports are very old
//! the rule turns into round robin by itself.
//!
//! When to expect anything: only while a report may be due. A worker that reports on change and is silent for longer than it
//! usually takes to tell of a new call has nothing to tell, so its calls are all still there. That usual time, the window, is learned,
//! as the longest time from a pick to the first report that shows it; it forgets slowly.

use super::{Counters, curve, number::AtomicNumber};
use crate::{time::Timestamp, token::TokenClass};

/// What the window forgets with each report that shows new calls.
const WINDOW_MEMORY: f64 = 0.99;

/// How much longer than the window may be before silence means something: the network is not always equally fast.
const WINDOW_SLACK: f64 = 1.05;

/// Calls per slot that stand for none: `F` of an empty worker would be minus infinity.
const EMPTY: f64 = 1e-3;

/// What picks and the owner share of the expectation. Times in seconds since the origin of [`Timestamp`].
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// `F`.
    empty_at: AtomicNumber,
    /// `S`, seconds a call takes here; 0 while unknown.
    service: AtomicNumber,
    /// What a call more does, by the number of slots; 0 before the first report.
    lift: AtomicNumber,
    reported_at: AtomicNumber,
    /// Longest usual time from a pick until a report shows it; 0 while unknown.
    window: AtomicNumber,
    /// The first pick that no report has shown yet; 0 if there is none.
    unseen_since: AtomicNumber,
    picked_at: AtomicNumber,
}

impl Drain {
    /// Expected calls now, of those that were known or picked since the last report.
    fn calls(&self, slots: f64, now: f64) -> f64 {
        slots * curve::calls((self.empty_at.load() - now) / self.service.load())
    }

    fn add_one(&self, now: f64) {
        let (service, lift) = (self.service.load(), self.lift.load());
        if service > 0.0 && lift > 0.0 {
            self.empty_at
                .update(|empty_at| now + service * curve::raised((empty_at - now) / service, lift));
        }
    }

    fn note_pick(&self, now: f64) {
        if self.unseen_since.load() == 0.0 {
            self.unseen_since.store(now);
        }
        self.picked_at.store(now);
    }

    /// Whether calls may have ended that a report has yet to tell of.
    fn is_open(&self, now: f64) -> bool {
        let window = self.window.load() * WINDOW_SLACK;
        let known = self.service.load() > 0.0;
        known && (window == 0.0 || now - self.reported_at.load() < window)
    }
}

impl Counters {
    /// Issues a token and, if anybody asks for [`Counters::expected_calls`], expects its call. Returns the token's sequence.
    pub fn picked(&self, class: TokenClass, expects: bool, now: Timestamp) -> u64 {
        self.drain.note_pick(now.seconds());
        if expects && class == TokenClass::Picked {
            self.drain.add_one(now.seconds());
        }
        self.issue(class)
    }

    /// Calls expected inside the worker and on their way to it: [`Counters::estimate`], less what is likely to have ended since.
    pub fn expected_calls(&self, slots: u16, now: Timestamp) -> f64 {
        let exact = f64::from(self.estimate());
        let now = now.seconds();
        if exact == 0.0 || !self.drain.is_open(now) {
            return exact;
        }
        // The end of a call over a session is known: these are not for guessing.
        let known = f64::from(self.session_open()).min(exact);
        known + self.drain.calls(slots.into(), now).min(exact - known)
    }

    /// Time since the last pick, in seconds.
    pub(crate) fn neglected_for(&self, now: Timestamp) -> f64 {
        now.seconds() - self.drain.picked_at.load()
    }

    /// A report has come: what it says is true now. `news`: it shows calls that no report has shown before; `all_seen`: it shows
    /// all that were picked.
    pub(super) fn restart_drain(&self, slots: u16, now: Timestamp, news: bool, all_seen: bool) {
        let now = now.seconds();
        let drain = &self.drain;
        let since = drain.unseen_since.load();
        if news && since > 0.0 {
            drain.window.store((now - since).max(drain.window.load() * WINDOW_MEMORY));
            drain.unseen_since.store(if all_seen { 0.0 } else { now });
        }
        let calls = f64::from(self.estimate().saturating_sub(self.session_open()));
        let per_slot = (calls / f64::from(slots)).max(EMPTY);
        drain.reported_at.store(now);
        drain.lift.store(curve::lift(slots.into()));
        drain.empty_at.store(now + drain.service.load() * curve::position(per_slot));
    }

    pub(super) fn set_service(&self, seconds: f64) {
        self.drain.service.store(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_queue_drains_at_the_rate_of_the_slots() {
        let drain = Drain::default();
        drain.service.store(0.1);
        drain.lift.store(curve::lift(4.0));
        drain.empty_at.store(10.0 + 0.1 * curve::position(100.0 / 4.0));
        let calls = drain.calls(4.0, 11.0);
        assert!((calls - 60.0).abs() < 0.1, "after 1 s 4 slots have ended 40 of 100, not {calls}");
        drain.add_one(11.0);
        assert!((drain.calls(4.0, 11.0) - calls - 1.0).abs() < 1e-2);
    }
}
