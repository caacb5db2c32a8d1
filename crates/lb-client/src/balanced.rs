//! The channel itself: a service that any generated client can be built on.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use lb_core::id::BalancerId;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, body::Body};
use tower_service::Service;

use crate::{
    balancers, builder::Builder, call, pick::Picked, search::FoundBalancers, state::State,
};

/// What all clones share; the last one stops the tasks.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: Arc<State>,
    _tasks: [AbortOnDropHandle<()>; 4],
}

impl Shared {
    pub(crate) fn start(state: State, found: FoundBalancers) -> Arc<Self> {
        let state = Arc::new(state);
        let (publisher, known) = watch::channel(Vec::new());
        let (connect, sweep) = (Arc::clone(&state), Arc::clone(&state));
        let tasks = [
            tokio::spawn(found.publish(publisher)),
            tokio::spawn(async move { balancers::run(&connect, known).await }),
            tokio::spawn(async move { balancers::sweep(&sweep).await }),
            tokio::spawn(lb_tls::follow(state.wanted.tls.clone())),
        ];
        Arc::new(Self { state, _tasks: tasks.map(AbortOnDropHandle::new) })
    }
}

/// A channel to all workers of one service, balanced call by call.
///
/// Cheap to clone; clones share connections, session and list. Calls may be made from any task.
/// Errors are [`Status`]: UNAVAILABLE when nobody can be reached or the connection broke during
/// the call, DEADLINE_EXCEEDED when the caller's `grpc-timeout` has passed, and whatever else the
/// balancer or the worker answered.
#[derive(Debug, Clone)]
pub struct Balanced {
    shared: Arc<Shared>,
    affinity: Option<Arc<str>>,
}

impl Balanced {
    /// Starts to describe a channel to the workers that offer `service`, a fully qualified gRPC
    /// service name such as `lb.v1.Compute`.
    pub fn builder(service: impl Into<String>) -> Builder {
        Builder::new(service.into())
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, affinity: None }
    }

    /// A clone whose calls go to the same worker where the policy supports it. The key has at most
    /// 256 bytes; a longer one is refused with INVALID_ARGUMENT.
    #[must_use]
    pub fn with_affinity(&self, key: impl Into<Arc<str>>) -> Self {
        Self { shared: Arc::clone(&self.shared), affinity: Some(key.into()) }
    }

    /// Picks a worker without calling it. Dropping the pick gives it back.
    ///
    /// # Errors
    /// What a call would fail with: UNAVAILABLE, or what the balancer answered.
    pub async fn pick(&self) -> Result<Picked, Status> {
        self.shared.state.pick(&[], self.affinity.as_ref()).await
    }

    /// Calls and picks of this channel that have not ended.
    pub fn in_flight(&self) -> u32 {
        self.shared.state.workers.outstanding()
    }

    /// The balancer that is asked at the moment; `None` while there is none and picks are local.
    pub fn balancer_id(&self) -> Option<BalancerId> {
        self.shared.state.balancer_id()
    }
}

impl Service<Request<Body>> for Balanced {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(call::run(Arc::clone(&self.shared), self.affinity.clone(), request))
    }
}
