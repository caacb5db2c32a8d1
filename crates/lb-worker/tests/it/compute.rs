//! The built-in service, over the wire.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, Request};

use lb_proto::v1::{
    Burn, Echo, Factorial, Primes, Reverse, Sleep, Sum, Task, task::Kind, task_result::Value,
};

use crate::{
    fake_registry::{FakeRegistry, PATIENCE},
    harness::{Running, builder, computing, task},
};

async fn worker() -> (FakeRegistry, Running) {
    let registry = FakeRegistry::start().await;
    let worker = computing(builder(&registry).slots(2));
    (registry, worker)
}

#[tokio::test]
async fn every_task_answers_and_is_signed() {
    let (_registry, worker) = worker().await;
    let mut client = worker.client().await;
    let known = [
        (Kind::Sum(Sum { n: 1_000_000 }), Value::Number(500_000_500_000)),
        (Kind::Factorial(Factorial { n: 20 }), Value::Text("2432902008176640000".into())),
        (Kind::Reverse(Reverse { text: "hellö".into() }), Value::Text("ölleh".into())),
        (Kind::Primes(Primes { up_to: 1_000_000 }), Value::Number(78_498)),
        (Kind::Echo(Echo { payload: "x".into() }), Value::Payload("x".into())),
        (Kind::Echo(Echo::default()), Value::Payload("".into())),
    ];
    for (kind, expected) in known {
        let result = client.run(task(kind)).await.unwrap().into_inner();
        assert_eq!(result.value, Some(expected));
        assert_eq!(result.worker_id, "w1");
    }
    for kind in [Kind::Sleep(Sleep { duration_us: 2000 }), Kind::Burn(Burn { cpu_us: 2000 })] {
        let result = client.run(task(kind)).await.unwrap().into_inner();
        let Some(Value::ElapsedUs(elapsed)) = result.value else { panic!("{result:?}") };
        assert!(elapsed >= 2000 && result.service_us >= elapsed, "{result:?}");
    }
}

#[tokio::test]
async fn bad_input_gets_a_clear_answer() {
    let (_registry, worker) = worker().await;
    let mut client = worker.client().await;
    let bad = [
        (Kind::Factorial(Factorial { n: -1 }), "factorial.n is -1: expected 0 to 500000"),
        (Kind::Factorial(Factorial { n: 500_001 }), "factorial.n is 500001: expected 0 to 500000"),
        (Kind::Sum(Sum { n: -1 }), "sum.n is -1: expected 0 to 6000000000"),
        (
            Kind::Primes(Primes { up_to: i64::MAX }),
            "primes.up_to is 9223372036854775807: expected 0 to 1000000000",
        ),
        (Kind::Reverse(Reverse::default()), "reverse.text has 0 bytes: expected 1 to 1048576"),
        (
            Kind::Reverse(Reverse { text: "x".repeat(1024 * 1024 + 1) }),
            "reverse.text has 1048577 bytes: expected 1 to 1048576",
        ),
    ];
    for (kind, message) in bad {
        let status = client.run(task(kind.clone())).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message));
        let status = client.run_stream(task(kind)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message));
    }
    let status = client.run(Request::new(Task::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().starts_with("task is not set or not known: expected one of sleep, sum")
    );
    let status = client.run_stream(task(Kind::Echo(Echo::default()))).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    // Above what gRPC takes at all, tonic answers before we see it.
    let status =
        client.run(task(Kind::Reverse(Reverse { text: "x".repeat(5 << 20) }))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    worker.load_where(|load| load.in_flight == 0).await;
}

#[tokio::test]
async fn a_result_too_large_for_one_message_is_streamed() {
    let (_registry, worker) = worker().await;
    let mut client = worker.client().await;
    let status = client.run(task(Kind::Factorial(Factorial { n: 250_000 }))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(
        status.message(),
        "the result has 1240915 bytes: Run answers at most 1048576, use RunStream"
    );
    let text = "añ→".repeat(100_000);
    let request = task(Kind::Reverse(Reverse { text: text.clone() }));
    let mut pieces = client.run_stream(request).await.unwrap().into_inner();
    let first = pieces.message().await.unwrap().unwrap();
    assert_eq!((first.worker_id.as_str(), first.text.as_str()), ("w1", ""));
    let mut joined = String::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        assert!((1..=64 * 1024).contains(&piece.text.len()));
        joined.push_str(&piece.text);
    }
    assert_eq!(joined, text.chars().rev().collect::<String>());
    let mut pieces = client.run_stream(task(Kind::Sum(Sum { n: 4 }))).await.unwrap().into_inner();
    pieces.message().await.unwrap();
    assert_eq!(pieces.message().await.unwrap().unwrap().text, "10");
}

/// A thread that nobody waits for any more gives its CPU back soon. The process must end it too: a runtime waits for its
/// blocking threads when it is dropped.
#[test]
fn a_cancelled_task_stops_using_the_cpu() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (_registry, worker) = worker().await;
        let client = worker.client().await;
        let endless = [
            Kind::Burn(Burn { cpu_us: 600_000_000 }),
            Kind::Sum(Sum { n: 6_000_000_000 }),
            Kind::Primes(Primes { up_to: 1_000_000_000 }),
            Kind::Factorial(Factorial { n: 500_000 }),
        ];
        for kind in endless {
            let mut client = client.clone();
            let call = tokio::spawn(async move { client.run_stream(task(kind)).await });
            worker.load_where(|load| load.in_flight == 1 && load.queued == 0).await;
            call.abort();
            worker.load_where(|load| load.in_flight == 0).await;
        }
        // The same when the deadline passes.
        let mut late = client.clone();
        let mut request = task(Kind::Burn(Burn { cpu_us: 600_000_000 }));
        request.set_timeout(Duration::from_millis(20));
        timeout(PATIENCE, late.run(request)).await.unwrap().unwrap_err();
        worker.load_where(|load| load.in_flight == 0).await;
    });
    // Were a thread still at work, this would take ten minutes.
    let begun = std::time::Instant::now();
    drop(runtime);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
