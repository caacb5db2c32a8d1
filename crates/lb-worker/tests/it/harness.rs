//! A running worker whose calls end when the test says so.

use std::sync::Arc;

use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::Once;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes, transport::Channel};

use lb_proto::v1::{
    self, Echo, ResultChunk, TaskResult,
    compute_client::ComputeClient,
    compute_server::{Compute, ComputeServer},
    task,
};
use lb_worker::{
    Builder, CallInfo, Scope, ServeError, Worker, compute::ComputeService, load::Load,
};

use crate::fake_registry::{FakeRegistry, PATIENCE};

pub(crate) const SERVICE: &str = "lb.v1.Compute";

/// Answers a call for each permit that the test adds.
#[derive(Clone)]
pub(crate) struct Gated {
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) calls: Arc<watch::Sender<Seen>>,
}

/// What has become of the calls that ran.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) entered: usize,
    pub(crate) dropped: usize,
}

struct Entered(Arc<watch::Sender<Seen>>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.send_modify(|seen| seen.dropped += 1);
    }
}

impl Gated {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(0)), calls: Arc::default() }
    }

    pub(crate) fn release(&self, calls: usize) {
        self.permits.add_permits(calls);
    }

    /// Returns when `count` calls have begun to run.
    pub(crate) async fn entered(&self, count: usize) {
        self.wait(|seen| seen.entered >= count).await;
    }

    pub(crate) async fn wait(&self, wanted: impl FnMut(&Seen) -> bool) {
        let mut calls = self.calls.subscribe();
        timeout(PATIENCE, calls.wait_for(wanted)).await.expect("calls do not come").unwrap();
    }
}

#[tonic::async_trait]
impl Compute for Gated {
    async fn run(&self, request: Request<v1::Task>) -> Result<Response<TaskResult>, Status> {
        self.calls.send_modify(|seen| seen.entered += 1);
        let _entered = Entered(Arc::clone(&self.calls));
        let info = request.extensions().get::<CallInfo>().expect("the layer tells").clone();
        self.permits.acquire().await.unwrap().forget();
        match request.into_inner().kind {
            None => Err(Status::invalid_argument("no task")),
            Some(_) => Ok(Response::new(TaskResult {
                queued_us: info.queued.as_micros().try_into().unwrap(),
                ..TaskResult::default()
            })),
        }
    }

    type RunStreamStream = Once<Result<ResultChunk, Status>>;

    async fn run_stream(
        &self,
        _: Request<v1::Task>,
    ) -> Result<Response<Self::RunStreamStream>, Status> {
        Ok(Response::new(tokio_stream::once(Err(Status::data_loss("on purpose")))))
    }
}

/// A worker that serves.
pub(crate) struct Running {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) load: Load,
    pub(crate) shutdown: CancellationToken,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) task: JoinHandle<Result<(), ServeError>>,
}

/// A worker on the loopback, for one balancer given by hand.
pub(crate) fn builder(registry: &FakeRegistry) -> Builder {
    Worker::builder(SERVICE)
        .id("w1")
        .scope(Scope::Loopback)
        .balancers([registry.address.to_string()])
}

pub(crate) fn gated(builder: Builder) -> (Running, Gated) {
    let service = Gated::new();
    (start(builder, Routes::new(ComputeServer::new(service.clone()))), service)
}

pub(crate) fn computing(builder: Builder) -> Running {
    let service = ComputeService::new("w1".parse().unwrap());
    start(builder, Routes::new(ComputeServer::new(service)))
}

fn start(builder: Builder, routes: Routes) -> Running {
    let worker = builder.build().unwrap();
    let shutdown = CancellationToken::new();
    Running {
        address: worker.address(),
        load: worker.load().clone(),
        ready: worker.readiness(),
        shutdown: shutdown.clone(),
        task: tokio::spawn(worker.serve(routes, shutdown)),
    }
}

impl Running {
    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn client(&self) -> ComputeClient<Channel> {
        ComputeClient::new(self.channel().await)
    }

    /// Returns when the worker has stopped.
    pub(crate) async fn stopped(self) {
        timeout(PATIENCE, self.task).await.expect("the worker does not stop").unwrap().unwrap();
    }

    /// Returns when the counters are as wanted.
    pub(crate) async fn load_where(&self, wanted: impl Fn(&lb_worker::load::LoadView) -> bool) {
        let mut changes = self.load.changes();
        let waiting = async {
            while !wanted(&self.load.view(tokio::time::Instant::now())) {
                changes.changed().await.unwrap();
            }
        };
        let outcome = timeout(PATIENCE, waiting).await;
        outcome.unwrap_or_else(|_| panic!("{:?}", self.load.view(tokio::time::Instant::now())));
    }
}

/// A request with a token, or without one for "".
pub(crate) fn request(token: &str) -> Request<v1::Task> {
    let mut request = task(task::Kind::Echo(Echo::default()));
    if !token.is_empty() {
        request.metadata_mut().insert("lb-token", token.parse().unwrap());
    }
    request
}

pub(crate) fn task(kind: task::Kind) -> Request<v1::Task> {
    Request::new(v1::Task { kind: Some(kind) })
}

/// A call on a task of its own.
pub(crate) fn spawn_call(
    client: &ComputeClient<Channel>,
    request: Request<v1::Task>,
) -> JoinHandle<Result<Response<TaskResult>, Status>> {
    let mut client = client.clone();
    tokio::spawn(async move { client.run(request).await })
}
