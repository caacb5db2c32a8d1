//! Stands around the whole gRPC server and sees every call come and go.
//!
//! A call is counted when it arrives, waits until one of the slots is free, runs, and is counted out when the last byte
//! of its answer is gone or the caller is. At most `slots` calls run and at most `queue` wait; one more
//! is answered `RESOURCE_EXHAUSTED`, and told when to come back ([`lb_proto::retry`]). Health checks,
//! reflection and reports of load ([`is_probe`]) are neither counted nor queued: a full worker must still answer them.
//!
//! Calls that arrive while the worker drains are served like any other: they were picked before the balancer knew.
//!
//! The caller's deadline (`grpc-timeout`) ends a call here, with `DEADLINE_EXCEEDED`, also while it waits and while its
//! answer is being streamed. tonic's own server would answer `CANCELLED`, and watches over the time until the response
//! headers only.

mod body;
mod deadline;
mod response;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, transport::server::TcpConnectInfo};
use tower_layer::Layer;
use tower_service::Service;

use lb_core::token::{METADATA_KEY, TokenView};
use lb_tls::{Entered, Peer};

pub use self::body::CountedBody;
use self::{body::Ending, deadline::Deadline};
use crate::{
    load::{CallEnd, Load},
    orca::Reports,
};

/// Paths of services that tell about the server and do no work.
const PROBES: [&str; 3] = ["/grpc.health.", "/grpc.reflection.", "/xds.service.orca."];

/// Such calls of one address at once. They take no slot, so they need a limit of their own; an address has a
/// few, and watches.
const PROBES_LIMIT: usize = 1024;

/// Whether a request path belongs to health checking, reflection or reports of load.
pub fn is_probe(path: &str) -> bool {
    PROBES.iter().any(|prefix| path.starts_with(prefix))
}

/// What the layer tells the handler of a call, as an extension of the request.
#[derive(Debug, Clone)]
pub struct CallInfo {
    /// How long the call waited for its slot.
    pub queued: Duration,
    /// Cancelled when the call has ended, however it ended: work still going on for it is in vain.
    pub ended: CancellationToken,
}

/// Counts and admits calls. One per server; see the module's story.
#[derive(Debug, Clone)]
pub struct LoadLayer {
    gate: Arc<Gate>,
}

/// What all calls share.
#[derive(Debug)]
struct Gate {
    load: Load,
    /// What calls without a token are told of the load.
    reports: Option<Reports>,
    cut_probes: CancellationToken,
    cut_calls: CancellationToken,
}

impl LoadLayer {
    /// A layer that counts into `load` and keeps its limits.
    pub fn new(load: Load) -> Self {
        let (cut_probes, cut_calls) = (CancellationToken::new(), CancellationToken::new());
        Self { gate: Arc::new(Gate { load, reports: None, cut_probes, cut_calls }) }
    }

    /// The same, and calls without a token are told the load in their trailers. Before it is cloned.
    pub(crate) fn telling(self, reports: Reports) -> Self {
        let Gate { load, cut_probes, cut_calls, .. } = &*self.gate;
        let (load, cut_probes, cut_calls) = (load.clone(), cut_probes.clone(), cut_calls.clone());
        Self { gate: Arc::new(Gate { load, reports: Some(reports), cut_probes, cut_calls }) }
    }

    /// Ends every health and reflection stream with `UNAVAILABLE`; left alone, they keep a stopping server up for ever.
    pub fn cut_probes(&self) {
        self.gate.cut_probes.cancel();
    }

    /// Ends every call with `UNAVAILABLE`, at once.
    pub fn cut_calls(&self) {
        self.gate.cut_calls.cancel();
    }
}

impl<S> Layer<S> for LoadLayer {
    type Service = LoadService<S>;

    fn layer(&self, inner: S) -> LoadService<S> {
        LoadService { inner, gate: Arc::clone(&self.gate) }
    }
}

/// The service that [`LoadLayer`] makes.
#[derive(Debug, Clone)]
pub struct LoadService<S> {
    inner: S,
    gate: Arc<Gate>,
}

type Answer = Result<Response<CountedBody>, Infallible>;

impl<S> Service<Request<Body>> for LoadService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<CountedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone that was polled ready must be the one that is called.
        let fresh = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, fresh);
        let gate = Arc::clone(&self.gate);
        if is_probe(request.uri().path()) {
            return Box::pin(probe(gate, inner, request));
        }
        // Read here and not in the future, so that our deadline is never later than tonic's.
        let arrived = Instant::now();
        Box::pin(serve(gate, inner, request, arrived))
    }
}

async fn probe<S>(gate: Arc<Gate>, mut inner: S, request: Request<Body>) -> Answer
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let peer = request.extensions().get::<Peer>();
    let Some(entered) = peer.map_or(Some(Entered::default()), |peer| peer.enter(PROBES_LIMIT))
    else {
        if let Some(peer) = peer {
            peer.in_vain();
        }
        let text = format!("this address has {PROBES_LIMIT} health checks and reflections already");
        return Ok(response::failed(&Status::resource_exhausted(text)));
    };
    let response = inner.call(request).await?;
    let ending = Ending::new(Deadline::none(), &gate.cut_probes);
    Ok(response.map(|body| CountedBody::uncounted(body, ending, entered)))
}

async fn serve<S>(
    gate: Arc<Gate>,
    mut inner: S,
    mut request: Request<Body>,
    arrived: Instant,
) -> Answer
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let token = token(&request);
    let reports = gate.reports.as_ref().filter(|_| token.is_none()).cloned();
    let mut call = match gate.load.arrive(token, arrived) {
        Ok(call) => call,
        Err(full) => return Ok(response::refused(&gate.load, full)),
    };
    let mut ending = Ending::new(Deadline::of(request.headers(), arrived), &gate.cut_calls);
    let ended = CancellationToken::new();
    let ended_guard = ended.clone().drop_guard();
    let answer = async {
        // Waiting is fair, and a caller who gives up leaves the queue.
        let slot = gate.load.room().acquire_owned().await.expect("the slots are never closed");
        let started = Instant::now();
        call.start(started);
        request.extensions_mut().insert(CallInfo { queued: started - arrived, ended });
        tell_addresses(&mut request);
        let Ok(response) = inner.call(request).await;
        (response, slot)
    };
    let finished: Result<_, Status> = tokio::select! {
        biased;
        answer = answer => Ok(answer),
        status = ending.wait() => Err(status),
    };
    Ok(match finished {
        Ok((response, slot)) => {
            let inside = body::Inside::new(call, slot, ended_guard, reports);
            CountedBody::counted(response, inside, ending)
        }
        Err(status) => {
            call.finish(CallEnd::of(status.code()));
            response::failed(&status)
        }
    })
}

/// Where tonic looks for them when a handler asks (`Request::remote_addr`).
fn tell_addresses(request: &mut Request<Body>) {
    if let Some(&Peer { address: remote_addr, local_address: local_addr, .. }) =
        request.extensions().get()
    {
        request.extensions_mut().insert(TcpConnectInfo { local_addr, remote_addr });
    }
}

fn token(request: &Request<Body>) -> Option<TokenView<'_>> {
    request.headers().get(METADATA_KEY)?.to_str().ok().and_then(TokenView::parse)
}
