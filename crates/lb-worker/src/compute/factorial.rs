//! n!, right to the last digit.
//!
//! The product is taken as a tree, so that the factors of each multiplication have about the same length; that is where fast
//! multiplication pays. The decimal digits are taken the same way: split in half by a power of ten, until the
//! parts are small. Between any two of these steps the work can be cancelled.

use std::fmt::Write as _;

use dashu_int::{UBig, ops::DivRem as _};

use super::cancel::{Cancel, Cancelled};

/// Below this many factors a plain loop is as fast as a tree.
const LEAF: u32 = 32;
/// Parts of this many digits are printed at once: a millisecond of work or so.
const PRINTED_AT_ONCE: usize = 4096;

/// n! in decimal.
pub(super) fn factorial(n: u32, cancel: &Cancel) -> Result<String, Cancelled> {
    let product = product(1, n, cancel)?;
    let digits = decimal_digits(n);
    let mut text = String::with_capacity(digits + 1);
    let powers = powers_of_ten(digits, cancel)?;
    print_leading(&powers, &product, &mut text, cancel)?;
    Ok(text)
}

/// `first` * ... * `last`; 1 if there is nothing between them.
fn product(first: u32, last: u32, cancel: &Cancel) -> Result<UBig, Cancelled> {
    if last < first + LEAF {
        return Ok((first..=last).fold(UBig::ONE, |product, factor| product * factor));
    }
    let middle = u32::midpoint(first, last);
    let left = product(first, middle, cancel)?;
    let right = product(middle + 1, last, cancel)?;
    cancel.check()?;
    Ok(left * right)
}

/// How many decimal digits n! has, by Stirling's series: its error is far below one digit.
pub(super) fn decimal_digits(n: u32) -> usize {
    if n < 2 {
        return 1;
    }
    let n = f64::from(n);
    let natural_log = n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + 1.0 / (12.0 * n)
        - 1.0 / (360.0 * n.powi(3));
    let digits = (natural_log / std::f64::consts::LN_10).floor() + 1.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and some millions"
    )]
    {
        digits as usize
    }
}

/// 10^(`PRINTED_AT_ONCE` * 2^k) for k from 0, as far as needed to split a number of `digits` digits in half.
fn powers_of_ten(digits: usize, cancel: &Cancel) -> Result<Vec<UBig>, Cancelled> {
    let mut powers: Vec<UBig> = Vec::new();
    let mut length = PRINTED_AT_ONCE;
    while length < digits {
        let power = match powers.last() {
            None => UBig::from(10_u8).pow(PRINTED_AT_ONCE),
            Some(previous) => previous.sqr(),
        };
        powers.push(power);
        length *= 2;
        cancel.check()?;
    }
    Ok(powers)
}

/// Appends `number` without leading zeros.
fn print_leading(
    powers: &[UBig],
    number: &UBig,
    text: &mut String,
    cancel: &Cancel,
) -> Result<(), Cancelled> {
    let Some((power, smaller)) = powers.split_last() else {
        write!(text, "{number}").expect("writing to a string does not fail");
        return Ok(());
    };
    if number < power {
        return print_leading(smaller, number, text, cancel);
    }
    let (high, low) = number.div_rem(power);
    cancel.check()?;
    print_leading(smaller, &high, text, cancel)?;
    print_padded(smaller, &low, text, cancel)
}

/// Appends `number` with as many digits as the power above `powers` has zeros.
fn print_padded(
    powers: &[UBig],
    number: &UBig,
    text: &mut String,
    cancel: &Cancel,
) -> Result<(), Cancelled> {
    let Some((power, smaller)) = powers.split_last() else {
        let digits = number.to_string();
        text.extend(std::iter::repeat_n('0', PRINTED_AT_ONCE - digits.len()));
        text.push_str(&digits);
        return Ok(());
    };
    let (high, low) = number.div_rem(power);
    cancel.check()?;
    print_padded(smaller, &high, text, cancel)?;
    print_padded(smaller, &low, text, cancel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn computed(n: u32) -> String {
        factorial(n, &Cancel::default()).unwrap()
    }

    #[test]
    fn small_ones_are_known() {
        assert_eq!(computed(0), "1");
        assert_eq!(computed(1), "1");
        assert_eq!(computed(5), "120");
        assert_eq!(computed(20), "2432902008176640000");
        assert_eq!(
            computed(50),
            "30414093201713378043612608166064768844377641568960512000000000000"
        );
    }

    /// The expected values were computed with Python in three ways: its factorial, a plain loop, and Legendre's formula for
    /// the exponents of the primes.
    #[test]
    fn factorial_of_5000_is_right_to_the_last_digit() {
        let text = computed(5000);
        assert_eq!(text.len(), 16_326);
        assert!(text.starts_with("422857792660554352220106420023"));
        let significant = text.trim_end_matches('0');
        assert_eq!(text.len() - significant.len(), 1249);
        assert!(significant.ends_with("601735143099097261550937833472"));
        assert_eq!(text.bytes().map(|digit| u32::from(digit - b'0')).sum::<u32>(), 67_698);
        let fnv1a = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        assert_eq!(fnv1a, 0x14a0_f91e_67e4_f319);
    }

    #[test]
    fn digits_in_parts_equal_digits_at_once() {
        for n in [1000, 1700, 3000, 9000, 20_000] {
            let at_once = product(1, n, &Cancel::default()).unwrap().to_string();
            assert!(computed(n) == at_once, "{n}! differs");
        }
    }

    #[test]
    fn the_number_of_digits_is_known_beforehand() {
        let mut running = UBig::ONE;
        for n in 0..=300_u32 {
            running *= n.max(1);
            assert_eq!(decimal_digits(n), running.to_string().len(), "{n}!");
        }
        assert_eq!((decimal_digits(5000), decimal_digits(200_000)), (16_326, 973_351));
        assert_eq!(decimal_digits(500_000), 2_632_342);
    }
}
