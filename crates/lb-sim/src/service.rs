//! How much work a call is.

use std::time::Duration;

use fastrand::Rng;

/// What is too long to count never comes to its end.
pub(crate) fn lasting(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// A distribution of service times, for a worker of speed 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Service {
    /// Memoryless; the mean in seconds.
    Exponential(f64),
    /// Always the same, in seconds.
    Constant(f64),
    /// Short calls and long ones.
    Bimodal {
        /// Seconds of a short call.
        short: f64,
        /// Seconds of a long call.
        long: f64,
        /// Share of long calls, 0 to 1.
        long_share: f64,
    },
    /// A heavy tail: a call longer than `x` times the least has chance `x^-shape`.
    Pareto {
        /// Seconds of the shortest call.
        least: f64,
        /// Above 1, or there is no mean; at 2 and below there is no variance.
        shape: f64,
    },
}

impl Service {
    /// Short and long calls with this mean, in seconds; a long one takes `factor` times as long.
    pub fn bimodal(mean: f64, long_share: f64, factor: f64) -> Self {
        let short = mean / (1.0 - long_share + long_share * factor);
        Self::Bimodal { short, long: short * factor, long_share }
    }

    /// A heavy tail with this mean, in seconds. `shape` is above 1.
    pub fn pareto(mean: f64, shape: f64) -> Self {
        Self::Pareto { least: mean * (shape - 1.0) / shape, shape }
    }

    /// The mean, in seconds.
    pub fn mean(&self) -> f64 {
        match *self {
            Self::Exponential(mean) | Self::Constant(mean) => mean,
            Self::Bimodal { short, long, long_share } => {
                short * (1.0 - long_share) + long * long_share
            }
            Self::Pareto { least, shape } => least * shape / (shape - 1.0),
        }
    }

    /// The work of one call, in seconds at speed 1.
    pub(crate) fn draw(&self, rng: &mut Rng) -> f64 {
        // In (0, 1]: its logarithm and its powers are finite.
        let chance = 1.0 - rng.f64();
        match *self {
            Self::Exponential(mean) => -mean * chance.ln(),
            Self::Constant(seconds) => seconds,
            Self::Bimodal { short, long, long_share } => {
                if chance <= long_share {
                    long
                } else {
                    short
                }
            }
            Self::Pareto { least, shape } => least * chance.powf(-1.0 / shape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_what_they_say() {
        let mut rng = Rng::with_seed(5);
        for service in [
            Service::Exponential(0.05),
            Service::Constant(0.05),
            Service::bimodal(0.05, 0.1, 10.0),
            Service::pareto(0.05, 2.2),
        ] {
            let sum: f64 = (0..200_000).map(|_| service.draw(&mut rng)).sum();
            let mean = sum / 200_000.0;
            assert!((service.mean() - 0.05).abs() < 1e-12);
            assert!((mean - 0.05).abs() < 0.002, "{service:?} has mean {mean}");
        }
    }
}
