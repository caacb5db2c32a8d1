//! Leaving without failing a call.

use std::time::Duration;

use tokio::{net::TcpStream, time::Instant};
use tonic::Code;

use lb_proto::v1::{LoadReport, WorkerState};

use crate::{
    fake_registry::FakeRegistry,
    harness::{builder, gated, request, spawn_call},
};

fn draining(report: &LoadReport) -> bool {
    report.state() == WorkerState::Draining
}

#[tokio::test]
async fn calls_inside_and_calls_on_their_way_are_served_before_the_goodbye() {
    let mut registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).slots(4));
    // Reports every ten seconds: DRAINING must not wait for that.
    let mut stream = registry.accept(10_000, 60_000).await;
    stream.report().await;
    let client = worker.client().await;
    let inside = spawn_call(&client, request("fake/7/p1"));
    service.entered(1).await;
    let mut ready = worker.ready.clone();
    ready.wait_for(|ready| *ready).await.unwrap();

    let asked = Instant::now();
    worker.shutdown.cancel();
    stream.report_where(draining).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "told at once");
    ready.wait_for(|ready| !*ready).await.unwrap();
    // Three more were picked before: one that comes, one over a session on a new connection, and one that never will.
    stream.acknowledge_drain(3, 1, 1000).await;
    service.release(1);
    inside.await.unwrap().unwrap();
    let late = spawn_call(&client, request("fake/7/p2"));
    let later = spawn_call(&worker.client().await, request("fake/7/s1"));
    service.entered(3).await;
    service.release(2);
    late.await.unwrap().unwrap();
    later.await.unwrap().unwrap();

    stream.goodbye().await;
    // The last token has waited for its lease.
    assert!(asked.elapsed() >= Duration::from_secs(1), "{:?}", asked.elapsed());
    let address = worker.address;
    worker.stopped().await;
    assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn with_every_token_seen_only_the_linger_is_waited_for() {
    let mut registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry));
    let mut stream = registry.accept(1, 60_000).await;
    stream.report().await;
    service.release(1);
    worker.client().await.run(request("fake/7/p1")).await.unwrap();
    stream.report_where(|report| report.completed_total == 1).await;
    let asked = Instant::now();
    worker.shutdown.cancel();
    stream.report_where(draining).await;
    stream.acknowledge_drain(1, 0, 60_000).await;
    stream.goodbye().await;
    let took = asked.elapsed();
    assert!((Duration::from_millis(200)..Duration::from_secs(10)).contains(&took), "{took:?}");
    drop(stream);
    worker.stopped().await;
}

#[tokio::test]
async fn a_balancer_that_does_not_answer_does_not_hold_up_the_stop() {
    let mut registry = FakeRegistry::start().await;
    let (worker, _service) = gated(builder(&registry));
    let mut stream = registry.accept(1, 60_000).await;
    stream.report().await;
    let asked = Instant::now();
    worker.shutdown.cancel();
    // The stream stays open and silent.
    worker.stopped().await;
    let took = asked.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&took), "{took:?}");
    drop(stream);
}

#[tokio::test]
async fn an_answer_to_an_operator_s_drain_still_counts() {
    let mut registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry));
    let mut stream = registry.accept(1, 60_000).await;
    stream.report().await;
    stream.order(WorkerState::Draining).await;
    stream.report_where(draining).await;
    stream.acknowledge_drain(1, 0, 60_000).await;
    worker.shutdown.cancel();
    // One call is expected, and only its arrival ends the drain.
    service.release(1);
    worker.client().await.run(request("fake/7/p1")).await.unwrap();
    stream.goodbye().await;
    drop(stream);
    worker.stopped().await;
}

#[tokio::test]
async fn when_the_time_is_over_calls_are_cut_and_told_so() {
    let mut registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).drain_timeout(Duration::from_millis(100)));
    let mut stream = registry.accept(1, 60_000).await;
    stream.report().await;
    let call = spawn_call(&worker.client().await, request(""));
    service.entered(1).await;
    worker.shutdown.cancel();
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "the worker has stopped before the call ended");
    service.wait(|seen| seen.dropped == 1).await;
    drop(stream);
    worker.stopped().await;
}

#[tokio::test]
async fn without_any_balancer_it_stops_when_it_is_idle() {
    let registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry));
    registry.stop().await;
    let call = spawn_call(&worker.client().await, request(""));
    service.entered(1).await;
    worker.shutdown.cancel();
    service.release(1);
    call.await.unwrap().unwrap();
    worker.stopped().await;
}
