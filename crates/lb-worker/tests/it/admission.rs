//! Slots, the queue, and what happens beyond them.

use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time::timeout};
use tonic::{Code, Request};

use lb_proto::v1::Task;

use crate::{
    fake_registry::{FakeRegistry, PATIENCE},
    harness::{builder, gated, request, spawn_call},
};

#[tokio::test]
async fn beyond_slots_and_queue_a_call_is_refused_with_a_hint() {
    let registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).slots(2).queue(1));
    let client = worker.client().await;
    let calls: Vec<_> = (0..3).map(|_| spawn_call(&client, request(""))).collect();
    worker.load_where(|load| load.in_flight == 3 && load.queued == 1).await;

    let status = client.clone().run(request("")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "worker is full: 2 calls run (limit: slots) and 1 wait (limit: queue)"
    );
    let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap();
    assert!((10..=1000).contains(&pushback.parse::<u64>().unwrap()), "{pushback}");
    assert!(!status.details().is_empty(), "google.rpc.RetryInfo, for other libraries");

    service.release(3);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    worker.load_where(|load| load.in_flight == 0 && load.completed_total == 3).await;
    let view = worker.load.view(tokio::time::Instant::now());
    assert_eq!((view.errors_total, view.refused_total), (0, 1));
}

#[tokio::test]
async fn a_call_that_waited_knows_how_long() {
    let registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).slots(1));
    let client = worker.client().await;
    let first = spawn_call(&client, request(""));
    service.entered(1).await;
    let second = spawn_call(&client, request(""));
    worker.load_where(|load| load.queued == 1).await;
    service.release(2);
    assert!(first.await.unwrap().unwrap().get_ref().queued_us < 1_000_000);
    assert!(second.await.unwrap().unwrap().get_ref().queued_us > 0);
}

#[tokio::test]
async fn a_cancelled_call_frees_its_slot_or_its_place() {
    let registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).slots(1).queue(1));
    let client = worker.client().await;
    let running = spawn_call(&client, request(""));
    service.entered(1).await;
    let waiting = spawn_call(&client, request(""));
    worker.load_where(|load| load.queued == 1).await;

    waiting.abort();
    worker.load_where(|load| load.in_flight == 1 && load.queued == 0).await;
    let waiting = spawn_call(&client, request(""));
    worker.load_where(|load| load.queued == 1).await;
    running.abort();
    // The handler of the aborted call is dropped, and the waiting one takes its slot.
    service.wait(|seen| seen.dropped == 1).await;
    service.entered(2).await;
    service.release(1);
    waiting.await.unwrap().unwrap();
    worker.load_where(|load| load.in_flight == 0 && load.completed_total == 3).await;
    assert_eq!(worker.load.view(tokio::time::Instant::now()).errors_total, 2);
}

#[tokio::test]
async fn a_deadline_ends_running_and_waiting_calls_with_its_own_code() {
    let registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).slots(1));
    // tonic's client would answer by itself when the time is over, so this one knows nothing of gRPC.
    let stream = TokioIo::new(TcpStream::connect(worker.address).await.unwrap());
    let handshake = http2::handshake(TokioExecutor::new(), stream);
    let (client, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let call = || {
        let request = http::Request::post(format!("http://{}/lb.v1.Compute/Run", worker.address))
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "30m")
            .body(String::from_utf8(vec![0; 5]).unwrap());
        tokio::spawn(client.clone().send_request(request.unwrap()))
    };
    for response in [call(), call()] {
        let response = timeout(PATIENCE, response).await.unwrap().unwrap().unwrap();
        let status = tonic::Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(status.message(), "the caller's deadline has passed");
    }
    worker.load_where(|load| load.in_flight == 0 && load.errors_total == 2).await;
    let view = worker.load.view(tokio::time::Instant::now());
    assert_eq!(view.faults_total, 2, "too slow for their callers");
    service.wait(|seen| seen.dropped == seen.entered).await;
    connection.abort();
}

#[tokio::test]
async fn errors_are_counted_wherever_their_status_stands() {
    let registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).slots(1));
    let mut client = worker.client().await;
    // In the headers: a unary call that fails at once.
    service.release(1);
    client.run(Request::new(Task::default())).await.unwrap_err();
    worker.load_where(|load| load.completed_total == 1 && load.errors_total == 1).await;
    // In the trailers: a stream that fails.
    let mut stream = client.run_stream(request("")).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::DataLoss);
    worker.load_where(|load| load.completed_total == 2 && load.errors_total == 2).await;
    // A call to a method that does not exist.
    let path = http::uri::PathAndQuery::from_static("/lb.v1.Compute/Nothing");
    let mut grpc = tonic::client::Grpc::new(worker.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Task, Task>::default();
    let status = grpc.unary(request(""), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    worker.load_where(|load| load.completed_total == 3 && load.errors_total == 3).await;
    let view = worker.load.view(tokio::time::Instant::now());
    assert_eq!(view.faults_total, 1, "DATA_LOSS is the worker's, the others are the callers'");
}

#[tokio::test]
async fn many_calls_at_once_leave_nothing_behind() {
    let registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).slots(3).queue(500));
    let client = worker.client().await;
    let calls: Vec<_> = (0..200).map(|_| spawn_call(&client, request(""))).collect();
    worker.load_where(|load| load.in_flight == 200).await;
    let view = worker.load.view(tokio::time::Instant::now());
    assert_eq!(view.queued, 197);
    for call in calls.iter().step_by(2) {
        call.abort();
    }
    service.release(200);
    for call in calls {
        let _ = call.await;
    }
    worker.load_where(|load| load.in_flight == 0 && load.completed_total == 200).await;
    let before = worker.load.view(tokio::time::Instant::now());
    tokio::task::yield_now().await;
    let after = worker.load.view(tokio::time::Instant::now() + Duration::from_secs(1));
    assert_eq!(before.in_flight_time, after.in_flight_time, "idle time is not counted");
}
