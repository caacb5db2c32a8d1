//! What one call asks for: a task as people write it, and how long it takes each time.

use std::{fmt, str::FromStr, time::Duration};

use clap::ValueEnum;
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use lb_proto::v1::{Burn, Echo, Primes, Sleep, Sum, task::Kind};

/// An exponential task takes at most this many times its mean, lest one draw decide a run.
const EXPONENTIAL_LONGEST: f64 = 8.0;

/// Of bimodal tasks, one in ten takes eleven times as long as the others.
const BIMODAL_LONG_PART: f64 = 0.1;
/// Times the mean: 0.9 × 0.5 + 0.1 × 5.5 = 1.
const BIMODAL_SHORT: f64 = 0.5;
/// Times the mean.
const BIMODAL_LONG: f64 = 5.5;

/// Shape of the Pareto distribution: a heavy tail whose variance would have no bound.
const PARETO_SHAPE: f64 = 1.5;
/// The longest Pareto task over the shortest, so that it has one.
const PARETO_SPAN: f64 = 100.0;

/// Longest time of a task: a mean beyond it is a mistyped unit.
const LONGEST: Duration = Duration::from_secs(600);

/// Largest payload of an echo, in bytes: the service's own limit.
const PAYLOAD_LIMIT: u32 = 1 << 20;

/// A task of the Compute service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Wait, using a slot but no CPU.
    Sleep(Duration),
    /// Use a CPU.
    Burn(Duration),
    /// Add up 1 to n.
    Sum(i64),
    /// Count the primes up to n.
    Primes(i64),
    /// Send so many bytes there and back.
    Echo(u32),
}

/// How the times of tasks differ around their mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Distribution {
    /// All alike
    #[default]
    Constant,
    /// Many short, few long, at most 8 times the mean
    Exponential,
    /// Nine of ten take half the mean, one takes 5.5 times the mean
    Bimodal,
    /// A heavy tail: most take a third of the mean, a few 37 times the mean
    Pareto,
}

impl Task {
    /// The time that varies, if it is one that takes a time.
    pub(crate) fn mean(self) -> Option<Duration> {
        match self {
            Self::Sleep(mean) | Self::Burn(mean) => Some(mean),
            Self::Sum(_) | Self::Primes(_) | Self::Echo(_) => None,
        }
    }

    /// The same task with another time.
    fn lasting(self, time: Duration) -> Self {
        match self {
            Self::Sleep(_) => Self::Sleep(time),
            Self::Burn(_) => Self::Burn(time),
            timeless => timeless,
        }
    }

    /// One draw from the distribution around this task.
    pub(crate) fn drawn(self, distribution: Distribution, random: &mut Rng) -> Self {
        match self.mean() {
            Some(mean) => self.lasting(mean.mul_f64(distribution.draw(random))),
            None => self,
        }
    }

    pub(crate) fn to_proto(self) -> Kind {
        let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        match self {
            Self::Sleep(time) => Kind::Sleep(Sleep { duration_us: microseconds(time) }),
            Self::Burn(time) => Kind::Burn(Burn { cpu_us: microseconds(time) }),
            Self::Sum(n) => Kind::Sum(Sum { n }),
            Self::Primes(n) => Kind::Primes(Primes { up_to: n }),
            Self::Echo(bytes) => Kind::Echo(Echo { payload: vec![0; bytes as usize].into() }),
        }
    }
}

impl Distribution {
    /// A factor whose mean is 1.
    fn draw(self, random: &mut Rng) -> f64 {
        match self {
            Self::Constant => 1.0,
            // 1 - [0, 1) is never 0, whose logarithm is none.
            Self::Exponential => (-(1.0 - random.f64()).ln()).min(EXPONENTIAL_LONGEST),
            Self::Bimodal if random.f64() < BIMODAL_LONG_PART => BIMODAL_LONG,
            Self::Bimodal => BIMODAL_SHORT,
            Self::Pareto => pareto(random.f64()),
        }
    }

    /// In words, after the name of a task.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Constant => "each",
            Self::Exponential => "on average, exponentially distributed",
            Self::Bimodal => "on average, one in ten eleven times as long as the others",
            Self::Pareto => "on average, with a heavy tail (Pareto, shape 1.5)",
        }
    }
}

/// The bounded Pareto distribution at this point of its inverse, scaled to a mean of 1.
fn pareto(uniform: f64) -> f64 {
    let (shape, kept) = (PARETO_SHAPE, 1.0 - PARETO_SPAN.powf(-PARETO_SHAPE));
    let mean = shape / (shape - 1.0) * (1.0 - PARETO_SPAN.powf(1.0 - shape)) / kept;
    (1.0 - uniform * kept).powf(-1.0 / shape) / mean
}

/// A text that is no task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TaskError {
    #[error(
        "{0:?} is no task: expected one such as \"sleep 50ms\", \"burn 200ms\", \"sum 1000\", \
             \"primes 1000\" or \"echo 64\" (bytes)"
    )]
    Unknown(String),
    #[error("{0:?} is no time for a task: expected one such as 50ms, at most {LONGEST:?}")]
    Time(String),
    #[error("{found:?} is no number for {task}: expected 0 to {limit}")]
    Number { task: String, found: String, limit: i64 },
}

impl FromStr for Task {
    type Err = TaskError;

    fn from_str(text: &str) -> Result<Self, TaskError> {
        let unknown = || TaskError::Unknown(text.chars().take(40).collect());
        let (name, rest) = text.trim().split_once(' ').ok_or_else(unknown)?;
        let rest = rest.trim();
        let time = || match humantime::parse_duration(rest) {
            Ok(time) if time <= LONGEST => Ok(time),
            _ => Err(TaskError::Time(rest.to_owned())),
        };
        let number = |limit: i64| match rest.parse() {
            Ok(number) if (0..=limit).contains(&number) => Ok(number),
            _ => Err(TaskError::Number { task: name.into(), found: rest.into(), limit }),
        };
        match name {
            "sleep" => time().map(Self::Sleep),
            "burn" => time().map(Self::Burn),
            "sum" => number(6_000_000_000).map(Self::Sum),
            "primes" => number(1_000_000_000).map(Self::Primes),
            "echo" => {
                let bytes = number(PAYLOAD_LIMIT.into())?;
                u32::try_from(bytes).map(Self::Echo).map_err(|_| unknown())
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sleep(time) => write!(formatter, "sleep {time:?}"),
            Self::Burn(time) => write!(formatter, "burn {time:?}"),
            Self::Sum(n) => write!(formatter, "sum {n}"),
            Self::Primes(n) => write!(formatter, "primes {n}"),
            Self::Echo(bytes) => write!(formatter, "echo {bytes}"),
        }
    }
}

impl TryFrom<String> for Task {
    type Error = TaskError;

    fn try_from(text: String) -> Result<Self, TaskError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distribution_has_the_mean() {
        for distribution in Distribution::value_variants() {
            let mut random = Rng::with_seed(3);
            let draws = (0..200_000).map(|_| distribution.draw(&mut random));
            let mean = draws.sum::<f64>() / 200_000.0;
            assert!((0.97..1.03).contains(&mean), "{distribution:?}: {mean}");
        }
    }

    #[test]
    fn a_task_reads_as_it_is_written() {
        for text in ["sleep 50ms", "burn 200ms", "sum 1000", "primes 7", "echo 64"] {
            assert_eq!(text.parse::<Task>().unwrap().to_string(), text);
        }
        let refused = |text: &str| text.parse::<Task>().unwrap_err().to_string();
        assert!(refused("sleep").starts_with("\"sleep\" is no task: expected one such as"));
        assert!(refused("fly 3").starts_with("\"fly 3\" is no task"));
        assert!(refused("sleep soon").starts_with("\"soon\" is no time for a task"));
        assert!(refused("sleep 2h").contains("at most 600s"));
        assert_eq!(refused("sum -1"), "\"-1\" is no number for sum: expected 0 to 6000000000");
        assert!(refused("echo 9999999").contains("expected 0 to 1048576"));
    }

    #[test]
    fn only_times_vary() {
        let mut random = Rng::with_seed(1);
        assert_eq!(Task::Sum(7).drawn(Distribution::Pareto, &mut random), Task::Sum(7));
        let long = Duration::from_secs(1);
        assert_eq!(Task::Burn(long).drawn(Distribution::Constant, &mut random), Task::Burn(long));
        let bimodal = Task::Sleep(long).drawn(Distribution::Bimodal, &mut random);
        assert!([500, 5500].map(Duration::from_millis).map(Task::Sleep).contains(&bimodal));
    }
}
