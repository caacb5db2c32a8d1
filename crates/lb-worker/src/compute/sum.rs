//! The sum of 1 to n, added one by one on purpose: work whose amount is exactly known.

use std::hint::black_box;

use super::cancel::{Cancel, Cancelled};

/// Additions between two looks at the cancellation: a fraction of a millisecond.
const CHUNK: u64 = 1 << 18;

/// Adds 1 to `n`, which is at most [`super::SUM_LIMIT`].
pub(super) fn sum(n: u64, cancel: &Cancel) -> Result<u64, Cancelled> {
    let mut total: u64 = 0;
    let mut next = 1;
    while next <= n {
        let last = n.min(next + CHUNK - 1);
        for number in next..=last {
            // Keeps the compiler from replacing the loop by a formula.
            total = black_box(total + number);
        }
        next = last + 1;
        cancel.check()?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_formula() {
        for n in [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 1_000_000] {
            assert_eq!(sum(n, &Cancel::default()), Ok(n * (n + 1) / 2), "n = {n}");
        }
    }

    #[test]
    fn the_largest_sum_fits() {
        let n = u128::from(super::super::SUM_LIMIT);
        assert!(u64::try_from(n * (n + 1) / 2).is_ok());
    }
}
