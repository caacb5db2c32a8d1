//! What anybody on the network can cause is told of seldom.

use std::time::Duration;

use tokio::time::Instant;

/// How often something of one kind is told of at most.
const INTERVAL: Duration = Duration::from_secs(60);

/// Whether it is time to tell of something again.
#[derive(Debug, Default)]
pub struct Seldom {
    told: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// One more has happened. If it is to be told of: how many have since the last one that was, with this one.
    pub fn happened(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now - told < INTERVAL) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_at_once_and_then_one_a_minute_with_the_number() {
        let (now, mut seldom) = (Instant::now(), Seldom::default());
        assert_eq!(seldom.happened(now), Some(1));
        assert_eq!(seldom.happened(now), None);
        assert_eq!(seldom.happened(now + Duration::from_secs(59)), None);
        assert_eq!(seldom.happened(now + Duration::from_secs(60)), Some(3));
    }
}
