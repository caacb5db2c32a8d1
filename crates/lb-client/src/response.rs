//! The response on its way to the caller, watched for its end.
//!
//! The status of a call comes last, in the trailers. Whoever carries the body therefore owes the
//! balancer the outcome: on trailers, on an error, and when the caller drops the body half-read.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status, body::Body, metadata::MetadataValue};

use crate::{
    balanced::Shared,
    call::name,
    connection,
    pick::Picked,
    worker::{Worker, now_ms},
};

const STATUS: &str = "grpc-status";
/// Metadata key under which a failed call names its worker; a successful one has its
/// [`CallInfo`](crate::CallInfo).
pub const WORKER_METADATA_KEY: &str = "lb-worker";

/// Keeps the call counted until it has ended, and the session open that its outcome must take.
#[derive(Debug)]
pub(crate) struct Guard {
    picked: Picked,
    _shared: Arc<Shared>,
}

impl Guard {
    pub(crate) fn new(shared: Arc<Shared>, picked: Picked) -> Self {
        Self { picked, _shared: shared }
    }

    fn finish(mut self, code: Code) {
        if let Some(ticket) = self.picked.ticket.take() {
            ticket.settle(code);
        }
    }
}

/// Wraps a response whose end is to be reported.
pub(crate) fn guarded(
    mut response: Response<Incoming>,
    guard: Guard,
    deadline: Option<Instant>,
) -> Response<Body> {
    let mut guard = Some(guard);
    // A response without a body has its status here.
    if let Some(code) = status_code(response.headers())
        && let Some(guard) = guard.take()
    {
        let id = HeaderValue::from_str(guard.picked.worker_id().as_str());
        guard.finish(code);
        if let (Ok(id), true) = (id, code != Code::Ok) {
            response.headers_mut().insert(WORKER_METADATA_KEY, id);
        }
    }
    let deadline = deadline.filter(|_| guard.is_some());
    let timer = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
    response.map(|incoming| Body::new(ResponseBody { incoming, guard, timer }))
}

fn status_code(headers: &HeaderMap) -> Option<Code> {
    headers.get(STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// The status of a call that broke at a worker: names the worker, for people and for programs.
pub(crate) fn at(worker: &Worker, status: &Status) -> Status {
    let mut named = Status::new(status.code(), format!("{}: {}", name(worker), status.message()));
    if let Ok(id) = MetadataValue::try_from(worker.id.as_str()) {
        named.metadata_mut().insert(WORKER_METADATA_KEY, id);
    }
    named
}

struct ResponseBody {
    incoming: Incoming,
    guard: Option<Guard>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    fn finish(&mut self, code: Code) {
        self.timer = None;
        if let Some(guard) = self.guard.take() {
            guard.finish(code);
        }
    }

    fn fail(&mut self, status: &Status) -> Status {
        let Some(guard) = &self.guard else {
            return Status::new(status.code(), status.message());
        };
        let worker = guard.picked.worker();
        if status.code() == Code::Unavailable {
            worker.eject(now_ms());
        }
        let named = at(worker, status);
        self.finish(named.code());
        named
    }

    /// The deadline holds for the whole call, not only for the head of the response.
    fn is_overdue(&mut self, context: &mut Context<'_>) -> bool {
        self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready())
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.finish(status_code(trailers).unwrap_or(Code::Unknown));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(this.fail(&connection::broken(&error)))))
            }
            Poll::Ready(None) => {
                this.finish(Code::Unknown);
                Poll::Ready(None)
            }
            Poll::Pending if this.is_overdue(context) => {
                let overdue = Status::deadline_exceeded("deadline exceeded during the response");
                Poll::Ready(Some(Err(this.fail(&overdue))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.guard.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.incoming.size_hint()
    }
}
