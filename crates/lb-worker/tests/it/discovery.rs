//! Finding balancers, and being found, by multicast DNS on the loopback.

use std::time::Duration;

use tokio::time::timeout;

use lb_discovery::{Announcement, Change, Discovery, Role, Scope};
use lb_worker::Worker;

use crate::{
    fake_registry::{FakeRegistry, PATIENCE},
    harness::{SERVICE, gated},
};

async fn next(browse: &mut lb_discovery::Browse) -> Change {
    timeout(PATIENCE, browse.next()).await.expect("nothing is found")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_finds_its_balancer_and_is_found() {
    // Of its own, so that nothing else on this machine takes part.
    let cluster = format!("test-{:08x}", fastrand::u32(..));
    let mut registry = FakeRegistry::start().await;
    let discovery = Discovery::new(Scope::Loopback).unwrap();
    let announcement = Announcement {
        role: Role::Balancer,
        id: format!("{cluster}-lb"),
        cluster: cluster.clone(),
        port: registry.address.port(),
        addresses: vec![registry.address.ip()],
        txt: Vec::new(),
    };
    let advertisement = discovery.advertise(announcement).await.unwrap();
    let mut workers = discovery.browse(Role::Worker, &cluster);

    let id = format!("{cluster}-w");
    let described = Worker::builder(SERVICE).id(&id).cluster(&cluster).scope(Scope::Loopback);
    let (worker, _service) = gated(described);
    let mut stream = registry.accept(20, 60_000).await;
    assert_eq!(stream.hello.worker_id, id);
    assert_eq!(stream.hello.cluster, cluster);
    stream.report().await;
    let mut ready = worker.ready.clone();
    timeout(PATIENCE, ready.wait_for(|ready| *ready)).await.unwrap().unwrap();
    let Change::Up(peer) = next(&mut workers).await else { panic!("expected the worker") };
    assert_eq!(peer.id, id);
    assert_eq!(peer.addresses, [worker.address]);
    assert_eq!(peer.txt.get("svc").map(String::as_str), Some(SERVICE));

    worker.shutdown.cancel();
    stream.acknowledge_drain(0, 0, 1000).await;
    stream.goodbye().await;
    drop(stream);
    worker.stopped().await;
    assert_eq!(next(&mut workers).await, Change::Down { id });
    timeout(Duration::from_secs(5), advertisement.withdraw()).await.unwrap();
    discovery.shutdown().await;
}
