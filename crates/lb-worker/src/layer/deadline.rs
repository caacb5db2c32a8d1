//! The caller's deadline, as the `grpc-timeout` header gives it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::{Instant, Sleep};

const HEADER: &str = "grpc-timeout";
/// Most digits the gRPC specification allows.
const DIGIT_LIMIT: usize = 8;

/// When a call must have ended, if its caller said so.
pub(super) struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub(super) fn none() -> Self {
        Self { sleep: None }
    }

    /// A header that cannot be read counts as no deadline, as it does in tonic.
    pub(super) fn of(headers: &HeaderMap, arrived: Instant) -> Self {
        let timeout = headers.get(HEADER).and_then(|value| parse(value.to_str().ok()?));
        let at = timeout.and_then(|timeout| arrived.checked_add(timeout));
        Self { sleep: at.map(|at| Box::pin(tokio::time::sleep_until(at))) }
    }

    /// Ready when the deadline has passed.
    ///
    /// Compares with the clock before it asks the timer. tonic watches the same deadline from outside, with a timer of
    /// its own that may be the one that awakes the task; then too the answer must be ours.
    pub(super) fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(sleep) = &mut self.sleep else { return Poll::Pending };
        if sleep.deadline() <= Instant::now() {
            return Poll::Ready(());
        }
        sleep.as_mut().poll(context)
    }
}

fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.len().checked_sub(1)?;
    let (digits, unit) = text.split_at_checked(unit_at)?;
    if digits.len() > DIGIT_LIMIT || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_specification_allows() {
        assert_eq!(parse("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(parse("3m"), Some(Duration::from_millis(3)));
        assert_eq!(parse("4u"), Some(Duration::from_micros(4)));
        assert_eq!(parse("5n"), Some(Duration::from_nanos(5)));
        for bad in ["", "S", "1", "-1S", "+1S", "1.5S", "100000000S", "1x", "1é"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
