//! The caller's deadline, as gRPC carries it: `grpc-timeout`, at most eight digits and a unit.
//!
//! tonic's client writes it into the request and leaves it to the transport to keep it. Time spent
//! on finding a worker counts, so every attempt sends what is left.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

const HEADER: &str = "grpc-timeout";
/// Largest value that the header takes.
const EIGHT_DIGITS: u128 = 99_999_999;

/// When the call must be over; `None` when the header is absent or not sound.
pub(crate) fn parse(headers: &HeaderMap, now: Instant) -> Option<Instant> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let value: u64 = if is_number { digits.parse().ok()? } else { return None };
    let timeout = match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    };
    now.checked_add(timeout)
}

/// Writes what is left until `deadline`.
pub(crate) fn write(headers: &mut HeaderMap, deadline: Instant, now: Instant) {
    let left = deadline.saturating_duration_since(now);
    let text = [(left.as_micros(), 'u'), (left.as_millis(), 'm')]
        .into_iter()
        .find(|(value, _)| *value <= EIGHT_DIGITS)
        .map_or_else(
            || format!("{}M", left.as_secs() / 60),
            |(value, unit)| format!("{value}{unit}"),
        );
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(HEADER, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, text.parse().unwrap());
        let now = Instant::now();
        parse(&headers, now).map(|deadline| deadline - now)
    }

    #[test]
    fn every_unit_is_read() {
        for (text, expected) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("7n", Duration::from_nanos(7)),
        ] {
            assert_eq!(parsed(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_deadline() {
        for text in ["", "S", "1", "1x", "-1S", "+1S", "123456789S", "1 S"] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_left_round_trips() {
        let now = Instant::now();
        for left in [0, 1, 99_999_999, 100_000_000, 3_600_000_000_u64] {
            let mut headers = HeaderMap::new();
            let deadline = now + Duration::from_micros(left);
            write(&mut headers, deadline, now);
            let read = parse(&headers, now).unwrap();
            assert!(read <= deadline && deadline - read < Duration::from_millis(1), "{left}");
        }
    }
}
