//! Getting in, being refused, getting in again.

use tokio::time::Instant;
use tonic::Code;

use lb_proto::v1::{WorkerState, registry_message::Kind as Down};

use crate::{
    fake_registry::FakeRegistry,
    harness::{builder, gated, request, spawn_call},
};

#[tokio::test]
async fn a_lost_balancer_is_dialled_until_it_is_back() {
    let mut registry = FakeRegistry::start().await;
    let address = registry.address;
    let (worker, service) = gated(builder(&registry));
    let mut stream = registry.accept(1, 60_000).await;
    let instance = stream.hello.instance;
    stream.report().await;
    // The balancer dies in the middle of a call, which goes on.
    let call = spawn_call(&worker.client().await, request("fake/7/p1"));
    service.entered(1).await;
    drop(stream);
    registry.stop().await;

    let mut registry = FakeRegistry::start_at(address).await;
    let mut stream = registry.accept(1, 60_000).await;
    assert_eq!(stream.hello.instance, instance, "still the same process");
    let report = stream.report_where(|report| report.in_flight == 1).await;
    // The token was one of the registration before.
    assert_eq!(report.picked.unwrap().seen, 0);
    service.release(1);
    call.await.unwrap().unwrap();
    stream.report_where(|report| report.completed_total == 1).await;
}

#[tokio::test]
async fn a_balancer_that_ends_the_stream_gets_a_new_one() {
    let mut registry = FakeRegistry::start().await;
    let (_worker, _service) = gated(builder(&registry));
    for _ in 0..3 {
        let mut stream = registry.accept(1, 60_000).await;
        stream.report().await;
    }
}

#[tokio::test]
async fn a_refused_worker_comes_back_when_it_may() {
    let mut registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry));
    for _ in 0..2 {
        let mut stream = registry.next().await;
        let refused = Instant::now();
        stream.refuse(Code::AlreadyExists, "another live worker is called w1", 150).await;
        drop(stream);
        let mut again = registry.next().await;
        assert!(refused.elapsed().as_millis() >= 150);
        again.refuse(Code::ResourceExhausted, "full", 1).await;
    }
    // Refused or not: calls are served.
    service.release(1);
    worker.client().await.run(request("")).await.unwrap();
    registry.accept(1, 60_000).await.report().await;
}

#[tokio::test]
async fn a_refusal_for_good_is_not_hammered_at() {
    let mut registry = FakeRegistry::start().await;
    let (worker, _service) = gated(builder(&registry));
    let mut stream = registry.next().await;
    stream.refuse(Code::FailedPrecondition, "wrong cluster", 0).await;
    drop(stream);
    // A refused worker stops at once, and has not tried again.
    worker.shutdown.cancel();
    worker.stopped().await;
    assert!(!registry.has_arrivals());
}

#[tokio::test]
async fn nonsense_from_a_balancer_is_survived() {
    let mut registry = FakeRegistry::start().await;
    let (_worker, _service) = gated(builder(&registry));
    let mut stream = registry.next().await;
    stream.order(WorkerState::Draining).await;
    let mut stream = registry.next().await;
    stream.accept("Not An Id", 1, 1, 1000).await;
    let mut stream = registry.accept(1, 60_000).await;
    stream.report().await;
    stream.order(WorkerState::Unspecified).await;
    stream.accept("again", 2, 1, 1000).await;
    stream.order(WorkerState::Draining).await;
    stream.report_where(|report| report.state() == WorkerState::Draining).await;
}

#[tokio::test]
async fn an_operator_s_order_is_told_to_all_balancers() {
    let (mut first, mut second) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let (worker, service) = gated(builder(&first).balancers([second.address.to_string()]));
    let mut one = first.next().await;
    one.accept("one", 1, 1, 60_000).await;
    let mut two = second.next().await;
    two.accept("two", 1, 1, 60_000).await;
    (one.report().await, two.report().await);

    one.order(WorkerState::Draining).await;
    one.report_where(|report| report.state() == WorkerState::Draining).await;
    two.report_where(|report| report.state() == WorkerState::Draining).await;
    // It still serves what arrives.
    service.release(1);
    worker.client().await.run(request("")).await.unwrap();
    two.send(Down::Order(lb_proto::v1::StateOrder { state: WorkerState::Serving.into() })).await;
    one.report_where(|report| report.state() == WorkerState::Serving).await;
    two.report_where(|report| report.state() == WorkerState::Serving).await;
}

#[tokio::test]
async fn one_balancer_by_two_names_keeps_one_registration() {
    let mut registry = FakeRegistry::start().await;
    let by_name = format!("localhost:{}", registry.address.port());
    let (_worker, _service) = gated(builder(&registry).balancers([by_name]));
    let mut first = registry.next().await;
    first.accept("same", 1, 1, 60_000).await;
    first.report().await;
    // The balancer lets the newer stream take over from the older one, as a real one does.
    let mut second = registry.next().await;
    second.accept("same", 2, 1, 60_000).await;
    second.report().await;
    drop(first);
    // The loser does not come back: it would throw out the winner, and so on for ever. Only
    // when the winner is gone there is a new attempt.
    drop(second);
    registry.accept(1, 60_000).await.report().await;
}
