//! "Not now, but in a while": how a full server says it, and how a client reads it.
//!
//! The status is RESOURCE_EXHAUSTED, and its metadata say when it is worth trying again: in milliseconds under [`PUSHBACK_KEY`] (gRFC
//! A6), and as `google.rpc.RetryInfo` in `grpc-status-details-bin`, which other libraries know. With either a server also says that
//! it has not looked at the call, so that it is safe to send it again.

use std::time::Duration;

use http::HeaderMap;
use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Metadata key of the time after which a call may be sent again, in milliseconds; negative: not at all.
pub const PUSHBACK_KEY: &str = "grpc-retry-pushback-ms";

const STATUS_KEY: &str = "grpc-status";

/// A refusal for lack of room, with the time after which it is worth trying again.
pub fn exhausted(message: impl Into<String>, retry_after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    let mut status = Status::with_error_details(Code::ResourceExhausted, message, details);
    let milliseconds = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    status.metadata_mut().insert(PUSHBACK_KEY, MetadataValue::from(milliseconds));
    status
}

/// The hint of a response that is a refusal for lack of room and nothing else; `None` for every other response, and for a refusal
/// that forbids to try again or says nothing of it: then the service itself may have refused, after it had begun.
pub fn hint(headers: &HeaderMap) -> Option<Duration> {
    let code = headers.get(STATUS_KEY).map(|code| Code::from_bytes(code.as_bytes()))?;
    if code != Code::ResourceExhausted {
        return None;
    }
    let milliseconds = headers.get(PUSHBACK_KEY)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(status: &Status) -> HeaderMap {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        headers
    }

    #[test]
    fn a_hint_is_read_as_it_was_written() {
        let status = exhausted("full", Duration::from_millis(250));
        assert_eq!(hint(&headers(&status)), Some(Duration::from_millis(250)));
        let info = status.get_details_retry_info().unwrap();
        assert_eq!(info.retry_delay, Some(Duration::from_millis(250)));
    }

    #[test]
    fn no_other_refusal_is_one_to_repeat() {
        assert_eq!(hint(&headers(&Status::resource_exhausted("quota"))), None);
        let mut never = exhausted("full", Duration::ZERO);
        never.metadata_mut().insert(PUSHBACK_KEY, "-1".parse().unwrap());
        assert_eq!(hint(&headers(&never)), None);
        let mut failed = Status::unavailable("gone");
        failed.metadata_mut().insert(PUSHBACK_KEY, "10".parse().unwrap());
        assert_eq!(hint(&headers(&failed)), None);
    }
}
