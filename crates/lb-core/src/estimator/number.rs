//! A number with a fraction that threads share.

use std::sync::atomic::{AtomicU64, Ordering};

/// An `f64` in an atomic.
#[derive(Debug, Default)]
pub(super) struct AtomicNumber(AtomicU64);

impl AtomicNumber {
    pub(super) fn load(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn store(&self, number: f64) {
        self.0.store(number.to_bits(), Ordering::Relaxed);
    }

    /// Replaces the number by what `change` makes of it; nobody's change is lost.
    pub(super) fn update(&self, change: impl Fn(f64) -> f64) {
        let change = |bits| Some(change(f64::from_bits(bits)).to_bits());
        // Always a success: `change` never declines.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}
