//! How long a new call is expected to take on a worker.
//!
//! With `n` calls expected on `s` slots of speed `v` that is `(1 + max(0, n + 1 − s)/s) / v` mean calls: its own time,
//! and the wait when no slot is free. A share of `(n + 1)/s` is added ([`CROWDING`]): among workers with free slots the emptier
//! one is the safer bet.

use crate::estimator::Load;

/// Weight of the calls per slot beside the expected delay. Without it the fastest worker by a hair is filled to its last slot by every
/// balancer at once (two balancers, reports every second: p99 1.21 of the oracle's at 0.01, 1.04 at 0.3); at 1, free slots of slow
/// workers look better than they are (two of ten at half speed, on change: 1.05 instead of 1.01).
const CROWDING: f64 = 0.3;

/// Expected delay of one more call where that many are expected already, in mean calls.
pub(super) fn delay(load: Load<'_>, calls: f64) -> f64 {
    let slots = f64::from(load.slots);
    let calls = calls + 1.0;
    let waits_for = (calls - slots).max(0.0);
    // Over one denominator: a division is what costs most here.
    (slots + waits_for + CROWDING * calls) / (slots * load.counters.speed())
}

/// Bits of a score that are dropped: what is left tells delays a thousandth apart. Expected calls fall all the time, and a score that
/// changed with every look would have to be written with every look.
const FINE_BITS: u32 = 13;

/// The delay as bits that order like the number: the sign is plus.
pub(super) fn score(load: Load<'_>, calls: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "a score only needs to order workers")]
    let delay = delay(load, calls) as f32;
    delay.to_bits() >> FINE_BITS
}
