//! Time as a value.

use std::{ops::Add, time::Duration};

/// A moment, in microseconds since an origin that the caller chose. Only differences mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    microseconds: u64,
}

impl Timestamp {
    /// The moment `since_origin` after the origin.
    pub fn at(since_origin: Duration) -> Self {
        Self { microseconds: to_microseconds(since_origin) }
    }

    /// Seconds since the origin.
    pub fn seconds(self) -> f64 {
        self.microseconds as f64 / 1e6
    }

    /// Time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.microseconds.saturating_sub(earlier.microseconds))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self { microseconds: self.microseconds.saturating_add(to_microseconds(duration)) }
    }
}

fn to_microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
