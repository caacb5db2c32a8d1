//! How calls that nobody reports on end, meanwhile.
//!
//! Between two reports the balancer hears nothing of the end of calls from unary picks, and nothing at all of the calls of others. It
//! knows how fast a worker works, so it can expect. Of `n` calls on `s` slots each takes `S` seconds; with `x = n / s` the number
//! falls as
//!
//! ```text
//! dx/dt = −g(x) / S      few calls: each ends at the rate 1/S, g is x      many calls: the slots end s/S of them a second, g is 1
//! x(t)  = curve((F − t)/S)
//! ```
//!
//! with the `g` and the curve of [`super::curve`].
//! The solution needs one number for each worker, the moment `F` when it has about drained; a pick moves it, a report sets it. Since
//! the curves of like workers never cross, the longest idle worker of many that look empty is the next: when reports are very old
//! the rule turns into round robin by itself.
//!
//! When to expect anything: only while a report may be due. A worker tells of an end at once, or when the interval since its last
//! report is over. So from then on silence means that nothing has ended, and all calls are still there. That a call has arrived the
//! worker need not tell the balancer that picked it, so how long a pick takes to show up in a report says nothing.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use super::{
    Counters,
    curve::Curve,
    number::{AtomicNumber, AtomicSingle},
};
use crate::{time::Timestamp, token::TokenClass};

/// How much longer than the interval silence must last before it means something: the network is not always equally fast.
const WINDOW_SLACK: f64 = 1.05;

/// Calls per slot that stand for none: `F` of an empty worker would be minus infinity.
const EMPTY: f64 = 1e-3;

/// What picks and the owner share of the expectation. Times in seconds since the origin of [`Timestamp`].
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// `F`.
    empty_at: AtomicNumber,
    /// From here on silence means that nothing has ended.
    open_until: AtomicNumber,
    /// `S`, seconds a call takes here; 0 while unknown.
    service: AtomicSingle,
    /// As [`Counters::speed`]; 0 while unknown.
    pub(super) speed: AtomicSingle,
    /// The last pick, in hundredths of a second, from 0 again after 497 days.
    picked_at: AtomicU32,
}

impl Drain {
    /// Expected calls now, of those that were known or picked since the last report.
    fn calls(&self, slots: f64, now: f64) -> f64 {
        let service = self.service.load();
        if service <= 0.0 {
            return 0.0;
        }
        slots * Curve::of(slots).calls((self.empty_at.load() - now) / service)
    }

    /// Expects a call more. Returns the calls with it.
    fn add_one(&self, slots: f64, now: f64) -> f64 {
        let service = self.service.load();
        if service <= 0.0 {
            return 0.0;
        }
        let curve = Curve::of(slots);
        self.empty_at.update(|empty_at| {
            let per_slot = curve.calls((empty_at - now) / service) + 1.0 / slots;
            (now + service * curve.time(per_slot), slots * per_slot)
        })
    }

    fn note_pick(&self, now: f64) {
        self.picked_at.store(hundredths(now), Relaxed);
    }

    /// Whether calls may have ended that a report has yet to tell of.
    fn is_open(&self, now: f64) -> bool {
        self.service.load() > 0.0 && now < self.open_until.load()
    }

    /// As if nothing had ever happened.
    pub(super) fn clear(&self) {
        let Self { empty_at, open_until, service, speed, picked_at } = self;
        for number in [empty_at, open_until] {
            number.store(0.0);
        }
        for number in [service, speed] {
            number.store(0.0);
        }
        picked_at.store(0, Relaxed);
    }
}

impl Counters {
    /// Issues a token where nobody asks for [`Counters::expected_calls`]. Returns its sequence.
    pub fn picked(&self, class: TokenClass, now: Timestamp) -> u64 {
        self.drain.note_pick(now.seconds());
        self.issue(class)
    }

    /// Issues a token and expects its call. Returns the token's sequence, and [`Counters::expected_calls`] with this call.
    pub fn picked_and_expected(&self, class: TokenClass, slots: u16, now: Timestamp) -> (u64, f64) {
        let seconds = now.seconds();
        self.drain.note_pick(seconds);
        let sequence = self.issue(class);
        let drained = match class {
            TokenClass::Picked => self.drain.add_one(slots.into(), seconds),
            TokenClass::Session | TokenClass::Second => self.drain.calls(slots.into(), seconds),
        };
        (sequence, self.expected(drained, seconds))
    }

    /// Calls expected inside the worker and on their way to it: [`Counters::estimate`], less what is likely to have ended since.
    pub fn expected_calls(&self, slots: u16, now: Timestamp) -> f64 {
        let now = now.seconds();
        self.expected(self.drain.calls(slots.into(), now), now)
    }

    /// As [`Counters::expected_calls`], where the curve has left so many.
    fn expected(&self, drained: f64, now: f64) -> f64 {
        let exact = f64::from(self.estimate());
        if exact == 0.0 || !self.drain.is_open(now) {
            return exact;
        }
        // The end of a call over a session is known: these are not for guessing.
        let known = f64::from(self.session_open()).min(exact);
        known + drained.min(exact - known)
    }

    /// Time since the last pick, in seconds.
    pub(crate) fn neglected_for(&self, now: Timestamp) -> f64 {
        let elapsed = hundredths(now.seconds()).wrapping_sub(self.drain.picked_at.load(Relaxed));
        f64::from(elapsed) / 100.0
    }

    /// A report has come: what it says is true now. The next one may follow `interval` later.
    pub(super) fn restart_drain(&self, slots: u16, now: Timestamp, interval: Duration) {
        let now = now.seconds();
        let drain = &self.drain;
        let calls = f64::from(self.estimate().saturating_sub(self.session_open()));
        let per_slot = (calls / f64::from(slots)).max(EMPTY);
        drain.open_until.store(now + interval.as_secs_f64() * WINDOW_SLACK);
        let time = Curve::of(slots.into()).time(per_slot);
        drain.empty_at.store(now + drain.service.load() * time);
    }

    /// Seconds a call takes; 0 while unknown.
    pub(super) fn service(&self) -> f64 {
        self.drain.service.load()
    }

    pub(super) fn set_service(&self, seconds: f64) {
        self.drain.service.store(seconds);
    }
}

fn hundredths(seconds: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it goes round")]
    let hundredths = (seconds * 100.0) as i64 as u32;
    hundredths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_queue_drains_at_the_rate_of_the_slots() {
        let drain = Drain::default();
        drain.service.store(0.1);
        drain.empty_at.store(10.0 + 0.1 * Curve::of(4.0).time(100.0 / 4.0));
        let calls = drain.calls(4.0, 11.0);
        assert!((calls - 60.0).abs() < 0.1, "after 1 s 4 slots have ended 40 of 100, not {calls}");
        drain.add_one(4.0, 11.0);
        assert!((drain.calls(4.0, 11.0) - calls - 1.0).abs() < 1e-2);
    }
}
