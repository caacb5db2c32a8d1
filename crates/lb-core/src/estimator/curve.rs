//! The curve along which expected calls fall, `ln(1 + e^x)`, in plain arithmetic.
//!
//! A pick follows it for a few workers, so it must cost nanoseconds; and a simulation must give the same bits on every machine, which the
//! mathematics of the system's library does not promise. A relative error of 1e-6 is far below what the model knows.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

/// From here on the curve is the identity, to the last bit that matters.
const LARGE: f64 = 30.0;

/// Points of the table for each 1 of `x`. Between two the curve is taken as straight, which is off by 1e-4 at most.
const FINENESS: f64 = 16.0;

/// From −[`LARGE`] to [`LARGE`], and one more to draw the last line to.
const POINTS: usize = 2 * 30 * 16 + 2;

/// The curve from −[`LARGE`] to [`LARGE`]: looking it up costs a fifth of working it out.
#[expect(clippy::cast_possible_truncation, reason = "seven digits are more than the model knows")]
static TABLE: [f32; POINTS] = {
    let mut table = [0.0; POINTS];
    let mut place = 0;
    while place < table.len() {
        let x = place as f64 / FINENESS - LARGE;
        table[place] = ln(1.0 + exp(x)) as f32;
        place += 1;
    }
    table
};

/// Calls per slot of a worker whose expectation is `x` service times away from empty.
pub(super) fn calls(x: f64) -> f64 {
    if x >= LARGE {
        return x;
    }
    if x <= -LARGE {
        return 0.0;
    }
    let place = (x + LARGE) * FINENESS;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "x is in the table"
    )]
    let before = place as usize;
    let (low, high) = (f64::from(TABLE[before]), f64::from(TABLE[before + 1]));
    low + (high - low) * (place - before as f64)
}

/// The `x` at which the curve has `calls`, which is above 0.
pub(super) fn position(calls: f64) -> f64 {
    if calls > LARGE { calls } else { ln(exp(calls) - 1.0) }
}

/// What [`raised`] needs to know of a worker that has so many slots.
pub(super) fn lift(slots: f64) -> f64 {
    exp(1.0 / slots)
}

/// The `x` after a call more, by the worker's [`lift`].
pub(super) fn raised(x: f64, lift: f64) -> f64 {
    if x > LARGE {
        return x + ln(lift);
    }
    let present = if x < -LARGE { 0.0 } else { exp(x) };
    ln(lift * present + (lift - 1.0))
}

/// `x` from −[`LARGE`] to [`LARGE`].
const fn exp(x: f64) -> f64 {
    let halves = x * LOG2_E;
    #[expect(clippy::cast_possible_truncation, reason = "x is small, and rounding is meant")]
    let power = (halves + 0.5_f64.copysign(halves)) as i64;
    let rest = x - power as f64 * LN_2;
    // Taylor's series to the 7th term; the rest is at most ln(2)/2.
    let mut sum = 1.0 / 720.0;
    sum = sum * rest + 1.0 / 120.0;
    sum = sum * rest + 1.0 / 24.0;
    sum = sum * rest + 1.0 / 6.0;
    sum = sum * rest + 0.5;
    sum = sum * rest + 1.0;
    sum = sum * rest + 1.0;
    #[expect(clippy::cast_sign_loss, reason = "the power is small, so the sum is above 0")]
    let bits = ((power + 1_023) as u64) << 52;
    sum * f64::from_bits(bits)
}

/// `y` above 0 and not subnormal.
const fn ln(y: f64) -> f64 {
    let bits = y.to_bits();
    let mut power = (bits >> 52) as f64 - 1_023.0;
    let mut mantissa = f64::from_bits(bits & (u64::MAX >> 12) | 1_023 << 52);
    if mantissa > SQRT_2 {
        mantissa /= 2.0;
        power += 1.0;
    }
    let root = (mantissa - 1.0) / (mantissa + 1.0);
    let square = root * root;
    let mut sum = 1.0 / 9.0;
    sum = sum * square + 1.0 / 7.0;
    sum = sum * square + 1.0 / 5.0;
    sum = sum * square + 1.0 / 3.0;
    sum = sum * square + 1.0;
    2.0 * root * sum + power * LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_real_ones() {
        for step in -2_999..3_000 {
            let x = f64::from(step) / 100.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-6, "e^{x}");
            assert!((ln(x.exp()) - x).abs() < 1e-6, "ln e^{x}");
        }
    }

    #[test]
    fn one_undoes_the_other() {
        for number in [1e-3, 0.1, 1.0, 2.5, 29.0, 31.0, 1e6] {
            assert!((calls(position(number)) / number - 1.0).abs() < 1e-3, "{number}");
        }
    }

    #[test]
    fn a_call_more_is_a_call_more() {
        for x in [-100.0, -3.0, 0.0, 2.0, 29.9, 40.0] {
            assert!((calls(raised(x, lift(4.0))) - calls(x) - 0.25).abs() < 1e-3, "{x}");
        }
    }
}
