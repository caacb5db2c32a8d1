//! A worker that stands beside a service which knows nothing of it.

use std::{net::SocketAddr, pin::Pin, process::Stdio};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

use lb_proto::v1::{LoadReport, WorkerState};
use lb_worker::{
    Scope, ServeError, Worker,
    attach::Health,
    orca::{
        IN_FLIGHT, OrcaLoadReport, OrcaLoadReportRequest,
        open_rca_service_server::{OpenRcaService, OpenRcaServiceServer},
    },
};

use crate::fake_registry::{FakeRegistry, PATIENCE, Stream as Registered};

/// Says of its load what the test tells it to.
struct Says(watch::Sender<Option<mpsc::Sender<Result<OrcaLoadReport, Status>>>>);

#[tonic::async_trait]
impl OpenRcaService for Says {
    type StreamCoreMetricsStream =
        Pin<Box<dyn Stream<Item = Result<OrcaLoadReport, Status>> + Send>>;

    async fn stream_core_metrics(
        &self,
        _: Request<OrcaLoadReportRequest>,
    ) -> Result<Response<Self::StreamCoreMetricsStream>, Status> {
        let (sender, reports) = mpsc::channel(16);
        self.0.send_replace(Some(sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(reports))))
    }
}

/// A service of somebody else's.
struct Foreign {
    address: SocketAddr,
    health: HealthReporter,
    says: watch::Receiver<Option<mpsc::Sender<Result<OrcaLoadReport, Status>>>>,
    _server: JoinHandle<()>,
}

impl Foreign {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (health, health_service) = tonic_health::server::health_reporter();
        let (sender, says) = watch::channel(None);
        let serving = Server::builder()
            .add_service(health_service)
            .add_service(OpenRcaServiceServer::new(Says(sender)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, health, says, _server: server }
    }

    async fn is(&self, service: &str, status: ServingStatus) {
        self.health.set_service_status(service, status).await;
    }

    async fn says(&mut self, in_flight: f64) {
        let named_metrics = [(IN_FLIGHT.to_owned(), in_flight)].into();
        let report = OrcaLoadReport { named_metrics, ..OrcaLoadReport::default() };
        let asked = timeout(PATIENCE, self.says.wait_for(Option::is_some)).await;
        let sender = asked.expect("nobody asks for reports").unwrap().clone().unwrap();
        sender.send(Ok(report)).await.unwrap();
    }
}

fn attach(
    registry: &FakeRegistry,
    address: SocketAddr,
    health: Health,
) -> (CancellationToken, JoinHandle<Result<(), ServeError>>) {
    let builder = Worker::builder("render").id("r1").slots(8).scope(Scope::Loopback);
    let builder = builder.balancers([registry.address.to_string()]);
    let attached = builder.attach(&address.to_string(), health).unwrap();
    let shutdown = CancellationToken::new();
    (shutdown.clone(), tokio::spawn(attached.serve(shutdown)))
}

async fn is(stream: &mut Registered, state: WorkerState) -> LoadReport {
    stream.report_where(|report| report.state() == state).await
}

#[tokio::test]
async fn a_service_is_in_rotation_while_it_says_that_it_is_well() {
    let mut registry = FakeRegistry::start().await;
    let foreign = Foreign::start().await;
    foreign.is("render", ServingStatus::NotServing).await;
    let (shutdown, task) = attach(&registry, foreign.address, Health::Grpc);
    let mut stream = registry.accept(1, 60_000).await;
    assert_eq!(stream.hello.address, foreign.address.to_string());
    assert_eq!((stream.hello.services.as_slice(), stream.hello.slots), (&["render".into()][..], 8));
    let first = stream.report().await;
    assert_eq!((first.state(), first.measured), (WorkerState::Draining, true));
    foreign.is("render", ServingStatus::Serving).await;
    is(&mut stream, WorkerState::Serving).await;
    foreign.is("render", ServingStatus::NotServing).await;
    is(&mut stream, WorkerState::Draining).await;

    // An operator's orders count as well.
    stream.order(WorkerState::Draining).await;
    foreign.is("render", ServingStatus::Serving).await;
    stream.order(WorkerState::Serving).await;
    is(&mut stream, WorkerState::Serving).await;

    shutdown.cancel();
    is(&mut stream, WorkerState::Draining).await;
    stream.acknowledge_drain(0, 0, 1000).await;
    stream.goodbye().await;
    drop(stream);
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", foreign.address));
    channel.unwrap().connect().await.expect("the service itself is left alone");
}

#[tokio::test]
async fn a_service_without_a_health_check_of_that_name_is_asked_as_a_whole() {
    let mut registry = FakeRegistry::start().await;
    let foreign = Foreign::start().await;
    let (_shutdown, task) = attach(&registry, foreign.address, Health::Grpc);
    let mut stream = registry.accept(1, 60_000).await;
    is(&mut stream, WorkerState::Serving).await;
    foreign.is("", ServingStatus::NotServing).await;
    is(&mut stream, WorkerState::Draining).await;
    task.abort();
}

#[tokio::test]
async fn calls_are_as_many_as_the_service_says_and_it_drains_until_there_are_none() {
    let mut registry = FakeRegistry::start().await;
    let mut foreign = Foreign::start().await;
    let (shutdown, task) = attach(&registry, foreign.address, Health::Grpc);
    let mut stream = registry.accept(1, 60_000).await;
    is(&mut stream, WorkerState::Serving).await;
    foreign.says(10.0).await;
    let report = stream.report_where(|report| report.in_flight == 10).await;
    assert_eq!((report.queued, report.completed_total), (2, 0));
    shutdown.cancel();
    is(&mut stream, WorkerState::Draining).await;
    stream.acknowledge_drain(0, 0, 1000).await;
    foreign.says(1.0).await;
    stream.report_where(|report| report.in_flight == 1).await;
    assert!(!task.is_finished());
    foreign.says(0.0).await;
    stream.goodbye().await;
    drop(stream);
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_service_that_is_not_grpc_is_well_while_it_takes_connections() {
    let mut registry = FakeRegistry::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_shutdown, task) = attach(&registry, listener.local_addr().unwrap(), Health::Tcp);
    let mut stream = registry.accept(1, 60_000).await;
    is(&mut stream, WorkerState::Serving).await;
    drop(listener);
    is(&mut stream, WorkerState::Draining).await;
    task.abort();
}

#[tokio::test]
async fn the_daemon_attaches_what_it_is_told_to() {
    let mut registry = FakeRegistry::start().await;
    // Without a health service: any answer will do.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, _) = watch::channel(None);
    let serving = Server::builder()
        .add_service(OpenRcaServiceServer::new(Says(sender)))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let _server = tokio::spawn(async move { serving.await.unwrap() });
    let mut process = tokio::process::Command::new(env!("CARGO_BIN_EXE_lb-worker"));
    process.env_clear().env("LB_LOCAL", "1").stdin(Stdio::null()).stderr(Stdio::null());
    process.args(["--attach", &address, "--service", "render", "--slots", "8", "--id", "d7"]);
    process.args(["--lb", &registry.address.to_string()]);
    let mut process = process.kill_on_drop(true).spawn().unwrap();
    let mut stream = registry.accept(1, 60_000).await;
    assert_eq!((stream.hello.worker_id.as_str(), &stream.hello.address), ("d7", &address));
    is(&mut stream, WorkerState::Serving).await;
    let id = process.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    is(&mut stream, WorkerState::Draining).await;
    stream.acknowledge_drain(0, 0, 1000).await;
    stream.goodbye().await;
    drop(stream);
    let status = timeout(PATIENCE, process.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}
