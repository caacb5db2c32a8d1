//! Answers the layer gives itself, without asking the service.

use http::Response;
use tonic::{Status, body::Body};

use lb_proto::retry;

use super::body::CountedBody;
use crate::load::{Full, Load};

pub(super) fn refused(load: &Load, full: Full) -> Response<CountedBody> {
    let (slots, queue) = (load.slots(), load.queue());
    let message =
        format!("worker is full: {slots} calls run (limit: slots) and {queue} wait (limit: queue)");
    failed(&retry::exhausted(message, full.retry_after))
}

pub(super) fn failed(status: &Status) -> Response<CountedBody> {
    status.clone().into_http::<Body>().map(CountedBody::of_the_layer)
}
