//! Failed calls, which count for a while longer than they take.
//!
//! A worker that fails at once has free slots at once, and the next call would go there, and the next: it would draw in a large
//! part of all calls and fail them. So a failure counts as a slow answer: the call stays in the estimate for [`TIMES`] the time of a
//! call. A worker that fails everything then gets a tenth of its share at most, even where nobody may be put out any more.

use std::{collections::VecDeque, time::Duration};

use crate::time::Timestamp;

/// How many times the usual time of a call a failed one takes.
const TIMES: f64 = 10.0;

/// How long a failed call counts while nothing is known of the time calls take.
const UNKNOWN: Duration = Duration::from_secs(1);

/// Most time that a failed call counts.
const LONGEST: Duration = Duration::from_secs(60);

/// Calls that fail within this part of the holding time of each other are let go together.
const PARTS: u32 = 8;

/// Most calls held, far above any queue: a flood of failures is a flood, and need not be counted.
const MOST: u32 = 1 << 20;

/// The failed calls of one worker that still count.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// When to let go of how many.
    groups: VecDeque<(Timestamp, u32)>,
    count: u32,
    /// As clients tell, and as the worker's reports do. Both count the same calls, so the larger number holds.
    told: u64,
    reported: u64,
}

impl Held {
    /// Calls that count.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Clients tell of so many more failures; the worker reports so many more.
    pub(super) fn failed(&mut self, told: u64, reported: u64, service: f64, now: Timestamp) {
        let before = self.told.max(self.reported);
        // A client can tell anything.
        self.told = self.told.saturating_add(told);
        self.reported = self.reported.saturating_add(reported);
        let time = if service > 0.0 {
            Duration::try_from_secs_f64(service * TIMES).unwrap_or(LONGEST).min(LONGEST)
        } else {
            UNKNOWN
        };
        self.hold(self.told.max(self.reported) - before, time, now);
    }

    /// Counts so many calls for this long.
    pub(super) fn hold(&mut self, count: u64, time: Duration, now: Timestamp) {
        let count = u32::try_from(count).unwrap_or(MOST).min(MOST - self.count);
        if count == 0 {
            return;
        }
        self.count += count;
        let until = now + time;
        match self.groups.back_mut() {
            // One group then stands for a part of the time, so there are never many more than `PARTS`.
            Some((last, held)) if until.since(*last) < time / PARTS => *held += count,
            _ => self.groups.push_back((until, count)),
        }
    }

    /// Lets go of those whose time is over.
    pub(super) fn release(&mut self, now: Timestamp) {
        while let Some((_, count)) = self.groups.front().filter(|(until, _)| *until <= now) {
            self.count -= count;
            self.groups.pop_front();
        }
    }

    /// Lets go of all.
    pub(super) fn release_all(&mut self) {
        self.groups.clear();
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::at(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_failed_call_counts_ten_times_as_long() {
        let mut held = Held::default();
        held.failed(2, 0, 0.05, at(0));
        held.failed(0, 3, 0.05, at(100));
        assert_eq!(held.count(), 3, "two of the three are known");
        held.release(at(499));
        assert_eq!(held.count(), 3);
        held.release(at(500));
        assert_eq!(held.count(), 1);
        held.release(at(600));
        assert_eq!(held.count(), 0);
    }

    #[test]
    fn no_number_is_too_large() {
        let mut held = Held::default();
        held.failed(u64::MAX, 0, 0.05, at(0));
        held.failed(u64::MAX, u64::MAX, 0.05, at(1));
        assert_eq!(held.count(), MOST);
    }

    #[test]
    fn a_flood_is_kept_in_a_few_groups() {
        let mut held = Held::default();
        for millisecond in 0..10_000 {
            held.failed(1_000, 0, 0.05, at(millisecond));
            held.release(at(millisecond));
            assert!(held.groups.len() <= 2 * PARTS as usize + 1);
        }
        assert!(held.count() <= MOST);
        held.release(at(20_000));
        assert_eq!(held.count(), 0);
    }
}
