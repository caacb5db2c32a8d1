//! Requests that nothing else counts: those whose message has not come, and streams of health checks and reflection.
//!
//! Every request holds memory from its first byte on, and a peer can begin many without going on. A session, a watcher or a
//! registration soon takes a place of its own kind; a unary call is over when its message has come. So this counts a request of
//! an address until its handler has its message, and a probe until its answer has ended.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::{Either, ready};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

use lb_tls::{Entered, Peer};

/// Requests of one address that may wait for their message, together with its probes. A client that makes a thousand picks at
/// once has so many on their way only if this process stands still.
const LIMIT: usize = 4096;

/// Paths of services that tell about the server.
const PROBES: &str = "/grpc.";

/// Counts requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requests;

impl<S> Layer<S> for Requests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted(inner)
    }
}

/// The service that [`Requests`] makes.
#[derive(Debug, Clone)]
pub(crate) struct Counted<S>(S);

type Answer = Result<Response<Body>, Infallible>;

impl<S, B> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Answer> + Send>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        let Some(entered) = peer.map_or(Some(Entered::default()), |peer| peer.enter(LIMIT)) else {
            if let Some(peer) = peer {
                peer.in_vain();
            }
            let text = format!("{LIMIT} requests of this address wait for their messages already");
            let refused = Status::resource_exhausted(text).into_http();
            return Either::Right(Box::pin(ready(Ok(refused))));
        };
        if request.uri().path().starts_with(PROBES) {
            let answer = self.0.call(request);
            return Either::Right(Box::pin(async move {
                let held = |inner| Body::new(Held { inner, _entered: entered });
                Ok(answer.await?.map(held))
            }));
        }
        // Handlers let go of the extensions when they take the message.
        request.extensions_mut().insert(entered);
        Either::Left(self.0.call(request))
    }
}

/// The answer to a probe.
struct Held {
    inner: Body,
    _entered: Entered,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
