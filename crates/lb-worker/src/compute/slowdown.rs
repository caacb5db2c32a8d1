//! A machine slower than it is: how many times as long `sleep` and `burn` take here.
//!
//! Fleets are rarely of one age. With this, unequal workers can be tried and measured on equal machines.

use serde::Deserialize;

/// How many times as long a task takes, 0.1 to 100; 1 changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Slowdown(f64);

/// A number that is no slowdown.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("slowdown is {0}: expected 0.1 to 100")]
pub struct SlowdownError(f64);

impl Slowdown {
    /// The factor.
    pub fn factor(self) -> f64 {
        self.0
    }
}

impl Default for Slowdown {
    fn default() -> Self {
        Self(1.0)
    }
}

impl TryFrom<f64> for Slowdown {
    type Error = SlowdownError;

    fn try_from(factor: f64) -> Result<Self, SlowdownError> {
        // Not a number is in no range.
        if (0.1..=100.0).contains(&factor) { Ok(Self(factor)) } else { Err(SlowdownError(factor)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_checked() {
        for factor in [0.1, 1.0, 3.0, 100.0] {
            assert_eq!(Slowdown::try_from(factor).map(Slowdown::factor), Ok(factor));
        }
        for factor in [0.0, -1.0, 0.09, 100.1, f64::INFINITY] {
            let error = Slowdown::try_from(factor).unwrap_err().to_string();
            assert_eq!(error, format!("slowdown is {factor}: expected 0.1 to 100"));
        }
        assert!(Slowdown::try_from(f64::NAN).is_err());
    }
}
