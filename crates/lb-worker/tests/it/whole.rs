//! With a real balancer and a real client: stopping a worker under load fails no call.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::oneshot, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use lb_client::{Balanced, CallInfo};
use lb_core::policy::PolicyKind;
use lb_proto::v1::{
    Sleep, WatchRequest, compute_client::ComputeClient, load_balancer_client::LoadBalancerClient,
    task::Kind,
};
use lb_server::{Limits, Server, Settings};
use lb_worker::{Scope, Worker};

use crate::{
    fake_registry::PATIENCE,
    harness::{Running, SERVICE, computing, task},
};

async fn balancer(stop: CancellationToken) -> String {
    let settings = Settings {
        listen: "127.0.0.1:0".into(),
        cluster: "default".parse().unwrap(),
        policy: PolicyKind::LeastLoad,
        scope: Scope::Loopback,
        limits: Limits { sessions: 100, watchers: 100, ..Limits::default() },
        tls: lb_server::Tls::open(),
        scale: lb_server::ScaleSettings::default(),
        xds_plain: None,
    };
    let server = Server::bind(settings).unwrap();
    let address = server.address().to_string();
    let (ready, is_ready) = oneshot::channel();
    tokio::spawn(
        async move { server.run(stop, move || ready.send(()).unwrap(), || {}).await.unwrap() },
    );
    timeout(PATIENCE, is_ready).await.expect("the balancer does not start").unwrap();
    address
}

fn worker(id: &str, balancer: &str) -> Running {
    let described = Worker::builder(SERVICE).id(id).slots(4).scope(Scope::Loopback);
    computing(described.balancers([balancer]))
}

/// Returns when the balancer names that many workers.
async fn in_rotation(balancer: &str, count: usize) {
    let mut client = LoadBalancerClient::connect(format!("http://{balancer}")).await.unwrap();
    let wanted = WatchRequest { service: SERVICE.into() };
    let mut lists = client.watch(wanted).await.unwrap().into_inner();
    let complete = async {
        while lists.message().await.unwrap().expect("the list ended").endpoints.len() < count {}
    };
    timeout(PATIENCE, complete).await.expect("the workers do not get into rotation");
}

/// Calls one after the other until told to stop; returns who answered how often.
async fn call_on(channel: Balanced, enough: Arc<AtomicBool>) -> BTreeMap<String, u32> {
    let mut client = ComputeClient::new(channel);
    let mut answered = BTreeMap::new();
    while !enough.load(Ordering::Relaxed) {
        let response = client.run(task(Kind::Sleep(Sleep { duration_us: 2000 }))).await;
        let response = response.expect("a call failed");
        let call = response.extensions().get::<CallInfo>().unwrap();
        *answered.entry(call.worker_id.to_string()).or_default() += 1;
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_a_worker_under_load_fails_no_call() {
    let stop = CancellationToken::new();
    let address = balancer(stop.clone()).await;
    let (first, second) = (worker("first", &address), worker("second", &address));
    in_rotation(&address, 2).await;
    let channel = Balanced::builder(SERVICE).balancers([&address]).connect().await.unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..6 {
        callers.spawn(call_on(channel.clone(), Arc::clone(&enough)));
    }
    first.load_where(|load| load.completed_total >= 50).await;
    second.load_where(|load| load.completed_total >= 50).await;

    let load = first.load.clone();
    first.shutdown.cancel();
    first.stopped().await;
    let (done, now) =
        (load.view(tokio::time::Instant::now()), second.load.view(tokio::time::Instant::now()));
    assert_eq!((done.in_flight, done.errors_total), (0, 0), "{done:?}");
    second.load_where(|load| load.completed_total >= now.completed_total + 100).await;
    enough.store(true, Ordering::Relaxed);
    let mut total = 0;
    while let Some(answered) = callers.join_next().await {
        total += answered.unwrap().into_values().map(u64::from).sum::<u64>();
    }
    second.load_where(|load| load.in_flight == 0).await;
    let served =
        second.load.view(tokio::time::Instant::now()).completed_total + done.completed_total;
    assert_eq!(total, served, "every call was served once");
    second.shutdown.cancel();
    second.stopped().await;
    stop.cancel();
}
