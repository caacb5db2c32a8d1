//! Answers the layer gives itself, without asking the service.

use http::Response;
use tonic::{Status, body::Body, metadata::MetadataValue};

use super::body::CountedBody;
use crate::load::{Full, Load};

/// Tells a client when it may retry (gRFC A6).
pub(super) const PUSHBACK_KEY: &str = "grpc-retry-pushback-ms";

pub(super) fn refused(load: &Load, full: Full) -> Response<CountedBody> {
    let (slots, queue) = (load.slots(), load.queue());
    let mut status = Status::resource_exhausted(format!(
        "worker is full: {slots} calls run (limit: slots) and {queue} wait (limit: queue)"
    ));
    let pushback = u64::try_from(full.retry_after.as_millis()).unwrap_or(u64::MAX);
    status.metadata_mut().insert(PUSHBACK_KEY, MetadataValue::from(pushback));
    failed(&status)
}

pub(super) fn failed(status: &Status) -> Response<CountedBody> {
    status.clone().into_http::<Body>().map(CountedBody::of_the_layer)
}
