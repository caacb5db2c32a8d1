//! How often something may happen, to each address.
//!
//! Source: the generic cell rate algorithm, as a virtual schedule (ITU-T I.371, annex A).

use std::{collections::HashMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

/// Addresses that are remembered before the first look for those that can be forgotten.
const FIRST_SWEEP: usize = 1024;

/// So many at once, and as many again within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At once; at least 1.
    pub burst: usize,
    /// In this time that many more.
    pub regained: Duration,
}

impl Rate {
    fn interval(self) -> Duration {
        self.regained / u32::try_from(self.burst).unwrap_or(u32::MAX).max(1)
    }
}

/// What may still happen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    /// All is there again at this moment; `None`: always was.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes one.
    ///
    /// # Errors
    /// When there is none: how long until there is one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + rate.interval();
        let over = (full_at - now).saturating_sub(rate.regained);
        if !over.is_zero() {
            return Err(over);
        }
        self.full_at = Some(full_at);
        Ok(())
    }

    fn is_full(self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }
}

/// A [`Bucket`] for each address. It remembers those that have taken something lately and no others.
#[derive(Debug, Default)]
pub struct Pace {
    buckets: HashMap<IpAddr, Bucket>,
    sweep_at: usize,
}

impl Pace {
    /// Takes one of this address's.
    ///
    /// # Errors
    /// When it has none: how long until it has.
    pub fn take(&mut self, address: IpAddr, rate: Rate, now: Instant) -> Result<(), Duration> {
        if self.buckets.len() >= self.sweep_at.max(FIRST_SWEEP) {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            self.sweep_at = 2 * self.buckets.len();
        }
        self.buckets.entry(address).or_default().take(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const RATE: Rate = Rate { burst: 4, regained: Duration::from_secs(8) };

    #[test]
    fn a_burst_and_then_one_an_interval() {
        let now = Instant::now();
        let mut bucket = Bucket::default();
        for _ in 0..4 {
            assert_eq!(bucket.take(RATE, now), Ok(()));
        }
        assert_eq!(bucket.take(RATE, now), Err(Duration::from_secs(2)));
        let later = now + Duration::from_secs(2);
        assert_eq!(bucket.take(RATE, later), Ok(()));
        assert!(bucket.take(RATE, later).is_err());
        let much_later = now + Duration::from_secs(100);
        assert!((0..4).all(|_| bucket.take(RATE, much_later).is_ok()));
        assert!(bucket.take(RATE, much_later).is_err());
    }

    #[test]
    fn addresses_do_not_share_and_are_forgotten() {
        let (now, mut pace) = (Instant::now(), Pace::default());
        let address = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(number));
        (0..4).for_each(|_| pace.take(address(1), RATE, now).unwrap());
        assert!(pace.take(address(1), RATE, now).is_err());
        assert!(pace.take(address(2), RATE, now).is_ok());
        for number in 0..10_000 {
            let now = now + Duration::from_secs(10) * number;
            pace.take(address(number), RATE, now).unwrap();
        }
        assert!(pace.buckets.len() <= FIRST_SWEEP, "{}", pace.buckets.len());
    }
}
