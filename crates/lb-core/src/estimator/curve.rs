//! The curves along which expected calls fall.
//!
//! With `x` calls per slot expected on `s` slots, and their true number spread around that as chance spreads it (Poisson),
//! `E[min(N, s)]` slots are busy, and so in a service time `x` falls by
//!
//! ```text
//! g(x) = E[min(N, s)] / s,   N Poisson with mean s·x          for one slot: 1 − e^−x, and x(u) = ln(1 + e^u)
//! ```
//!
//! Many slots are hardly ever idle beside a queue: the curve bends more sharply. One curve for all numbers of slots took
//! workers of four for fuller than they are, which sent calls to slower ones (2 of 10 at half speed, a report every 1 s: p99 1.16 of
//! the oracle's, now 1.09).
//!
//! The curves are tables: a pick follows them for a few workers, so they must cost nanoseconds; and a simulation must give the
//! same bits on every machine, which the mathematics of the system's library does not promise.

use std::f64::consts::{LN_2, LOG2_E};

/// Tables reach from −`REACH` to `REACH` service times.
const REACH: f64 = 30.0;

/// Points of a table for each service time. Between two the curve is taken as straight, which is off by 1e-3 at most.
const FINENESS: f64 = 16.0;

/// From −[`REACH`] to [`REACH`], and one more to draw the last line to.
const POINTS: usize = 2 * 30 * 16 + 2;

/// Left of this the curve is `e^x`: a worker that is as good as empty.
const FAINT: f64 = -8.0;

/// Beyond so many expected calls all slots are busy, to the last bit that matters.
const CROWD: f64 = 600.0;

/// Of workers of 1, 2, 4, 8, 16, and 32 slots and more; those between take the next lower one.
static CURVES: [Curve; 6] =
    [Curve::new(1), Curve::new(2), Curve::new(4), Curve::new(8), Curve::new(16), Curve::new(32)];

/// Points of the way back for each doubling of calls, as a number of bits: between two, straight is off by 2e-4 at most.
const DOUBLING_BITS: u32 = 5;
/// The bits of a number that tell where it stands between two of them.
const REST_BITS: u32 = f64::MANTISSA_DIGITS - 1 - DOUBLING_BITS;
/// The way back knows from 2⁻¹⁷ calls per slot, below one call on the most slots there can be, to 2⁵, where no curve is bent.
const DOUBLINGS: usize = 17 + 5;
const FEWEST: f64 = 1.0 / 131_072.0;
const MOST: f64 = 32.0;
/// Where the bits of [`FEWEST`] stand among the points.
const FIRST_TIME: u64 = FEWEST.to_bits() >> REST_BITS;
const TIMES: usize = (DOUBLINGS << DOUBLING_BITS) + 1;

/// Expected calls per slot as time goes by, for a number of slots; a time in service times, greater where there are more calls.
#[derive(Debug)]
pub(super) struct Curve {
    points: [f32; POINTS],
    /// The way back: times, at calls in steps of the first bits of the number, as fine as it is small.
    times: [f32; TIMES],
}

impl Curve {
    /// The curve of a worker of so many slots, at least 1.
    pub(super) fn of(slots: f64) -> &'static Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of slots, and what is too many is cut"
        )]
        let slots = (slots as u32).max(1);
        &CURVES[(slots.ilog2() as usize).min(CURVES.len() - 1)]
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "seven digits are more than the model knows"
    )]
    const fn new(slots: u32) -> Self {
        let mut points = [0.0; POINTS];
        let mut calls = 0.0;
        let mut place = 0;
        while place < POINTS {
            let time = place as f64 / FINENESS - REACH;
            if time <= FAINT {
                calls = exp(time);
            } else {
                let halfway = calls + busy(slots, calls) / FINENESS / 2.0;
                calls += busy(slots, halfway) / FINENESS;
            }
            points[place] = calls as f32;
            place += 1;
        }
        Self { points, times: times(&points) }
    }

    /// Calls per slot at a time.
    pub(super) fn calls(&self, time: f64) -> f64 {
        if time >= REACH {
            return f64::from(self.points[POINTS - 2]) + (time - REACH);
        }
        if time <= -REACH {
            return 0.0;
        }
        let place = (time + REACH) * FINENESS;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the time is in the table"
        )]
        let before = place as usize;
        let (low, high) = (f64::from(self.points[before]), f64::from(self.points[before + 1]));
        low + (high - low) * (place - before as f64)
    }

    /// The time at which the curve has so many calls per slot.
    pub(super) fn time(&self, calls: f64) -> f64 {
        if calls >= MOST {
            return f64::from(self.times[TIMES - 1]) + (calls - MOST);
        }
        let bits = calls.max(FEWEST).to_bits();
        let rest = (bits & ((1 << REST_BITS) - 1)) as f64 / (1_u64 << REST_BITS) as f64;
        #[expect(clippy::cast_possible_truncation, reason = "it is in the table")]
        let before = ((bits >> REST_BITS) - FIRST_TIME) as usize;
        let (low, high) = (f64::from(self.times[before]), f64::from(self.times[before + 1]));
        low + (high - low) * rest
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits are more than the model knows")]
const fn times(points: &[f32; POINTS]) -> [f32; TIMES] {
    let mut times = [0.0; TIMES];
    let mut after = 1;
    let mut place = 0;
    while place < TIMES {
        let calls = f64::from_bits((FIRST_TIME + place as u64) << REST_BITS);
        while after < POINTS - 1 && points[after] as f64 <= calls {
            after += 1;
        }
        let (low, high) = (points[after - 1] as f64, points[after] as f64);
        let rest = (calls - low) / (high - low);
        times[place] = (((after - 1) as f64 + rest) / FINENESS - REACH) as f32;
        place += 1;
    }
    times
}

/// Share of the slots that are busy with so many calls per slot expected.
const fn busy(slots: u32, calls: f64) -> f64 {
    let (count, mean) = (slots as f64, slots as f64 * calls);
    if mean > CROWD {
        return 1.0;
    }
    // E[min(N, s)] = s − Σ (s − k)·P(N = k) for k below s.
    let mut chance = exp(-mean);
    let mut idle = 0.0;
    let mut k = 0;
    while k < slots {
        idle += (count - k as f64) * chance;
        k += 1;
        chance *= mean / k as f64;
    }
    1.0 - idle / count
}

/// `x` from −700 to 700.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_real_one() {
        for step in -6_999..7_000 {
            let x = f64::from(step) / 10.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-5, "e^{x}");
        }
    }

    #[test]
    fn one_slot_has_the_curve_that_is_known() {
        for step in -290..290 {
            let time = f64::from(step) / 10.0;
            let known = time.exp().ln_1p();
            let found = Curve::of(1.0).calls(time);
            assert!((found / known - 1.0).abs() < 1e-2, "{found} is not {known}");
        }
    }

    #[test]
    fn one_undoes_the_other() {
        for slots in [1.0, 3.0, 4.0, 65_535.0] {
            let curve = Curve::of(slots);
            for number in [1e-3, 0.1, 1.0, 2.5, 29.0, 33.0, 1e6] {
                let found = curve.calls(curve.time(number));
                assert!((found / number - 1.0).abs() < 1e-3, "{found} is not {number}");
            }
        }
        assert!(Curve::of(1.0).calls(Curve::of(1.0).time(0.0)).abs() < 1e-4);
    }

    #[test]
    fn free_slots_end_calls_one_by_one_and_full_ones_all_the_time() {
        let falls = |curve: &Curve, calls: f64| calls - curve.calls(curve.time(calls) - 0.1);
        let (one, many) = (Curve::of(1.0), Curve::of(32.0));
        assert!((falls(many, 0.5) / (0.5 * (1.0 - (-0.1_f64).exp())) - 1.0).abs() < 0.02);
        assert!((falls(many, 2.0) - 0.1).abs() < 1e-3);
        assert!(falls(one, 0.5) < falls(many, 0.5), "one slot lets calls wait");
    }
}
