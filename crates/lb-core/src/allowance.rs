//! How often a worker may report on change.
//!
//! One report an interval in the long run, and [`SAVED`] more after a quiet interval. The saved one is for the call that
//! ends sooner than an interval after the last one did: told late, a free worker stands idle while others queue (100
//! workers of one slot, calls of 2.5 intervals: without it p99 1.09 and 1.15 of an oracle's at 90 and 95 % load).
//!
//! Source: the generic cell rate algorithm, as a virtual schedule (ITU-T I.371, annex A).

use std::time::Duration;

use crate::time::Timestamp;

/// Reports that can be saved up. One is enough for what it is for, and a worker that never rests still sends no more than one an
/// interval.
pub const SAVED: u32 = 1;

/// What may still be sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowance {
    interval: Duration,
    saved: u32,
    /// All is saved up again at this moment.
    full_at: Timestamp,
}

impl Allowance {
    /// One report in every `interval`, and `saved` more after as many quiet ones. All of them are there at the start.
    pub fn new(interval: Duration, saved: u32) -> Self {
        Self { interval, saved, full_at: Timestamp::default() }
    }

    /// From when on a report may be sent; it may be in the past.
    pub fn next(&self) -> Timestamp {
        let full_at = self.full_at.since(Timestamp::default());
        Timestamp::at(full_at.saturating_sub(self.interval * self.saved))
    }

    /// A report is sent, allowed or not.
    pub fn spend(&mut self, now: Timestamp) {
        self.full_at = self.full_at.max(now) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::at(Duration::from_millis(milliseconds))
    }

    #[test]
    fn without_savings_reports_are_an_interval_apart() {
        let mut allowance = Allowance::new(Duration::from_millis(20), 0);
        assert!(allowance.next() <= at(100));
        allowance.spend(at(100));
        assert_eq!(allowance.next(), at(120));
    }

    #[test]
    fn one_can_be_saved_and_the_rate_stays() {
        let mut allowance = Allowance::new(Duration::from_millis(20), 1);
        allowance.spend(at(100));
        assert_eq!(allowance.next(), at(100), "the saved one");
        allowance.spend(at(103));
        assert_eq!(allowance.next(), at(120));
        allowance.spend(at(120));
        assert_eq!(allowance.next(), at(140), "no more than one an interval from then on");
        assert!(allowance.next() <= at(200));
        allowance.spend(at(200));
        assert_eq!(allowance.next(), at(200), "quiet times save another");
    }
}
