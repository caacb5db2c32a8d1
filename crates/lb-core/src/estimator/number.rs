//! A number with a fraction that threads share.
//!
//! Each stands for itself: nobody concludes from one number what another holds, so no order among
//! them is needed (`Relaxed`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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

    /// Replaces the number by the first of what `change` makes of it, and returns the second; nobody's change is lost.
    pub(super) fn update<With>(&self, change: impl Fn(f64) -> (f64, With)) -> With {
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            let (number, with) = change(f64::from_bits(before));
            let after = number.to_bits();
            match self.0.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return with,
                Err(other) => before = other,
            }
        }
    }
}

/// An `f32` in an atomic: seven digits, for what is an estimate anyway.
#[derive(Debug, Default)]
pub(super) struct AtomicSingle(AtomicU32);

impl AtomicSingle {
    pub(super) fn load(&self) -> f64 {
        f32::from_bits(self.0.load(Ordering::Relaxed)).into()
    }

    #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough")]
    pub(super) fn store(&self, number: f64) {
        self.0.store((number as f32).to_bits(), Ordering::Relaxed);
    }
}
