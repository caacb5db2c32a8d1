//! Announce, look, withdraw: over real multicast packets, on the loopback interface only.

#[path = "common/support.rs"]
#[expect(unreachable_pub, reason = "helpers of several tests")]
mod support;

use std::time::{Duration, Instant};

use lb_discovery::{Change, DiscoveryError, Role};
use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};
use support::{announcement, discovery, down, next, shown, unique, up};

/// A responder that is not ours, so that a test can say what our API would refuse to.
fn stranger() -> ServiceDaemon {
    let daemon = ServiceDaemon::new().expect("a second responder");
    daemon.disable_interface(IfKind::All).expect("a running responder");
    daemon.enable_interface(IfKind::LoopbackV4).expect("a running responder");
    daemon
}

fn strange_service(instance: &str, port: u16, txt: &[(&str, &str)]) -> ServiceInfo {
    let service_type = Role::Worker.service_type();
    // Never the host name of ours: a goodbye of one would take the address of both.
    let host = format!("stranger-{port}.local.");
    ServiceInfo::new(service_type, instance, &host, "127.0.0.1", port, txt).expect("a service")
}

#[tokio::test]
async fn a_service_appears_and_its_goodbye_removes_it() {
    let (id, cluster) = (unique("one"), unique("cluster"));
    let (server, client) = (discovery(), discovery());
    let mut browse = client.browse(Role::Worker, &cluster);
    let advertisement = server.advertise(announcement(&id, &cluster, 7001)).await.unwrap();
    let Change::Up(peer) = next(&mut browse).await else { panic!("expected the peer to be up") };
    assert_eq!((peer.id.as_str(), peer.cluster.as_str()), (id.as_str(), cluster.as_str()));
    assert_eq!(shown(&peer), ["127.0.0.1:7001"]);
    assert_eq!(peer.txt.get("zone").map(String::as_str), Some("a"));
    advertisement.withdraw().await;
    assert_eq!(next(&mut browse).await, Change::Down { id });
    server.shutdown().await;
    client.shutdown().await;
}

#[tokio::test]
async fn a_running_service_is_found_at_once_by_any_number_of_browses() {
    let (id, cluster) = (unique("running"), unique("cluster"));
    let server = discovery();
    let _advertisement = server.advertise(announcement(&id, &cluster, 7002)).await.unwrap();
    let client = discovery();
    let start = Instant::now();
    let mut first = client.browse(Role::Worker, &cluster);
    let mut second = client.browse(Role::Worker, &cluster);
    let found = up(&mut first, |peer| peer.id == id).await;
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(2), "took {elapsed:?}, is about 0.1 s when idle");
    assert_eq!(up(&mut second, |peer| peer.id == id).await, found);
    let mut late = client.browse(Role::Worker, &cluster);
    assert_eq!(next(&mut late).await, Change::Up(found));
}

/// The second of them asks less than a second after the first, when multicast is withheld.
#[tokio::test]
async fn a_running_service_is_found_by_one_program_after_the_other() {
    let (id, cluster) = (unique("popular"), unique("cluster"));
    let server = discovery();
    let advertisement = server.advertise(announcement(&id, &cluster, 7022)).await.unwrap();
    let mut last = None;
    for _ in 0..10 {
        let client = discovery();
        let mut browse = client.browse(Role::Worker, &cluster);
        let Change::Up(peer) = next(&mut browse).await else { panic!("expected a peer") };
        assert_eq!((peer.id, peer.addresses.len()), (id.clone(), 1));
        last = Some(browse);
    }
    // Known by asking alone so far, or by now from the subscription too: it goes either way.
    advertisement.withdraw().await;
    assert_eq!(next(&mut last.unwrap()).await, Change::Down { id });
}

#[tokio::test]
async fn clusters_and_roles_stay_apart() {
    let (left, right) = (unique("left"), unique("right"));
    let (one, two, balancer) = (unique("one"), unique("two"), unique("lb"));
    let server = discovery();
    let mut other_role = announcement(&balancer, &left, 7005);
    other_role.role = Role::Balancer;
    let _advertisements = (
        server.advertise(announcement(&one, &left, 7003)).await.unwrap(),
        server.advertise(announcement(&two, &right, 7004)).await.unwrap(),
        server.advertise(other_role).await.unwrap(),
    );
    // The first change of each browse is the only peer that it may see.
    for (role, cluster, id) in [
        (Role::Worker, &left, &one),
        (Role::Worker, &right, &two),
        (Role::Balancer, &left, &balancer),
    ] {
        let mut browse = server.browse(role, cluster);
        let Change::Up(peer) = next(&mut browse).await else { panic!("expected a peer") };
        assert_eq!(peer.id, *id);
    }
}

#[tokio::test]
async fn a_changed_txt_record_is_reported_once_more() {
    let (id, cluster) = (unique("changing"), unique("cluster"));
    let client = discovery();
    let mut browse = client.browse(Role::Worker, &cluster);
    let daemon = stranger();
    for zone in ["a", "b"] {
        let txt = [("txtvers", "1"), ("id", &id), ("cluster", &cluster), ("zone", zone)];
        daemon.register(strange_service(&id, 7006, &txt)).unwrap();
        let Change::Up(peer) = next(&mut browse).await else {
            panic!("expected the peer to be up")
        };
        assert_eq!(peer.txt.get("zone").map(String::as_str), Some(zone));
    }
    daemon.shutdown().unwrap();
    down(&mut browse, &id).await;
}

#[tokio::test]
async fn a_name_that_is_taken_changes_and_the_identity_stays() {
    let (id, cluster) = (unique("wanted"), unique("cluster"));
    let squatter = unique("squatter");
    let client = discovery();
    let mut browse = client.browse(Role::Worker, &cluster);
    let daemon = stranger();
    let txt = [("txtvers", "1"), ("id", &squatter), ("cluster", &cluster)];
    daemon.register(strange_service(&id, 7007, &txt)).unwrap();
    up(&mut browse, |peer| peer.id == squatter).await;

    let server = discovery();
    let advertisement = server.advertise(announcement(&id, &cluster, 7008)).await.unwrap();
    let peer = up(&mut browse, |peer| peer.id == id).await;
    assert_eq!(shown(&peer), ["127.0.0.1:7008"]);
    advertisement.withdraw().await;
    down(&mut browse, &id).await;
    daemon.shutdown().unwrap();
    down(&mut browse, &squatter).await;
}

#[tokio::test]
async fn two_processes_with_one_id_are_one_peer_with_two_addresses() {
    let (id, cluster) = (unique("twin"), unique("cluster"));
    let (first, second) = (discovery(), discovery());
    let _first = first.advertise(announcement(&id, &cluster, 7010)).await.unwrap();
    let other = second.advertise(announcement(&id, &cluster, 7011)).await.unwrap();
    let mut browse = first.browse(Role::Worker, &cluster);
    let both = ["127.0.0.1:7010", "127.0.0.1:7011"];
    up(&mut browse, |peer| shown(peer) == both).await;
    other.withdraw().await;
    up(&mut browse, |peer| shown(peer) == both[..1]).await;
}

#[tokio::test]
async fn what_is_malformed_is_ignored() {
    let cluster = unique("cluster");
    let (nameless, future, sound) = (unique("nameless"), unique("future"), unique("sound"));
    let daemon = stranger();
    let txt = [("txtvers", "1"), ("cluster", cluster.as_str())];
    daemon.register(strange_service(&nameless, 7012, &txt)).unwrap();
    let txt = [("txtvers", "2"), ("id", future.as_str()), ("cluster", cluster.as_str())];
    daemon.register(strange_service(&future, 7013, &txt)).unwrap();
    let server = discovery();
    let mut browse = server.browse(Role::Worker, &cluster);
    let _advertisement = server.advertise(announcement(&sound, &cluster, 7014)).await.unwrap();
    let Change::Up(peer) = next(&mut browse).await else { panic!("expected a peer") };
    assert_eq!(peer.id, sound);
    daemon.shutdown().unwrap();
}

#[tokio::test]
async fn what_cannot_be_announced_is_refused() {
    let (id, cluster) = (unique("twice"), unique("cluster"));
    let server = discovery();
    let advertisement = server.advertise(announcement(&id, &cluster, 7015)).await.unwrap();
    let again = server.advertise(announcement(&id, &cluster, 7016)).await.unwrap_err();
    assert!(matches!(again, DiscoveryError::AlreadyAnnounced { .. }), "{again}");
    advertisement.withdraw().await;
    let mut elsewhere = announcement(&id, &cluster, 7017);
    elsewhere.addresses = vec!["192.0.2.1".parse().unwrap()];
    let refused = server.advertise(elsewhere).await.unwrap_err();
    assert!(matches!(refused, DiscoveryError::InvalidAnnouncement { .. }), "{refused}");
    let again = server.advertise(announcement(&id, &cluster, 7018)).await.unwrap();
    let late = server.clone();
    server.shutdown().await;
    drop(again);
    let closed = late.advertise(announcement(&id, &cluster, 7019)).await.unwrap_err();
    assert!(matches!(closed, DiscoveryError::Closed), "{closed}");
}

#[tokio::test]
async fn shutting_down_and_dropping_both_say_goodbye() {
    let (first, second, cluster) = (unique("first"), unique("second"), unique("cluster"));
    let client = discovery();
    let mut browse = client.browse(Role::Worker, &cluster);
    let server = discovery();
    let kept = server.advertise(announcement(&first, &cluster, 7020)).await.unwrap();
    let dropped = server.advertise(announcement(&second, &cluster, 7021)).await.unwrap();
    let both = [up(&mut browse, |_| true).await.id, up(&mut browse, |_| true).await.id];
    assert!(both.contains(&first) && both.contains(&second), "{both:?}");
    drop(dropped);
    down(&mut browse, &second).await;
    server.shutdown().await;
    down(&mut browse, &first).await;
    drop(kept);
}
