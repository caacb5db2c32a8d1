//! What can be asked for, checked; and what comes out.

use std::time::{Duration, Instant};

use bytes::Bytes;

use lb_proto::v1::{self, task::Kind};

use super::{
    burn::burn,
    cancel::{Cancel, Cancelled},
    factorial::factorial,
    primes::count_primes,
    sum::sum,
};

/// Nobody waits for a trial task longer than an hour.
pub const SLEEP_LIMIT: Duration = Duration::from_secs(3600);
/// Minutes of a slot are enough for any measurement.
pub const BURN_LIMIT: Duration = Duration::from_secs(600);
/// The sum of 1 to this is the largest round one that fits into 64 bits.
pub const SUM_LIMIT: u64 = 6_000_000_000;
/// Some seconds of work: the product and its decimal digits, 2.6 million of them.
pub const FACTORIAL_LIMIT: u32 = 500_000;
/// Some seconds of work.
pub const PRIMES_LIMIT: u32 = 1_000_000_000;
/// Text of a reverse task and payload of an echo, in bytes: well below the 4 MiB that gRPC takes in one message.
pub const PAYLOAD_LIMIT: usize = 1024 * 1024;

/// A task whose every value is in range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Wait.
    Sleep(Duration),
    /// Sum of 1 to n.
    Sum(u64),
    /// n!
    Factorial(u32),
    /// A text backwards.
    Reverse(String),
    /// Use CPU.
    Burn(Duration),
    /// Count the primes up to n.
    Primes(u32),
    /// Give back a payload.
    Echo(Bytes),
}

/// A task that is not acceptable, and what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// The oneof is empty, or holds a task that this version does not know.
    #[error(
        "task is not set or not known: expected one of sleep, sum, factorial, reverse, burn, primes, echo"
    )]
    Missing,
    /// A number is out of range.
    #[error("{field} is {found}: expected {expected}")]
    Range {
        /// The field's name in the protocol.
        field: &'static str,
        /// What it held.
        found: i128,
        /// What was expected.
        expected: String,
    },
    /// A text or payload has the wrong length.
    #[error("{field} has {found} bytes: expected {least} to {PAYLOAD_LIMIT}")]
    Length {
        /// The field's name in the protocol.
        field: &'static str,
        /// How long it was.
        found: usize,
        /// The least length.
        least: usize,
    },
}

/// What a task results in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of sum and primes.
    Number(u64),
    /// Of factorial and reverse.
    Text(String),
    /// Of sleep and burn.
    Elapsed(Duration),
    /// Of echo.
    Payload(Bytes),
}

impl Task {
    /// Checks a request.
    ///
    /// # Errors
    /// Names the field, what it held and what was expected.
    pub fn parse(task: v1::Task) -> Result<Self, TaskError> {
        Ok(match task.kind.ok_or(TaskError::Missing)? {
            Kind::Sleep(sleep) => {
                Self::Sleep(duration("sleep.duration_us", sleep.duration_us, SLEEP_LIMIT)?)
            }
            Kind::Sum(sum) => Self::Sum(integer("sum.n", sum.n, SUM_LIMIT)?),
            Kind::Factorial(task) => {
                Self::Factorial(integer("factorial.n", task.n, FACTORIAL_LIMIT)?)
            }
            Kind::Reverse(reverse) => {
                length("reverse.text", reverse.text.len(), 1)?;
                Self::Reverse(reverse.text)
            }
            Kind::Burn(burn) => Self::Burn(duration("burn.cpu_us", burn.cpu_us, BURN_LIMIT)?),
            Kind::Primes(primes) => {
                Self::Primes(integer("primes.up_to", primes.up_to, PRIMES_LIMIT)?)
            }
            Kind::Echo(echo) => {
                length("echo.payload", echo.payload.len(), 0)?;
                Self::Echo(echo.payload)
            }
        })
    }

    /// Whether the task needs a thread of its own.
    pub fn needs_thread(&self) -> bool {
        !matches!(self, Self::Sleep(_) | Self::Echo(_))
    }

    /// Does the work on this thread.
    ///
    /// # Errors
    /// [`Cancelled`] soon after nobody waits for the result any more.
    pub fn run(self, cancel: &Cancel) -> Result<Value, Cancelled> {
        cancel.check()?;
        let started = Instant::now();
        Ok(match self {
            Self::Sum(n) => Value::Number(sum(n, cancel)?),
            Self::Factorial(n) => Value::Text(factorial(n, cancel)?),
            Self::Reverse(text) => Value::Text(text.chars().rev().collect()),
            Self::Primes(up_to) => Value::Number(count_primes(up_to, cancel)?),
            Self::Echo(payload) => Value::Payload(payload),
            Self::Burn(cpu) => {
                burn(cpu, cancel)?;
                Value::Elapsed(started.elapsed())
            }
            Self::Sleep(duration) => {
                std::thread::sleep(duration);
                Value::Elapsed(started.elapsed())
            }
        })
    }
}

fn integer<T>(field: &'static str, found: i64, limit: T) -> Result<T, TaskError>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display + Copy,
{
    match T::try_from(found) {
        Ok(value) if value <= limit => Ok(value),
        _ => {
            Err(TaskError::Range { field, found: found.into(), expected: format!("0 to {limit}") })
        }
    }
}

fn duration(field: &'static str, found_us: u64, limit: Duration) -> Result<Duration, TaskError> {
    let duration = Duration::from_micros(found_us);
    if duration <= limit {
        return Ok(duration);
    }
    let expected = format!("0 to {} (microseconds)", limit.as_micros());
    Err(TaskError::Range { field, found: found_us.into(), expected })
}

fn length(field: &'static str, found: usize, least: usize) -> Result<(), TaskError> {
    if (least..=PAYLOAD_LIMIT).contains(&found) {
        return Ok(());
    }
    Err(TaskError::Length { field, found, least })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: Kind) -> String {
        Task::parse(v1::Task { kind: Some(kind) }).unwrap_err().to_string()
    }

    #[test]
    fn each_wrong_value_is_named() {
        assert_eq!(
            Task::parse(v1::Task::default()).unwrap_err().to_string(),
            "task is not set or not known: expected one of sleep, sum, factorial, reverse, burn, primes, echo"
        );
        assert_eq!(
            refusal(Kind::Factorial(v1::Factorial { n: -1 })),
            "factorial.n is -1: expected 0 to 500000"
        );
        assert_eq!(
            refusal(Kind::Factorial(v1::Factorial { n: 500_001 })),
            "factorial.n is 500001: expected 0 to 500000"
        );
        assert_eq!(
            refusal(Kind::Sum(v1::Sum { n: i64::MAX })),
            "sum.n is 9223372036854775807: expected 0 to 6000000000"
        );
        assert_eq!(
            refusal(Kind::Primes(v1::Primes { up_to: -5 })),
            "primes.up_to is -5: expected 0 to 1000000000"
        );
        assert_eq!(
            refusal(Kind::Sleep(v1::Sleep { duration_us: u64::MAX })),
            "sleep.duration_us is 18446744073709551615: expected 0 to 3600000000 (microseconds)"
        );
        assert_eq!(
            refusal(Kind::Burn(v1::Burn { cpu_us: 600_000_001 })),
            "burn.cpu_us is 600000001: expected 0 to 600000000 (microseconds)"
        );
        assert_eq!(
            refusal(Kind::Reverse(v1::Reverse::default())),
            "reverse.text has 0 bytes: expected 1 to 1048576"
        );
        assert_eq!(
            refusal(Kind::Reverse(v1::Reverse { text: "x".repeat(PAYLOAD_LIMIT + 1) })),
            "reverse.text has 1048577 bytes: expected 1 to 1048576"
        );
        assert_eq!(
            refusal(Kind::Echo(v1::Echo { payload: vec![0; PAYLOAD_LIMIT + 1].into() })),
            "echo.payload has 1048577 bytes: expected 0 to 1048576"
        );
    }

    #[test]
    fn texts_turn_round_by_characters() {
        let reverse = Task::Reverse("añ→🙂".into());
        assert_eq!(reverse.run(&Cancel::default()), Ok(Value::Text("🙂→ña".into())));
    }

    #[test]
    fn what_nobody_waits_for_is_not_begun() {
        let token = tokio_util::sync::CancellationToken::new();
        token.cancel();
        assert_eq!(Task::Sleep(SLEEP_LIMIT).run(&Cancel::new(token)), Err(Cancelled));
    }
}
