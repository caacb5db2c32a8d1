//! Workers that come, go, and say what cannot be.

use tonic::Code;

use lb_core::policy::PolicyKind;
use lb_proto::v1::{
    Goodbye, Hello, ListWorkersRequest, LoadReport, registry_message::Kind as Answer,
    worker_message::Kind as Said,
};

use crate::support::{Balancer, hello, idle, until};

async fn refused(balancer: &Balancer, said: Said) -> (Code, String) {
    let mut stream = balancer.register().await;
    stream.say(said).await;
    let Some(Answer::Refused(refused)) = stream.answer().await.unwrap() else {
        panic!("expected a refusal")
    };
    let status = stream.end().await;
    assert_eq!(status.code(), Code::from(refused.code), "message and status agree");
    assert_eq!(status.message(), refused.reason);
    (status.code(), refused.reason)
}

#[tokio::test]
async fn a_hello_that_is_not_sound_is_refused_by_name() {
    let balancer = Balancer::start(PolicyKind::RoundRobin).await;
    let sound = hello("w1", 4000);
    let cases = [
        (
            Hello { worker_id: "W 1".into(), ..sound.clone() },
            Code::InvalidArgument,
            "hello.worker_id",
        ),
        (Hello { slots: 0, ..sound.clone() }, Code::InvalidArgument, "hello.slots is 0"),
        (
            Hello { address: "10.9.8.7:4000".into(), ..sound.clone() },
            Code::InvalidArgument,
            "hello.address is 10.9.8.7:4000, but this connection comes from 127.0.0.1",
        ),
        (
            Hello { cluster: "other".into(), ..sound },
            Code::FailedPrecondition,
            "hello.cluster is other: this balancer serves cluster test",
        ),
    ];
    for (hello, expected_code, expected) in cases {
        let (code, reason) = refused(&balancer, Said::Hello(hello)).await;
        assert_eq!(code, expected_code, "{reason}");
        assert!(reason.starts_with(expected), "{reason}");
    }
    let (code, reason) = refused(&balancer, Said::Report(idle())).await;
    assert_eq!((code, &*reason), (Code::InvalidArgument, "expected a hello as the first message"));
}

#[tokio::test]
async fn a_second_worker_with_the_same_id_is_refused_and_the_first_stays() {
    let balancer = Balancer::start(PolicyKind::RoundRobin).await;
    let _first = balancer.worker("twin", 4001).await;
    let (code, reason) = refused(&balancer, Said::Hello(hello("twin", 4002))).await;
    assert_eq!(code, Code::AlreadyExists);
    assert_eq!(
        reason,
        "worker id twin is taken by a live worker at 127.0.0.1:4001: give this one another id"
    );
    let list = balancer.admin().list_workers(ListWorkersRequest {}).await.unwrap().into_inner();
    assert_eq!(list.workers.len(), 1);
    assert_eq!(list.workers[0].state, "serving");
}

#[tokio::test]
async fn an_impossible_report_ends_the_stream_and_takes_the_worker_out() {
    let balancer = Balancer::start(PolicyKind::RoundRobin).await;
    let cases: [(LoadReport, &str); 5] = [
        (LoadReport { cpu: f64::NAN, ..idle() }, "load report: cpu is NaN"),
        (LoadReport { busy_seconds: -1.0, ..idle() }, "load report: busy_seconds is -1"),
        (LoadReport { queued: 3, in_flight: 2, ..idle() }, "load report: queued is 3"),
        (LoadReport { errors_total: 1, ..idle() }, "load report: errors_total is 1"),
        (LoadReport { state: 0, ..idle() }, "state is not set"),
    ];
    for ((report, expected), port) in cases.into_iter().zip(4000..) {
        let mut worker = balancer.worker("liar", port).await;
        let mut events = balancer.events().await;
        worker.stream.say(Said::Report(report)).await;
        let status = worker.stream.end().await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(expected), "{status}");
        until(&mut events, "worker_lost").await;
    }
}

#[tokio::test]
async fn totals_that_shrink_end_the_stream() {
    let balancer = Balancer::start(PolicyKind::RoundRobin).await;
    let mut worker = balancer.worker("w1", 4001).await;
    worker.report.completed_total = 7;
    worker.send_report().await;
    worker.report.completed_total = 6;
    worker.send_report().await;
    let status = worker.stream.end().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.message(),
        "load report: completed_total is 6, expected at least 7, as reported before"
    );
}

#[tokio::test]
async fn what_is_said_twice_or_not_at_all_ends_the_stream() {
    let balancer = Balancer::start(PolicyKind::RoundRobin).await;
    let mut worker = balancer.worker("w1", 4001).await;
    worker.stream.say(Said::Hello(hello("w1", 4001))).await;
    assert_eq!(worker.stream.end().await.message(), "hello was already said on this stream");
    let mut worker = balancer.worker("w2", 4002).await;
    worker.stream.say_nothing().await;
    let status = worker.stream.end().await;
    assert_eq!(status.message(), "kind is not set: expected hello, report or goodbye");
}

#[tokio::test]
async fn a_worker_is_out_when_its_stream_ends() {
    let balancer = Balancer::start(PolicyKind::RoundRobin).await;
    let mut events = balancer.events().await;
    let mut polite = balancer.worker("polite", 4001).await;
    polite.stream.say(Said::Goodbye(Goodbye { reason: "stopped".into() })).await;
    assert_eq!(until(&mut events, "worker_left").await.worker_id, "polite");
    drop(balancer.worker("gone", 4002).await);
    let lost = until(&mut events, "worker_lost").await;
    assert_eq!((&*lost.worker_id, &*lost.message), ("gone", "its connection broke"));
}

#[tokio::test]
async fn a_restarted_worker_takes_its_place_at_once() {
    let balancer = Balancer::start(PolicyKind::RoundRobin).await;
    let mut old = balancer.worker("w1", 4001).await;
    let new = balancer.worker_with(Hello { instance: 2, ..hello("w1", 4001) }).await;
    assert_ne!(new.accepted.worker_number, old.accepted.worker_number);
    let status = old.stream.end().await;
    assert_eq!(status.code(), Code::Aborted);
}

#[tokio::test]
async fn streams_end_when_the_balancer_stops() {
    let mut balancer = Balancer::start(PolicyKind::RoundRobin).await;
    let mut worker = balancer.worker("w1", 4001).await;
    balancer.stop().await;
    assert!(!matches!(worker.stream.answer().await, Ok(Some(_))));
    let again = tokio::net::TcpStream::connect(balancer.address).await;
    assert!(again.is_err(), "the listening socket is closed");
}
