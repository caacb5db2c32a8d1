//! How long to wait before dialling again: doubling from a first step to a last one, with jitter, so
//! that the clients of a restarted balancer do not come back all at once.

use std::time::Duration;

/// Wait after the first failure: a restarting balancer is back about this soon.
const FIRST: Duration = Duration::from_millis(50);
/// Longest wait: what a client adds to an outage at most, while a fleet of ten thousand clients
/// dials an absent balancer no more than ten thousand times in two seconds.
const LAST: Duration = Duration::from_secs(2);

/// A doubling wait.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    rng: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(rng: fastrand::Rng) -> Self {
        Self { next: FIRST, rng }
    }

    /// The next wait: half of the step, plus a random part of the other half.
    pub(crate) fn pause(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(LAST);
        step.mul_f64(0.5 + self.rng.f64() / 2.0)
    }

    /// Starts over, after a success.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_last() {
        let mut backoff = Backoff::new(fastrand::Rng::with_seed(1));
        let mut step = FIRST;
        for _ in 0..10 {
            let pause = backoff.pause();
            assert!(step / 2 <= pause && pause <= step, "{pause:?} for {step:?}");
            step = (step * 2).min(LAST);
        }
        assert_eq!(step, LAST);
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }
}
