//! Under mTLS, with a real balancer and a real client.

use tempfile::TempDir;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use lb_client::{Balanced, CallInfo};
use lb_core::{id::ClusterName, policy::PolicyKind};
use lb_pki::{Folder, LIFETIME, choice};
use lb_proto::v1::{
    Echo, ListWorkersRequest, WatchRequest, admin_client::AdminClient,
    compute_client::ComputeClient, compute_server::ComputeServer,
    load_balancer_client::LoadBalancerClient, task::Kind,
};
use lb_server::{Limits, Server, Settings};
use lb_tls::{Connector, Expected, Identity, Role, Tls};
use lb_worker::{Builder, Scope, Worker, compute::ComputeService};

use crate::{
    fake_registry::PATIENCE,
    harness::{Running, SERVICE, start, task},
};

/// A cluster's authority.
struct Lab {
    folder: Folder,
    _directory: TempDir,
}

fn cluster() -> ClusterName {
    "lab".parse().unwrap()
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::init(directory.path(), cluster(), false).unwrap();
        Self { folder, _directory: directory }
    }

    fn tls(&self, role: Role, name: &str) -> Tls {
        self.shared(role, name, 0)
    }

    /// Good for so many further workers.
    fn shared(&self, role: Role, name: &str, instances: u32) -> Tls {
        let services = if role == Role::Worker { vec![SERVICE.parse().unwrap()] } else { vec![] };
        let name = name.parse().unwrap();
        let identity = Identity { cluster: cluster(), role, name, services, instances };
        let files = choice(&self.folder.issue(&identity, LIFETIME, true).unwrap(), role);
        let tls = match role {
            Role::Server => Tls::of_server(&files, &cluster()),
            Role::Worker => Tls::of_worker(&files, &cluster()),
            Role::Scaler => Tls::of_scaler(&files, &cluster()),
            Role::Client | Role::Admin => Tls::of_client(&files, &cluster()),
        };
        tls.unwrap()
    }

    /// Address of a balancer.
    async fn balancer(&self, stop: CancellationToken) -> String {
        let settings = Settings {
            listen: "127.0.0.1:0".into(),
            cluster: cluster(),
            policy: PolicyKind::LeastLoad,
            scope: Scope::Loopback,
            limits: Limits { sessions: 10, watchers: 10, ..Limits::default() },
            tls: self.tls(Role::Server, "b"),
            scale: lb_server::ScaleSettings::default(),
            xds_plain: None,
        };
        let server = Server::bind(settings).unwrap();
        let address = server.address().to_string();
        let (ready, is_ready) = oneshot::channel();
        let running = server.run(stop, move || ready.send(()).unwrap(), || {});
        tokio::spawn(async move { running.await.unwrap() });
        timeout(PATIENCE, is_ready).await.expect("the balancer does not start").unwrap();
        address
    }

    /// Without an id: it has that of its certificate.
    fn worker(&self, balancer: &str) -> Running {
        let service = ComputeService::new("w1".parse().unwrap());
        let builder = builder(self.tls(Role::Worker, "w1")).balancers([balancer]);
        start(builder, Routes::new(ComputeServer::new(service)))
    }
}

fn builder(tls: Tls) -> Builder {
    Worker::builder(SERVICE).scope(Scope::Loopback).cluster("lab").tls(tls)
}

#[tokio::test]
async fn a_call_goes_through_when_everybody_is_who_they_say() {
    let (lab, stop) = (Lab::new(), CancellationToken::new());
    let balancer = lab.balancer(stop.clone()).await;
    let worker = lab.worker(&balancer);
    let describe = |tls| Balanced::builder(SERVICE).cluster("lab").balancers([&balancer]).tls(tls);
    let channel = describe(lab.tls(Role::Client, "c")).wait(PATIENCE).connect().await.unwrap();
    in_rotation(&balancer, lab.tls(Role::Client, "c")).await;
    let mut client = ComputeClient::new(channel);
    let response = client.run(task(Kind::Echo(Echo::default()))).await.unwrap();
    let info = response.extensions().get::<CallInfo>().unwrap();
    assert_eq!(info.worker_id.to_string(), "w1");

    // Of another authority, or with no certificate at all: nothing is picked.
    for (tls, said) in [
        (Lab::new().tls(Role::Client, "c"), "not from an authority that is believed here"),
        (Tls::open(), "speaks the same mode"),
    ] {
        let wait = std::time::Duration::from_millis(300);
        let error = describe(tls).wait(wait).connect().await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    worker.shutdown.cancel();
    worker.stopped().await;
    stop.cancel();
}

/// Workers of one machine, as a scaler starts them.
#[tokio::test]
async fn instances_serve_with_the_certificate_of_their_machine() {
    let (lab, stop) = (Lab::new(), CancellationToken::new());
    let balancer = lab.balancer(stop.clone()).await;
    let shared = lab.shared(Role::Worker, "box", 2);
    let service = ComputeService::new("box-2".parse().unwrap());
    let second = builder(shared.clone()).id("box-2").balancers([&balancer]);
    let worker = start(second, Routes::new(ComputeServer::new(service)));
    in_rotation(&balancer, lab.tls(Role::Client, "c")).await;
    let channel = Balanced::builder(SERVICE).cluster("lab").balancers([&balancer]);
    let channel = channel.tls(lab.tls(Role::Client, "c")).wait(PATIENCE).connect().await.unwrap();
    let response =
        ComputeClient::new(channel).run(task(Kind::Echo(Echo::default()))).await.unwrap();
    assert_eq!(response.extensions().get::<CallInfo>().unwrap().worker_id.to_string(), "box-2");
    // Whoever looks for one that the certificate does not name is not fooled.
    assert!(connect(&worker, lab.tls(Role::Client, "c"), "box-3").await.is_err());
    assert!(connect(&worker, lab.tls(Role::Client, "c"), "w1-2").await.is_err());

    let error = builder(shared).id("box-3").build().unwrap_err().to_string();
    let said =
        "id is box-3, but the certificate is that of lb://lab/worker/box and its instances 1 to 2";
    assert!(error.starts_with(said), "{error}");
    worker.shutdown.cancel();
    worker.stopped().await;
    stop.cancel();
}

/// Found by mDNS as it is, and by everybody: nobody speaks with it.
#[tokio::test]
async fn a_false_balancer_on_the_network_gets_neither_workers_nor_clients() {
    let (lab, rogue, stop) = (Lab::new(), Lab::new(), CancellationToken::new());
    let false_one = rogue.balancer(stop.clone()).await;
    let true_one = lab.balancer(stop.clone()).await;
    let service = ComputeService::new("w1".parse().unwrap());
    let worker =
        start(builder(lab.tls(Role::Worker, "w1")), Routes::new(ComputeServer::new(service)));
    in_rotation(&true_one, lab.tls(Role::Client, "c")).await;
    let channel = Balanced::builder(SERVICE)
        .cluster("lab")
        .scope(Scope::Loopback)
        .wait(PATIENCE)
        .tls(lab.tls(Role::Client, "c"));
    let mut client = ComputeClient::new(channel.connect().await.unwrap());
    client.run(task(Kind::Echo(Echo::default()))).await.unwrap();

    let connector = Connector::new(rogue.tls(Role::Admin, "a"), Expected::Server, None);
    let endpoint = Endpoint::from_shared(format!("http://{false_one}")).unwrap();
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let list = AdminClient::new(channel).list_workers(ListWorkersRequest {}).await.unwrap();
    assert!(list.into_inner().workers.is_empty());
    worker.shutdown.cancel();
    worker.stopped().await;
    stop.cancel();
}

#[tokio::test]
async fn a_worker_is_called_by_clients_and_administrators_alone() {
    let lab = Lab::new();
    let worker = lab.worker("127.0.0.1:1");
    for (role, may_call) in [(Role::Worker, false), (Role::Client, true), (Role::Admin, true)] {
        let channel = connect(&worker, lab.tls(role, "x"), "w1").await.unwrap();
        let run = ComputeClient::new(channel.clone()).run(task(Kind::Echo(Echo::default()))).await;
        let code = run.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(code, if may_call { Code::Ok } else { Code::PermissionDenied }, "{role}");
        let health = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
        assert!(health.is_ok(), "{role}: {health:?}");
    }
    // Two were called; the third was not even counted.
    worker.load_where(|load| load.completed_total == 2 && load.errors_total == 0).await;
    assert!(connect(&worker, lab.tls(Role::Client, "x"), "w2").await.is_err());
    worker.shutdown.cancel();
    worker.stopped().await;
}

/// Returns when the balancer names a worker.
async fn in_rotation(balancer: &str, tls: Tls) {
    let connector = Connector::new(tls, Expected::Server, None);
    let endpoint = Endpoint::from_shared(format!("http://{balancer}")).unwrap();
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let wanted = WatchRequest { service: SERVICE.into() };
    let mut lists = LoadBalancerClient::new(channel).watch(wanted).await.unwrap().into_inner();
    let named = async { while lists.message().await.unwrap().unwrap().endpoints.is_empty() {} };
    timeout(PATIENCE, named).await.expect("the worker does not get into rotation");
}

async fn connect(
    worker: &Running,
    tls: Tls,
    expected: &str,
) -> Result<Channel, tonic::transport::Error> {
    let connector = Connector::new(tls, Expected::Worker(expected.parse().unwrap()), None);
    let endpoint = Endpoint::from_shared(format!("http://{}", worker.address)).unwrap();
    endpoint.connect_with_connector(connector).await
}

#[tokio::test]
async fn what_contradicts_the_certificate_is_refused_at_once() {
    let lab = Lab::new();
    let tls = || lab.tls(Role::Worker, "w1");
    let mistake = |builder: Builder| {
        let error = builder.build().unwrap_err();
        (error.setting(), error.to_string())
    };
    assert_eq!(builder(tls()).build().unwrap().id().as_str(), "w1");
    assert_eq!(builder(tls()).id("w1").build().unwrap().id().as_str(), "w1");
    let (setting, text) = mistake(builder(tls()).id("w2"));
    assert_eq!(setting, "id");
    assert!(
        text.starts_with("id is w2, but the certificate is that of lb://lab/worker/w1"),
        "{text}"
    );
    let (setting, text) = mistake(builder(tls()).cluster("other"));
    assert_eq!(setting, "cluster");
    assert!(text.starts_with("cluster is other, but"), "{text}");
    let (setting, text) = mistake(builder(tls()).service("a.B"));
    assert_eq!(setting, "services");
    assert!(text.starts_with("service a.B is not in the certificate of"), "{text}");
}
