//! Calls to workers: tokens, outcomes, and what is tried when a worker does not take one.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use lb_client::{Source, WORKER_METADATA_KEY};
use lb_core::token::{Token, TokenClass};
use lb_proto::v1::{Burn, Echo, Task, task::Kind};
use tonic::{Code, Request};

use crate::{
    balancer::{FakeBalancer, Mode},
    client, connect, info, nobody, reverse, sleep, soon, text,
    worker::{FakeWorker, RawWorker, Trick},
};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_call_carries_its_token_and_reports_its_outcome() {
    let mut worker = FakeWorker::start("a").await;
    let mut balancer = FakeBalancer::start("lb-1", &[("a", worker.address)]).await;
    let channel = connect(&[&balancer]).await;

    let response = client(&channel).run(reverse("hello")).await.unwrap();

    assert_eq!(text(&response), "olleh");
    let token: Token = worker.call().await.unwrap().parse().unwrap();
    assert_eq!(token.to_string(), "lb-1/1/s1");
    let found = info(&response);
    assert_eq!(found.worker_id.as_str(), "a");
    assert_eq!(*found.address, *worker.address.to_string());
    assert_eq!(found.balancer_id.as_str(), "lb-1");
    assert_eq!((found.source, found.attempts), (Source::Session, 1));
    let outcome = balancer.outcome().await;
    assert_eq!((outcome.worker_number, outcome.sequence), (1, 1));
    assert_eq!((outcome.sent, outcome.code), (true, 0));
    assert!(outcome.latency_us > 0);
    assert_eq!(channel.in_flight(), 0);
}

#[tokio::test]
async fn a_failed_call_reports_its_status_and_names_its_worker() {
    let worker = FakeWorker::start("a").await;
    let mut balancer = FakeBalancer::start("lb-1", &[("a", worker.address)]).await;
    let channel = connect(&[&balancer]).await;
    let status = client(&channel).run(Task { kind: None }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "no slot"));
    assert_eq!(status.metadata().get(WORKER_METADATA_KEY).unwrap(), "a");
    let outcome = balancer.outcome().await;
    assert_eq!((outcome.sent, outcome.code), (true, Code::ResourceExhausted.into()));
}

/// Every worker turns it away, and hints at this time.
fn refused(hint: Duration) -> Task {
    Task { kind: Some(Kind::Burn(Burn { cpu_us: hint.as_micros().try_into().unwrap() })) }
}

#[tokio::test]
async fn a_call_that_is_turned_away_goes_to_the_second_choice_and_then_waits() {
    let (mut a, mut b) = (FakeWorker::start("a").await, FakeWorker::start("b").await);
    let workers = [("a", a.address), ("b", b.address)];
    let mut balancer = FakeBalancer::start("lb-1", &workers).await;
    let channel = connect(&[&balancer]).await;
    let hint = Duration::from_millis(20);
    let started = std::time::Instant::now();
    let status = client(&channel).run(refused(hint)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "full"));
    assert!(started.elapsed() >= hint, "the third attempt keeps to the hint");
    let mut tokens = Vec::new();
    while let Ok(token) = a.calls.try_recv().or_else(|_| b.calls.try_recv()) {
        tokens.push(token.unwrap().parse::<Token>().unwrap().class);
    }
    let second = tokens.iter().filter(|class| **class == TokenClass::Second).count();
    assert_eq!((tokens.len(), second), (3, 1));
    for _ in 0..2 {
        let outcome = balancer.outcome().await;
        assert_eq!((outcome.sent, outcome.code), (true, Code::ResourceExhausted.into()));
    }
    assert_eq!(channel.in_flight(), 0);
}

#[tokio::test]
async fn retries_end_with_their_budget() {
    let mut worker = FakeWorker::start("a").await;
    let balancer = FakeBalancer::start("lb-1", &[("a", worker.address)]).await;
    let channel = connect(&[&balancer]).await;
    let calls: usize = 100;
    for _ in 0..calls {
        client(&channel).run(refused(Duration::ZERO)).await.unwrap_err();
    }
    let mut arrived = 0;
    while worker.calls.try_recv().is_ok() {
        arrived += 1;
    }
    let retries = calls / 10 + lb_core::budget::SAVED_RETRIES as usize;
    assert!((retries - 2..=retries).contains(&(arrived - calls)), "{arrived} for {calls} calls");
}

#[tokio::test]
async fn nobody_waits_for_longer_than_the_caller() {
    let mut worker = FakeWorker::start("a").await;
    let balancer = FakeBalancer::start("lb-1", &[("a", worker.address)]).await;
    let channel = connect(&[&balancer]).await;
    let mut request = Request::new(refused(LONG));
    request.set_timeout(LONG);
    let status = client(&channel).run(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "at once, and not when the time is over");
    worker.call().await;
    assert!(worker.calls.try_recv().is_err());
}

#[tokio::test]
async fn a_cancelled_call_reports_once() {
    let mut worker = FakeWorker::start("a").await;
    let mut balancer = FakeBalancer::start("lb-1", &[("a", worker.address)]).await;
    let channel = connect(&[&balancer]).await;
    let mut caller = client(&channel);
    let call = tokio::spawn(async move { caller.run(sleep(LONG)).await });
    worker.call().await;
    assert_eq!(channel.in_flight(), 1);
    call.abort();
    let outcome = balancer.outcome().await;
    assert_eq!((outcome.sent, outcome.code), (true, Code::Cancelled.into()));
    assert_eq!(channel.in_flight(), 0);
    // The next outcome is the next call's.
    client(&channel).run(reverse("x")).await.unwrap();
    assert_eq!(balancer.outcome().await.sequence, 2);
}

#[tokio::test]
async fn a_half_read_stream_reports_cancelled() {
    let worker = FakeWorker::start("a").await;
    let mut balancer = FakeBalancer::start("lb-1", &[("a", worker.address)]).await;
    let channel = connect(&[&balancer]).await;
    let mut chunks = client(&channel).run_stream(reverse("x")).await.unwrap().into_inner();
    assert_eq!(chunks.message().await.unwrap().unwrap().worker_id, "a");
    assert_eq!(channel.in_flight(), 1);
    drop(chunks);
    let outcome = balancer.outcome().await;
    assert_eq!((outcome.sent, outcome.code), (true, Code::Cancelled.into()));
    assert_eq!(channel.in_flight(), 0);
}

#[tokio::test]
async fn the_deadline_holds_for_the_rest_of_a_stream() {
    let worker = FakeWorker::start("a").await;
    let mut balancer = FakeBalancer::start("lb-1", &[("a", worker.address)]).await;
    let channel = connect(&[&balancer]).await;
    let mut request = Request::new(reverse("x"));
    request.set_timeout(Duration::from_millis(300));
    let mut chunks = client(&channel).run_stream(request).await.unwrap().into_inner();
    chunks.message().await.unwrap();
    let status = soon(chunks.message()).await.unwrap_err();
    // The worker keeps the deadline too, and may be the first to say so.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    assert!(balancer.outcome().await.sent);
    assert_eq!(channel.in_flight(), 0);
}

#[tokio::test]
async fn the_deadline_holds_while_waiting_for_a_pick() {
    let balancer = FakeBalancer::start("lb-1", &[]).await;
    balancer.script().mode = Mode::Silent;
    let channel = connect(&[&balancer]).await;
    let mut request = Request::new(reverse("x"));
    request.set_timeout(Duration::from_millis(100));
    let status = soon(client(&channel).run(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(status.message(), "deadline exceeded while waiting for a worker to be picked");
}

#[tokio::test]
async fn an_overdue_call_reports_deadline_exceeded() {
    let worker = FakeWorker::start("a").await;
    let mut balancer = FakeBalancer::start("lb-1", &[("a", worker.address)]).await;
    let channel = connect(&[&balancer]).await;
    // Opens the connection, so that the deadline falls into the call.
    client(&channel).run(reverse("x")).await.unwrap();
    balancer.outcome().await;
    let mut request = Request::new(sleep(LONG));
    request.set_timeout(Duration::from_millis(200));
    let status = soon(client(&channel).run(request)).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    let outcome = balancer.outcome().await;
    assert!(outcome.sent);
    assert_eq!(outcome.code, i32::from(status.code()));
}

#[tokio::test]
async fn an_unreachable_worker_costs_no_call() {
    let mut worker = FakeWorker::start("b").await;
    let workers = [("a", nobody()), ("b", worker.address)];
    let mut balancer = FakeBalancer::start("lb-1", &workers).await;
    let channel = connect(&[&balancer]).await;

    let response = client(&channel).run(reverse("hello")).await.unwrap();

    assert_eq!((text(&response), info(&response).attempts), ("olleh", 2));
    let token: Token = worker.call().await.unwrap().parse().unwrap();
    assert_eq!((token.worker.0, token.class, token.sequence), (2, TokenClass::Second, 1));
    let outcome = balancer.outcome().await;
    assert_eq!((outcome.worker_number, outcome.sent), (1, false));
    assert_eq!(outcome.code, i32::from(Code::Unavailable));

    let mut caller = client(&channel);
    for _ in 0..20 {
        caller.run(reverse("hello")).await.unwrap();
    }
    assert_eq!(channel.in_flight(), 0);
}

#[tokio::test]
async fn three_attempts_and_then_the_truth() {
    let workers = [("a", nobody()), ("b", nobody()), ("c", nobody()), ("d", nobody())];
    let balancer = FakeBalancer::start("lb-1", &workers).await;
    let channel = connect(&[&balancer]).await;
    let status = client(&channel).run(reverse("x")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("not sent after 3 attempts; last: worker "), "{status}");
    assert!(status.message().contains("refused"), "{status}");
    let script = balancer.script();
    assert_eq!(script.picks.last().unwrap().exclude, [1, 2]);
}

#[tokio::test]
async fn a_lone_worker_that_is_down_is_named() {
    let address = nobody();
    let balancer = FakeBalancer::start("lb-1", &[("a", address)]).await;
    let channel = connect(&[&balancer]).await;
    let status = client(&channel).run(reverse("x")).await.unwrap_err();
    let start = format!("worker a at {address}: cannot connect: ");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with(&start), "{status}");
}

async fn replays_after(trick: Trick) {
    let raw = RawWorker::start(trick).await;
    let good = FakeWorker::start("b").await;
    let workers = [("a", raw.address), ("b", good.address)];
    let mut balancer = FakeBalancer::start("lb-1", &workers).await;
    let channel = connect(&[&balancer]).await;
    let response = soon(client(&channel).run(reverse("again"))).await.unwrap();
    assert_eq!((text(&response), info(&response).attempts), ("niaga", 2));
    let outcome = balancer.outcome().await;
    assert_eq!((outcome.worker_number, outcome.sent), (1, false));
    assert_eq!(channel.in_flight(), 0);
}

#[tokio::test]
async fn a_refused_stream_is_sent_again() {
    replays_after(Trick::RefuseStream).await;
}

#[tokio::test]
async fn a_goaway_before_the_call_is_sent_again() {
    replays_after(Trick::GoAway).await;
}

#[tokio::test]
async fn too_large_a_request_is_not_sent_again() {
    let raw = RawWorker::start(Trick::RefuseStream).await;
    let good = FakeWorker::start("b").await;
    let workers = [("a", raw.address), ("b", good.address)];
    let balancer = FakeBalancer::start("lb-1", &workers).await;
    let channel = connect(&[&balancer]).await;
    let payload = vec![7; 100 * 1024].into();
    let task = Task { kind: Some(Kind::Echo(Echo { payload })) };
    let status = soon(client(&channel).run(task)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().ends_with("too large to be sent again"), "{status}");
}

#[tokio::test]
async fn a_call_that_may_have_run_is_not_sent_again() {
    let raw = RawWorker::start(Trick::HangUp).await;
    let mut good = FakeWorker::start("b").await;
    let workers = [("a", raw.address), ("b", good.address)];
    let mut balancer = FakeBalancer::start("lb-1", &workers).await;
    let channel = connect(&[&balancer]).await;
    let status = soon(client(&channel).run(reverse("x"))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("connection lost during the call"), "{status}");
    assert_eq!(*raw.requests.lock().unwrap(), 1);
    assert!(good.calls.try_recv().is_err());
    let outcome = balancer.outcome().await;
    assert_eq!((outcome.sent, outcome.code), (true, Code::Unavailable.into()));
}

#[tokio::test]
async fn a_call_in_a_worker_that_falls_silent_fails_and_names_it() {
    let raw = RawWorker::start(Trick::Freeze).await;
    let mut balancer = FakeBalancer::start("lb-1", &[("a", raw.address)]).await;
    let channel = connect(&[&balancer]).await;
    let begun = Instant::now();
    let status = soon(client(&channel).run(reverse("x"))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(begun.elapsed() >= Duration::from_secs(2), "a busy machine may take that long");
    assert_eq!(status.metadata().get(WORKER_METADATA_KEY).unwrap(), "a");
    let outcome = balancer.outcome().await;
    assert_eq!((outcome.sent, outcome.code), (true, Code::Unavailable.into()));
}

#[tokio::test]
async fn concurrent_calls_share_one_dial() {
    let worker = FakeWorker::start("a").await;
    let balancer = FakeBalancer::start("lb-1", &[("a", worker.address)]).await;
    let channel = connect(&[&balancer]).await;
    let calls = (0..50).map(|_| {
        let mut caller = client(&channel);
        async move { caller.run(reverse("x")).await }
    });
    for result in soon(join_all(calls)).await {
        result.unwrap();
    }
    assert_eq!(worker.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn every_mixture_of_endings_leaves_nothing_behind() {
    const CALLS: u64 = 300;
    let workers = [FakeWorker::start("a").await, FakeWorker::start("b").await];
    let named = [("a", workers[0].address), ("b", workers[1].address), ("c", nobody())];
    let mut balancer = FakeBalancer::start("lb-1", &named).await;
    let channel = connect(&[&balancer]).await;
    let mut rng = fastrand::Rng::with_seed(42);
    let calls = (0..CALLS).map(|_| {
        let mut caller = client(&channel);
        let (kind, patience) = (rng.u8(..5), Duration::from_micros(rng.u64(..20_000)));
        async move {
            let mut request = Request::new(match kind {
                0 => reverse("x"),
                1 => Task { kind: None },
                _ => sleep(patience),
            });
            match kind {
                2 => drop(tokio::time::timeout(patience, caller.run(request)).await),
                3 => {
                    request.set_timeout(patience);
                    drop(caller.run(request).await);
                }
                4 => drop(caller.run_stream(request).await),
                _ => drop(caller.run(request).await),
            }
        }
    });
    soon(join_all(calls)).await;
    assert_eq!(channel.in_flight(), 0);
    // The session is in order: this answer tells that all picks before it were answered.
    let last = channel.pick().await.unwrap();
    drop(last);
    let issued = balancer.script().issued;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..issued {
        assert!(seen.insert(balancer.outcome().await.sequence), "an outcome came twice");
    }
    assert_eq!(seen.len() as u64, issued);
    assert!(balancer.outcomes.try_recv().is_err());
}
