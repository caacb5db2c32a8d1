//! What balancers are told, and when.

use std::time::{Duration, Instant};

use lb_proto::v1::WorkerState;

use crate::{
    fake_registry::{BALANCER, FakeRegistry},
    harness::{SERVICE, builder, gated, request, spawn_call},
};

#[tokio::test]
async fn hello_says_everything_and_the_first_report_follows_at_once() {
    let mut registry = FakeRegistry::start().await;
    let described = builder(&registry).slots(3).zone("z").label("gpu", "a100").version("9.9");
    let (worker, _service) = gated(described);
    // Heartbeats of a minute: what comes is not one of them.
    let mut stream = registry.accept(20, 60_000).await;
    let hello = stream.hello.clone();
    assert_eq!(hello.worker_id, "w1");
    assert_eq!(hello.cluster, "default");
    assert_eq!(hello.address, worker.address.to_string());
    assert_eq!(hello.services, [SERVICE]);
    assert_eq!((hello.slots, hello.zone.as_str(), hello.version.as_str()), (3, "z", "9.9"));
    assert_eq!(hello.labels.get("gpu").map(String::as_str), Some("a100"));
    assert_ne!(hello.instance, 0);
    let report = stream.report().await;
    assert_eq!(report.state(), WorkerState::Serving);
    assert_eq!((report.in_flight, report.queued, report.slots), (0, 0, 3));
}

#[tokio::test]
async fn reports_on_change_count_calls_and_this_registration_s_tokens() {
    let mut registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).slots(2));
    // Short heartbeats: the call that comes last may be one that the balancer knows.
    let mut stream = registry.accept(1, 100).await;
    stream.report().await;
    let client = worker.client().await;
    let tokens = [
        format!("{BALANCER}/7/p1"),
        format!("{BALANCER}/7/s1"),
        format!("{BALANCER}/7/s2"),
        "other/7/p1".into(),
        format!("{BALANCER}/8/p1"),
        format!("{BALANCER}/7/x1"),
        "nonsense".into(),
        String::new(),
    ];
    let calls: Vec<_> = tokens.iter().map(|token| spawn_call(&client, request(token))).collect();
    let report = stream.report_where(|report| report.in_flight == 8 && report.queued == 6).await;
    let (picked, session) = (report.picked.unwrap(), report.session.unwrap());
    assert_eq!((picked.seen, picked.done, session.seen, session.done), (1, 0, 2, 0));

    service.release(8);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let report = stream.report_where(|report| report.completed_total == 8).await;
    let (picked, session) = (report.picked.unwrap(), report.session.unwrap());
    assert_eq!((picked.seen, picked.done, session.seen, session.done), (1, 1, 2, 2));
    assert_eq!((report.in_flight, report.queued, report.errors_total), (0, 0, 0));
    assert!(
        report.busy_seconds > 0.0 && report.in_flight_integral >= report.busy_seconds,
        "{report:?}"
    );
}

#[tokio::test]
async fn a_call_that_the_balancer_picked_is_told_with_the_next_news() {
    let mut registry = FakeRegistry::start().await;
    let (worker, _service) = gated(builder(&registry).slots(4));
    let mut stream = registry.accept(1, 60_000).await;
    stream.report().await;
    let client = worker.client().await;
    let _known = spawn_call(&client, request(&format!("{BALANCER}/7/p1")));
    worker.load_where(|load| load.in_flight == 1).await;
    let _news = spawn_call(&client, request(""));
    let report = stream.report().await;
    assert_eq!((report.in_flight, report.picked.unwrap().seen), (2, 1));
}

#[tokio::test]
async fn a_burst_is_coalesced_and_its_end_is_told() {
    const INTERVAL_MS: u32 = 100;
    let mut registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).slots(1));
    let mut stream = registry.accept(INTERVAL_MS, 60_000).await;
    stream.report().await;
    let mut client = worker.client().await;
    let started = Instant::now();
    service.release(300);
    for _ in 0..300 {
        client.run(request("")).await.unwrap();
    }
    let mut reports = 0;
    while stream.report().await.completed_total < 300 {
        reports += 1;
    }
    let intervals = started.elapsed().as_millis() / u128::from(INTERVAL_MS);
    let allowed = intervals + 1 + u128::from(lb_core::allowance::SAVED);
    assert!(reports <= allowed, "{reports} reports in {intervals} intervals");
}

#[tokio::test]
async fn an_idle_worker_sends_heartbeats() {
    let mut registry = FakeRegistry::start().await;
    let (_worker, _service) = gated(builder(&registry).slots(1));
    let mut stream = registry.accept(20, 100).await;
    stream.report().await;
    let started = Instant::now();
    for _ in 0..4 {
        stream.report().await;
    }
    // The first is at a random phase; three whole ones follow.
    assert!(started.elapsed() >= Duration::from_millis(3 * 85), "{:?}", started.elapsed());
}

#[tokio::test]
async fn each_balancer_sees_its_own_tokens_and_the_whole_load() {
    let (mut first, mut second) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let both = builder(&first).slots(4).balancers([second.address.to_string()]);
    let (worker, _service) = gated(both);
    let mut one = first.next().await;
    one.accept("one", 1, 1, 100).await;
    let mut two = second.next().await;
    two.accept("two", 1, 1, 100).await;
    // Both have their first report, so both are counted for.
    one.report().await;
    two.report().await;
    let client = worker.client().await;
    let _calls =
        ["one/1/p1", "two/1/p1", "two/1/p2"].map(|token| spawn_call(&client, request(token)));
    let report = one.report_where(|report| report.in_flight == 3).await;
    assert_eq!(report.picked.unwrap().seen, 1);
    let report = two.report_where(|report| report.in_flight == 3).await;
    assert_eq!(report.picked.unwrap().seen, 2);
}
