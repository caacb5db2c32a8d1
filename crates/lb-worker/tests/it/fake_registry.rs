//! A balancer's Registry that says what the test tells it to, and shows what it hears.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use lb_proto::v1::{
    Accepted, DrainAck, Hello, LoadReport, Refused, RegistryMessage, StateOrder, WorkerMessage,
    WorkerState,
    registry_message::Kind as Down,
    registry_server::{Registry, RegistryServer},
    worker_message::Kind as Up,
};

/// Nothing awaited in these tests takes longer; a failure shows as an error and not as a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const BALANCER: &str = "fake";

/// A registry that listens until it is stopped.
pub(crate) struct FakeRegistry {
    pub(crate) address: SocketAddr,
    arrivals: mpsc::UnboundedReceiver<Stream>,
    server: JoinHandle<()>,
}

/// One registration stream, seen from the balancer.
pub(crate) struct Stream {
    pub(crate) hello: Hello,
    inbox: Streaming<WorkerMessage>,
    outbox: mpsc::Sender<Result<RegistryMessage, Status>>,
}

struct Service(mpsc::UnboundedSender<Stream>);

#[tonic::async_trait]
impl Registry for Service {
    type RegisterStream = ReceiverStream<Result<RegistryMessage, Status>>;

    async fn register(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let mut inbox = request.into_inner();
        // Response headers wait for the hello on purpose: a worker must not wait for them first.
        let Some(Up::Hello(hello)) = inbox.message().await?.and_then(|message| message.kind) else {
            return Err(Status::invalid_argument("the first message is not a hello"));
        };
        let (outbox, messages) = mpsc::channel(16);
        self.0.send(Stream { hello, inbox, outbox }).map_err(|_| Status::unavailable("gone"))?;
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

impl FakeRegistry {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrivals) = mpsc::unbounded_channel();
        let serving = Server::builder()
            .add_service(RegistryServer::new(Service(sender)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, arrivals, server }
    }

    /// The next worker that says hello.
    pub(crate) async fn next(&mut self) -> Stream {
        timeout(PATIENCE, self.arrivals.recv()).await.expect("nobody registers").unwrap()
    }

    /// The next worker, accepted: reports on change every `interval_ms`, and once per heartbeat.
    pub(crate) async fn accept(&mut self, interval_ms: u32, heartbeat_ms: u32) -> Stream {
        let mut stream = self.next().await;
        stream.accept(BALANCER, 7, interval_ms, heartbeat_ms).await;
        stream
    }

    /// Returns when nothing listens any more.
    pub(crate) async fn stop(self) {
        self.server.abort();
        let _ = self.server.await;
    }

    pub(crate) fn has_arrivals(&mut self) -> bool {
        !self.arrivals.is_empty()
    }
}

impl Stream {
    pub(crate) async fn send(&mut self, kind: Down) {
        let message = RegistryMessage { kind: Some(kind) };
        self.outbox.send(Ok(message)).await.expect("the worker has left");
    }

    pub(crate) async fn accept(
        &mut self,
        balancer: &str,
        number: u32,
        interval_ms: u32,
        heartbeat_ms: u32,
    ) {
        let accepted = Accepted {
            balancer_id: balancer.into(),
            worker_number: number,
            report_interval_ms: interval_ms,
            heartbeat_ms,
        };
        self.send(Down::Accepted(accepted)).await;
    }

    pub(crate) async fn refuse(&mut self, code: tonic::Code, reason: &str, retry_after_ms: u32) {
        let refused = Refused { code: code as i32, reason: reason.into(), retry_after_ms };
        self.send(Down::Refused(refused)).await;
    }

    pub(crate) async fn order(&mut self, state: WorkerState) {
        self.send(Down::Order(StateOrder { state: state.into() })).await;
    }

    pub(crate) async fn acknowledge_drain(&mut self, picked: u64, session: u64, lease_ms: u32) {
        let ack = DrainAck { picked_expected: picked, session_expected: session, lease_ms };
        self.send(Down::DrainAck(ack)).await;
    }

    /// The next message; `None` when the worker has closed the stream or is gone.
    pub(crate) async fn message(&mut self) -> Option<Up> {
        let message = timeout(PATIENCE, self.inbox.message()).await.expect("the worker is silent");
        message.ok().flatten().and_then(|message| message.kind)
    }

    pub(crate) async fn report(&mut self) -> LoadReport {
        match self.message().await {
            Some(Up::Report(report)) => report,
            other => panic!("expected a report, got {other:?}"),
        }
    }

    /// The first report that is as wanted.
    pub(crate) async fn report_where(
        &mut self,
        wanted: impl Fn(&LoadReport) -> bool,
    ) -> LoadReport {
        loop {
            let report = self.report().await;
            check(&report);
            if wanted(&report) {
                return report;
            }
        }
    }

    /// Reads until the goodbye and the end of the stream.
    pub(crate) async fn goodbye(&mut self) {
        loop {
            match self.message().await {
                Some(Up::Report(_)) => {}
                Some(Up::Goodbye(goodbye)) => {
                    assert_eq!(goodbye.reason, "stopped");
                    assert_eq!(self.message().await, None);
                    return;
                }
                other => panic!("expected a goodbye, got {other:?}"),
            }
        }
    }
}

/// What every balancer would refuse.
fn check(report: &LoadReport) {
    let open = |counts: Option<lb_proto::v1::TokenCounts>| {
        let counts = counts.expect("counts are always there");
        assert!(counts.done <= counts.seen, "{report:?}");
        counts.seen - counts.done
    };
    assert!(report.queued <= report.in_flight, "{report:?}");
    assert!(report.errors_total <= report.completed_total, "{report:?}");
    assert!(
        open(report.picked) + open(report.session) <= u64::from(report.in_flight),
        "{report:?}"
    );
    assert!(
        (0.0..=1.0).contains(&report.cpu) && (0.0..=1.0).contains(&report.memory),
        "{report:?}"
    );
    assert!(report.in_flight_integral >= 0.0 && report.busy_seconds >= 0.0, "{report:?}");
}
