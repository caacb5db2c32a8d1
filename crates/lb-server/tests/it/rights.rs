//! Under mTLS: who may call what, and register as whom. Each cell of the table in docs/security.md, over real connections.

use std::net::SocketAddr;

use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{self, Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{
    v1::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient},
    v1alpha::{
        ServerReflectionRequest as OldRequest,
        server_reflection_client::ServerReflectionClient as OldClient,
    },
};

use lb_core::policy::PolicyKind;
use lb_discovery::Scope;
use lb_pki::{Folder, LIFETIME, choice};
use lb_proto::v1::{
    DrainRequest, GetPolicyRequest, Hello, ListWorkersRequest, PickRequest, ScaleMode,
    ScaleStatusRequest, ScalerHello, ScalerMessage, SessionOpen, SessionRequest, SetPolicyRequest,
    SetScaleRequest, UndrainRequest, WatchEventsRequest, WatchRequest, WorkerMessage,
    admin_client::AdminClient, load_balancer_client::LoadBalancerClient,
    registry_client::RegistryClient, registry_message::Kind as Answer,
    scaler_message::Kind as Offered, scaling_client::ScalingClient, worker_message::Kind as Said,
};
use lb_server::{Limits, Server, Settings};
use lb_tls::{Choice, Connector, Expected, Identity, Mode, Role, Tls};
use lb_xds::proto::{
    DiscoveryRequest, LoadStatsRequest,
    discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    load_stats::load_reporting_service_client::LoadReportingServiceClient,
};

use crate::support::{SERVICE, hello};

/// Who may: a worker, a scaler, a client, an administrator.
const RIGHTS: [(&str, [bool; 4]); 18] = [
    ("Register", [true, false, false, false]),
    ("Offer", [false, true, false, false]),
    ("Pick", [false, false, true, true]),
    ("Session", [false, false, true, true]),
    ("Watch", [false, false, true, true]),
    ("ADS", [false, false, true, true]),
    ("LRS", [false, false, true, true]),
    ("ListWorkers", [false, false, true, true]),
    ("GetPolicy", [false, false, true, true]),
    ("SetPolicy", [false, false, false, true]),
    ("Drain", [false, false, false, true]),
    ("Undrain", [false, false, false, true]),
    ("WatchEvents", [false, false, false, true]),
    ("ScaleStatus", [false, false, false, true]),
    ("SetScale", [false, false, false, true]),
    ("health", [true, true, true, true]),
    ("reflection", [true, true, true, true]),
    ("reflection v1alpha", [true, true, true, true]),
];

/// A balancer that asks everybody who it is, and the authority of its cluster.
struct Strict {
    address: SocketAddr,
    xds_plain: SocketAddr,
    folder: Folder,
    _directory: TempDir,
    stop: CancellationToken,
}

impl Drop for Strict {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Strict {
    async fn start(mode: Mode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster: lb_core::id::ClusterName = "test".parse().unwrap();
        let folder = Folder::init(directory.path(), cluster.clone(), false).unwrap();
        let files = issue(&folder, Role::Server, "b");
        let tls = Tls::of_server(&Choice { mode: Some(mode), ..files }, &cluster).unwrap();
        let settings = Settings {
            listen: "127.0.0.1:0".into(),
            cluster,
            policy: PolicyKind::RoundRobin,
            scope: Scope::Loopback,
            limits: Limits { sessions: 10, watchers: 10, ..Limits::default() },
            tls,
            scale: lb_server::ScaleSettings::default(),
            xds_plain: Some("127.0.0.1:0".into()),
        };
        let server = Server::bind(settings).unwrap();
        let (address, stop) = (server.address(), CancellationToken::new());
        let xds_plain = server.xds_plain_address().unwrap();
        let (ready, is_ready) = oneshot::channel();
        let running = server.run(stop.clone(), move || ready.send(()).unwrap(), || {});
        tokio::spawn(async move { running.await.unwrap() });
        is_ready.await.unwrap();
        Self { address, xds_plain, folder, _directory: directory, stop }
    }

    fn tls(&self, role: Role, mode: Mode) -> Tls {
        let files = Choice { mode: Some(mode), ..issue(&self.folder, role, "a") };
        let cluster = self.folder.cluster();
        let tls = match role {
            Role::Server => Tls::of_server(&files, cluster),
            Role::Worker => Tls::of_worker(&files, cluster),
            Role::Scaler => Tls::of_scaler(&files, cluster),
            Role::Client | Role::Admin => Tls::of_client(&files, cluster),
        };
        tls.unwrap()
    }

    async fn connect(&self, tls: Tls) -> Result<Channel, transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect_with_connector(Connector::new(tls, Expected::Server, None)).await
    }

    async fn channel(&self, role: Role) -> Channel {
        self.connect(self.tls(role, Mode::Mtls)).await.unwrap()
    }
}

fn issue(folder: &Folder, role: Role, name: &str) -> Choice {
    let services = if role == Role::Worker { vec![SERVICE.parse().unwrap()] } else { vec![] };
    let (cluster, name) = (folder.cluster().clone(), name.parse().unwrap());
    let identity = Identity { cluster, role, name, services, instances: 0 };
    choice(&folder.issue(&identity, LIFETIME, true).unwrap(), role)
}

/// A stream that says this and stays open.
fn saying<T: Send + 'static>(message: T) -> ReceiverStream<T> {
    let (say, said) = mpsc::channel(2);
    say.try_send(message).unwrap();
    tokio::spawn(async move { say.closed().await });
    ReceiverStream::new(said)
}

/// Calls it, and returns what stops it, if anything does before the first answer.
async fn call(rpc: &str, channel: Channel) -> Result<(), Status> {
    let mut admin = AdminClient::new(channel.clone());
    let mut balancer = LoadBalancerClient::new(channel.clone());
    let (service, worker_id, policy) = (SERVICE.to_owned(), "w".to_owned(), "random".to_owned());
    match rpc {
        "Register" => {
            let hello = WorkerMessage { kind: Some(Said::Hello(hello("a", 1))) };
            RegistryClient::new(channel).register(saying(hello)).await.map(drop)
        }
        "Pick" => balancer.pick(PickRequest { service, ..PickRequest::default() }).await.map(drop),
        "Session" => {
            let open = SessionOpen { service, ..SessionOpen::default() };
            let open = SessionRequest { open: Some(open), ..SessionRequest::default() };
            balancer.session(saying(open)).await.map(drop)
        }
        "Watch" => balancer.watch(WatchRequest { service }).await.map(drop),
        "ADS" => {
            let mut client = AggregatedDiscoveryServiceClient::new(channel);
            client.stream_aggregated_resources(saying(DiscoveryRequest::default())).await.map(drop)
        }
        "LRS" => {
            let mut client = LoadReportingServiceClient::new(channel);
            client.stream_load_stats(saying(LoadStatsRequest::default())).await.map(drop)
        }
        "ListWorkers" => admin.list_workers(ListWorkersRequest {}).await.map(drop),
        "GetPolicy" => admin.get_policy(GetPolicyRequest {}).await.map(drop),
        "SetPolicy" => admin.set_policy(SetPolicyRequest { policy }).await.map(drop),
        "Drain" => admin.drain(DrainRequest { worker_id }).await.map(drop),
        "Undrain" => admin.undrain(UndrainRequest { worker_id }).await.map(drop),
        "Offer" => {
            let hello = ScalerHello { host_id: "s".into(), ..ScalerHello::default() };
            let hello = ScalerMessage { kind: Some(Offered::Hello(hello)) };
            ScalingClient::new(channel).offer(saying(hello)).await.map(drop)
        }
        "ScaleStatus" => admin.scale_status(ScaleStatusRequest {}).await.map(drop),
        "SetScale" => {
            let paused = SetScaleRequest { mode: ScaleMode::Paused.into(), count: 0 };
            admin.set_scale(paused).await.map(drop)
        }
        "WatchEvents" => admin.watch_events(WatchEventsRequest {}).await.map(drop),
        "health" => HealthClient::new(channel).check(HealthCheckRequest::default()).await.map(drop),
        "reflection" => {
            let asking = saying(ServerReflectionRequest::default());
            ServerReflectionClient::new(channel).server_reflection_info(asking).await.map(drop)
        }
        "reflection v1alpha" => {
            let asking = saying(OldRequest::default());
            OldClient::new(channel).server_reflection_info(asking).await.map(drop)
        }
        other => unreachable!("{other} is not in the table"),
    }
}

#[tokio::test]
async fn a_certificate_gives_what_the_table_says_and_nothing_else() {
    let strict = Strict::start(Mode::Mtls).await;
    for (place, role) in
        [Role::Worker, Role::Scaler, Role::Client, Role::Admin].into_iter().enumerate()
    {
        let channel = strict.channel(role).await;
        for (rpc, may) in RIGHTS {
            let outcome = call(rpc, channel.clone()).await;
            let denied = matches!(&outcome, Err(status) if status.code() == Code::PermissionDenied);
            assert_eq!(denied, !may[place], "{role} {rpc}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn who_shows_no_certificate_or_that_of_a_balancer_calls_nothing() {
    let strict = Strict::start(Mode::Mtls).await;
    for tls in
        [Tls::open(), strict.tls(Role::Client, Mode::Tls), strict.tls(Role::Server, Mode::Mtls)]
    {
        // In TLS 1.3 it may be the first call that learns of it.
        let Ok(channel) = strict.connect(tls).await else { continue };
        for (rpc, _) in RIGHTS {
            let status = call(rpc, channel.clone()).await.unwrap_err();
            assert!(!matches!(status.code(), Code::Ok | Code::NotFound), "{rpc}: {status}");
        }
    }
}

#[tokio::test]
async fn a_worker_registers_as_itself_with_its_services() {
    let strict = Strict::start(Mode::Mtls).await;
    let channel = strict.channel(Role::Worker).await;
    let first_answer = async |hello: Hello| {
        let hello = WorkerMessage { kind: Some(Said::Hello(hello)) };
        let mut client = RegistryClient::new(channel.clone());
        let mut answers = client.register(saying(hello)).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap().kind.unwrap()
    };
    let refusal = async |hello| match first_answer(hello).await {
        Answer::Refused(refused) => (Code::from_i32(refused.code), refused.reason),
        other => panic!("{other:?}"),
    };
    let (code, reason) = refusal(hello("b", 1)).await;
    assert_eq!(code, Code::PermissionDenied);
    let text = "hello.worker_id is b, but the certificate is that of lb://test/worker/a";
    assert_eq!(reason, text);
    let services = vec![SERVICE.to_owned(), "bank.Vault".to_owned()];
    let (code, reason) = refusal(Hello { services, ..hello("a", 1) }).await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(reason.starts_with("hello.services names bank.Vault, which is not in"), "{reason}");
    assert!(matches!(first_answer(hello("a", 1)).await, Answer::Accepted(_)));
}

#[tokio::test]
async fn in_tls_callers_are_nobody_and_may_everything() {
    let strict = Strict::start(Mode::Tls).await;
    let channel = strict.connect(strict.tls(Role::Client, Mode::Tls)).await.unwrap();
    for (rpc, _) in RIGHTS {
        let outcome = call(rpc, channel.clone()).await;
        let denied = matches!(&outcome, Err(status) if status.code() == Code::PermissionDenied);
        assert!(!denied, "{rpc}: {outcome:?}");
    }
    // A balancer of another authority is not called at all.
    let other = Strict::start(Mode::Tls).await;
    let error = other.connect(strict.tls(Role::Client, Mode::Tls)).await.unwrap_err();
    let text = lb_runtime::exit::describe(&error);
    assert!(text.contains("not from an authority that is believed here"), "{text}");
}

#[tokio::test]
async fn in_plain_text_there_is_xds_and_nothing_else() {
    let balancer = Strict::start(Mode::Mtls).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", balancer.xds_plain)).unwrap();
    let channel = endpoint.connect().await.unwrap();
    for (rpc, _) in RIGHTS {
        let outcome = call(rpc, channel.clone()).await;
        match rpc {
            "ADS" | "LRS" => assert!(outcome.is_ok(), "{rpc}: {outcome:?}"),
            _ => assert_eq!(outcome.unwrap_err().code(), Code::Unimplemented, "{rpc}"),
        }
    }
}
