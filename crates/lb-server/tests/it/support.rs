//! A balancer in this process, and hand-made workers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
    time::interval,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, transport::Channel};

use lb_core::policy::PolicyKind;
use lb_discovery::Scope;
use lb_proto::v1::{
    Accepted, Event, Hello, LoadReport, RegistryMessage, TokenCounts, WatchEventsRequest,
    WorkerMessage, WorkerState, admin_client::AdminClient, registry_client::RegistryClient,
    registry_message::Kind as Answer, worker_message::Kind as Said,
};
use lb_server::{Limits, ScaleSettings, Server, ServerError, Settings};

pub(crate) const SERVICE: &str = "lb.v1.Compute";

/// A running balancer; it stops when the test ends.
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    pub(crate) channel: Channel,
    stop: CancellationToken,
    running: Option<JoinHandle<Result<(), ServerError>>>,
}

impl Balancer {
    pub(crate) async fn start(policy: PolicyKind) -> Self {
        Self::start_with(policy, Limits { sessions: 10, watchers: 10, ..Limits::default() }).await
    }

    pub(crate) async fn start_with(policy: PolicyKind, limits: Limits) -> Self {
        Self::start_scaling(policy, limits, ScaleSettings::default()).await
    }

    pub(crate) async fn start_scaling(
        policy: PolicyKind,
        limits: Limits,
        scale: ScaleSettings,
    ) -> Self {
        let settings = Settings {
            listen: "127.0.0.1:0".into(),
            cluster: "test".parse().unwrap(),
            policy,
            scope: Scope::Loopback,
            limits,
            tls: lb_server::Tls::open(),
            scale,
            xds_plain: None,
        };
        let server = Server::bind(settings).unwrap();
        let address = server.address();
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let running = server.run(stop.clone(), move || ready.send(()).unwrap(), || {});
        let running = tokio::spawn(running);
        is_ready.await.unwrap();
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Self { address, channel, stop, running: Some(running) }
    }

    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.await.unwrap().unwrap();
        }
    }

    pub(crate) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    pub(crate) fn registry(&self) -> RegistryClient<Channel> {
        RegistryClient::new(self.channel.clone())
    }

    pub(crate) async fn events(&self) -> Streaming<Event> {
        self.admin().watch_events(WatchEventsRequest {}).await.unwrap().into_inner()
    }

    /// Opens a registration stream without saying anything yet.
    pub(crate) async fn register(&self) -> Stream {
        let (say, said) = mpsc::channel(16);
        let answers =
            self.registry().register(ReceiverStream::new(said)).await.unwrap().into_inner();
        Stream { say, answers }
    }

    /// A worker in rotation.
    pub(crate) async fn worker(&self, id: &str, port: u16) -> Worker {
        self.worker_with(hello(id, port)).await
    }

    pub(crate) async fn worker_with(&self, hello: Hello) -> Worker {
        let mut events = self.events().await;
        let id = hello.worker_id.clone();
        let slots = hello.slots;
        let mut stream = self.register().await;
        stream.say(Said::Hello(hello)).await;
        let accepted = stream.accepted().await;
        let mut worker = Worker::new(stream, accepted, LoadReport { slots, ..idle() });
        worker.send_report().await;
        while events.message().await.unwrap().unwrap() != serving(&id) {}
        worker
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn serving(id: &str) -> Event {
    Event { kind: "worker_serving".into(), worker_id: id.into(), message: "takes calls".into() }
}

/// Waits for an event of this kind.
pub(crate) async fn until(events: &mut Streaming<Event>, kind: &str) -> Event {
    loop {
        let event = events.message().await.unwrap().unwrap();
        if event.kind == kind {
            return event;
        }
    }
}

/// One registration stream.
pub(crate) struct Stream {
    say: mpsc::Sender<WorkerMessage>,
    pub(crate) answers: Streaming<RegistryMessage>,
}

impl Stream {
    pub(crate) async fn say(&mut self, kind: Said) {
        self.say.send(WorkerMessage { kind: Some(kind) }).await.unwrap();
    }

    pub(crate) async fn say_nothing(&mut self) {
        self.say.send(WorkerMessage { kind: None }).await.unwrap();
    }

    pub(crate) async fn answer(&mut self) -> Result<Option<Answer>, Status> {
        Ok(self.answers.message().await?.and_then(|message| message.kind))
    }

    pub(crate) async fn accepted(&mut self) -> Accepted {
        match self.answer().await.unwrap() {
            Some(Answer::Accepted(accepted)) => accepted,
            other => panic!("expected accepted, found {other:?}"),
        }
    }

    /// The status that the stream ends with.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            match self.answer().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a status"),
                Err(status) => return status,
            }
        }
    }
}

/// Well within the heartbeat, so that a slow machine does not lose a test's workers.
const REPEAT: Duration = Duration::from_millis(300);

/// A worker that does nothing but report: when told to, and the same again as a heartbeat.
pub(crate) struct Worker {
    pub(crate) stream: Stream,
    pub(crate) accepted: Accepted,
    pub(crate) report: LoadReport,
    /// Held while a report is sent, so that a heartbeat never overtakes a newer one.
    last: Arc<Mutex<LoadReport>>,
    heart: JoinHandle<()>,
}

impl Worker {
    fn new(stream: Stream, accepted: Accepted, report: LoadReport) -> Self {
        let last = Arc::new(Mutex::new(report));
        let heart = tokio::spawn(beat(stream.say.clone(), Arc::clone(&last)));
        Self { stream, accepted, report, last, heart }
    }

    pub(crate) async fn send_report(&mut self) {
        let last = Arc::clone(&self.last);
        let mut last = last.lock().await;
        *last = self.report;
        self.stream.say(Said::Report(self.report)).await;
    }

    /// Reports DRAINING and returns what the balancer says can still come, of both classes.
    pub(crate) async fn drain(&mut self) -> (u64, u64) {
        self.report.set_state(WorkerState::Draining);
        self.send_report().await;
        match self.stream.answer().await.unwrap() {
            Some(Answer::DrainAck(ack)) => (ack.picked_expected, ack.session_expected),
            other => panic!("expected a drain acknowledgement, found {other:?}"),
        }
    }

    /// Reports these counts of session tokens.
    pub(crate) async fn report_session(&mut self, seen: u64, done: u64, in_flight: u32) {
        self.report.session = Some(TokenCounts { seen, done });
        self.report.in_flight = in_flight;
        self.send_report().await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

async fn beat(say: mpsc::Sender<WorkerMessage>, last: Arc<Mutex<LoadReport>>) {
    let mut beats = interval(REPEAT);
    loop {
        beats.tick().await;
        let last = last.lock().await;
        if say.send(WorkerMessage { kind: Some(Said::Report(*last)) }).await.is_err() {
            return;
        }
    }
}

pub(crate) fn hello(id: &str, port: u16) -> Hello {
    Hello {
        worker_id: id.into(),
        instance: port.into(),
        cluster: "test".into(),
        address: format!(":{port}"),
        services: vec![SERVICE.into()],
        slots: 2,
        ..Hello::default()
    }
}

pub(crate) fn idle() -> LoadReport {
    LoadReport { state: WorkerState::Serving.into(), slots: 2, ..LoadReport::default() }
}
