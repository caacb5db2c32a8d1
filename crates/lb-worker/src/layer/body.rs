//! The answer of a call, on its way out. While it exists, the call is inside the worker.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body};

use lb_tls::Entered;

use super::deadline::Deadline;
use crate::{
    load::{CallCount, CallEnd},
    orca::Reports,
};

const STATUS_KEY: &str = "grpc-status";

/// What ends a call from outside.
pub(super) struct Ending {
    deadline: Deadline,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Ending {
    pub(super) fn new(deadline: Deadline, cut: &CancellationToken) -> Self {
        Self { deadline, cut: Box::pin(cut.clone().cancelled_owned()) }
    }

    pub(super) async fn wait(&mut self) -> Status {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if self.deadline.poll_passed(context).is_ready() {
            return Poll::Ready(Status::deadline_exceeded("the caller's deadline has passed"));
        }
        ready!(self.cut.as_mut().poll(context));
        Poll::Ready(Status::unavailable("the worker has stopped before the call ended"))
    }
}

/// What a call holds while it is inside.
pub(super) struct Inside {
    // In this order: whoever gets the slot next finds the counts right already.
    call: CallCount,
    _slot: OwnedSemaphorePermit,
    _ended: DropGuard,
    /// What goes into its trailers.
    reports: Option<Reports>,
}

impl Inside {
    pub(super) fn new(
        call: CallCount,
        slot: OwnedSemaphorePermit,
        ended: DropGuard,
        reports: Option<Reports>,
    ) -> Self {
        Self { call, _slot: slot, _ended: ended, reports }
    }
}

/// A response body that counts its call out when it has ended or is dropped.
pub struct CountedBody {
    inner: Body,
    inside: Option<Inside>,
    ending: Option<Ending>,
    /// Of a health check or a reflection, which is counted apart.
    _probe: Option<Entered>,
}

/// Nothing: the body of an answer that was given before the layer.
impl Default for CountedBody {
    fn default() -> Self {
        Self { inner: Body::empty(), inside: None, ending: None, _probe: None }
    }
}

impl CountedBody {
    pub(super) fn counted(
        response: Response<Body>,
        inside: Inside,
        ending: Ending,
    ) -> Response<Self> {
        // An error without a body has its status among the headers.
        let early_status = code(response.headers());
        response.map(|inner| {
            let mut body = Self { inner, inside: Some(inside), ending: Some(ending), _probe: None };
            if let Some(code) = early_status {
                body.finish(CallEnd::of(code));
            }
            body
        })
    }

    pub(super) fn uncounted(inner: Body, ending: Ending, probe: Entered) -> Self {
        Self { inner, inside: None, ending: Some(ending), _probe: Some(probe) }
    }

    pub(super) fn of_the_layer(inner: Body) -> Self {
        Self { inner, inside: None, ending: None, _probe: None }
    }

    fn finish(&mut self, end: CallEnd) {
        self.ending = None;
        if let Some(inside) = self.inside.take() {
            inside.call.finish(end);
        }
    }

    /// The rest of the answer is dropped; its place is taken by trailers with `status`.
    fn cut_short(&mut self, status: &Status) -> Option<HeaderMap> {
        self.inner = Body::empty();
        self.finish(CallEnd::of(status.code()));
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).is_ok().then_some(trailers)
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(STATUS_KEY).map(|code| Code::from_bytes(code.as_bytes()))
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some(Poll::Ready(status)) = this.ending.as_mut().map(|ending| ending.poll(context)) {
            return Poll::Ready(
                this.cut_short(&status).map(|trailers| Ok(Frame::trailers(trailers))),
            );
        }
        let mut frame = ready!(Pin::new(&mut this.inner).poll_frame(context));
        match &mut frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    let reports = this.inside.as_mut().and_then(|inside| inside.reports.take());
                    if let Some(reports) = reports {
                        reports.add_to(trailers);
                    }
                    this.finish(CallEnd::of(code(trailers).unwrap_or(Code::Unknown)));
                }
            }
            Some(Err(_)) | None => this.finish(CallEnd::Error),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
