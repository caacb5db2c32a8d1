//! How long to wait before the next attempt.

use std::time::Duration;

/// A balancer that restarts is back within a second: the first attempts come soon.
const LEAST: Duration = Duration::from_millis(100);
/// Its workers must be back within two seconds even after a long outage: this, and a dial that was begun too early.
const MOST: Duration = Duration::from_millis(700);
/// Each pause is between this share of the nominal one and all of it, so that a fleet does not dial in step.
const LEAST_SHARE: f64 = 0.5;

#[derive(Debug)]
pub(crate) struct Backoff {
    nominal: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { nominal: LEAST }
    }

    pub(crate) fn reset(&mut self) {
        self.nominal = LEAST;
    }

    /// The next pause; `random` is from 0 to 1.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let pause = self.nominal.mul_f64(LEAST_SHARE + (1.0 - LEAST_SHARE) * random);
        self.nominal = (self.nominal * 2).min(MOST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most() {
        let mut backoff = Backoff::new();
        let pauses: Vec<u128> = (0..7).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 700, 700, 700, 700]);
        backoff.reset();
        assert_eq!(backoff.next(0.0).as_millis(), 50);
    }
}
