//! Counts primes with a segmented sieve of Eratosthenes over the odd numbers.
//!
//! Memory stays small whatever the limit is: one segment that fits into a core's cache, and the primes up to the square
//! root (3,400 of them for 10^9).

use super::cancel::{Cancel, Cancelled};

/// Odd numbers in a segment, one byte each: about the size of a core's cache, and less than a millisecond of work.
const SEGMENT: u64 = 1 << 17;

/// How many primes there are from 2 to `up_to`.
pub(super) fn count_primes(up_to: u32, cancel: &Cancel) -> Result<u64, Cancelled> {
    if up_to < 2 {
        return Ok(0);
    }
    // Odd number k stands for 2k + 1; 1 is left out, 2 is counted by hand.
    let odds = u64::from(up_to).div_ceil(2);
    let mut sieving: Vec<Sieving> = odd_primes(up_to.isqrt()).map(Sieving::new).collect();
    let mut composite = vec![false; usize::try_from(SEGMENT).expect("small")];
    let mut count = 1;
    let mut start = 1;
    while start < odds {
        let length = SEGMENT.min(odds - start);
        let segment = &mut composite[..usize::try_from(length).expect("small")];
        segment.fill(false);
        for prime in &mut sieving {
            prime.strike_out(start, segment);
        }
        count += segment.iter().filter(|composite| !**composite).count() as u64;
        start += length;
        cancel.check()?;
    }
    Ok(count)
}

/// A prime that strikes out its multiples, and where it goes on.
struct Sieving {
    prime: u64,
    /// Index of the next odd multiple.
    next: u64,
}

impl Sieving {
    fn new(prime: u64) -> Self {
        // Smaller multiples have a smaller prime factor.
        Self { prime, next: prime * prime / 2 }
    }

    fn strike_out(&mut self, start: u64, segment: &mut [bool]) {
        let end = start + segment.len() as u64;
        // Indices of odd multiples are `prime` apart.
        while self.next < end {
            segment[usize::try_from(self.next - start).expect("inside the segment")] = true;
            self.next += self.prime;
        }
    }
}

/// Odd primes up to a small limit, by trial division.
fn odd_primes(limit: u32) -> impl Iterator<Item = u64> {
    let mut found: Vec<u64> = Vec::new();
    (3..=u64::from(limit)).step_by(2).filter(move |candidate| {
        let is_prime = found
            .iter()
            .take_while(|prime| *prime * *prime <= *candidate)
            .all(|prime| candidate % prime != 0);
        if is_prime {
            found.push(*candidate);
        }
        is_prime
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_known_numbers_of_primes() {
        let known = [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 2),
            (4, 2),
            (9, 4),
            (10, 4),
            (25, 9),
            (100, 25),
            (1_000_000, 78_498),
        ];
        for (up_to, expected) in known {
            assert_eq!(count_primes(up_to, &Cancel::default()), Ok(expected), "up to {up_to}");
        }
    }

    #[test]
    fn segments_join_without_a_gap() {
        // Around the end of the first segment, against a sieve without segments.
        let edge = u32::try_from(SEGMENT * 2).unwrap();
        let mut expected = 1 + odd_primes(edge - 8).count() as u64;
        for up_to in edge - 8..edge + 8 {
            let is_prime =
                up_to > edge - 8 && (2..=up_to.isqrt()).all(|divisor| up_to % divisor != 0);
            expected += u64::from(is_prime);
            assert_eq!(count_primes(up_to, &Cancel::default()), Ok(expected), "up to {up_to}");
        }
    }
}
