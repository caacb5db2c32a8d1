//! What one address may have, and how large a message may be.

use tokio_stream::{once, pending};
use tonic::{Code, Status};

use lb_core::policy::PolicyKind;
use lb_proto::v1::{
    Goodbye, Hello, PickRequest, SessionPick, SessionRequest,
    load_balancer_client::LoadBalancerClient, registry_message::Kind as Answer,
    worker_message::Kind as Said,
};
use lb_server::Limits;

use crate::{
    sessions::Session,
    support::{Balancer, SERVICE, hello},
};

async fn balancer(per_peer: usize) -> Balancer {
    let limits = Limits { per_peer, ..Limits::default() };
    Balancer::start_with(PolicyKind::RoundRobin, limits).await
}

#[tokio::test]
async fn an_address_has_so_many_sessions_and_registrations() {
    let balancer = balancer(2).await;
    let of_address = |status: Status, what: &str| {
        assert_eq!(status.code(), Code::ResourceExhausted);
        let expected = format!(
            "this balancer already has 2 {what} for this address, its limit (limits.per_peer)"
        );
        assert_eq!(status.message(), expected);
    };
    let _sessions = [Session::open(&balancer).await, Session::open(&balancer).await];
    let mut client = LoadBalancerClient::new(balancer.channel.clone());
    of_address(client.session(pending()).await.unwrap_err(), "sessions");
    let streams = [balancer.register().await, balancer.register().await];
    let mut registry = balancer.registry();
    of_address(registry.register(pending()).await.unwrap_err(), "registrations");
    // Those that have said nothing are counted as well, until they are gone.
    drop(streams);
    while registry.register(pending()).await.is_err() {}
}

#[tokio::test]
async fn workers_that_come_and_go_are_told_to_wait() {
    let balancer = balancer(12).await;
    let come = async |id: &str| {
        let mut stream = balancer.register().await;
        stream.say(Said::Hello(hello(id, 4000))).await;
        let answer = stream.answer().await.unwrap();
        if let Some(Answer::Accepted(_)) = answer {
            stream.say(Said::Goodbye(Goodbye::default())).await;
        }
        // Whatever it was told, the stream is over before the next one begins.
        while let Ok(Some(_)) = stream.answer().await {}
        answer
    };
    for id in ["a", "b", "c"] {
        assert!(matches!(come(id).await, Some(Answer::Accepted(_))));
    }
    match come("d").await {
        Some(Answer::Refused(refused)) => {
            assert_eq!(Code::from(refused.code), Code::ResourceExhausted);
            assert!(
                refused.reason.starts_with("registrations of this address come too fast"),
                "{refused:?}"
            );
            assert!((1..=4000 / 3).contains(&refused.retry_after_ms), "{refused:?}");
        }
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[tokio::test]
async fn a_session_may_say_more_at_once_than_others() {
    let balancer = balancer(9).await;
    let mut client = LoadBalancerClient::new(balancer.channel.clone());
    let service = "x".repeat(65 << 10);
    let pick = PickRequest { service, ..PickRequest::default() };
    assert_eq!(client.pick(pick).await.unwrap_err().code(), Code::OutOfRange);

    let hello = Hello { zone: "z".repeat(65 << 10), ..hello("w", 4000) };
    let mut stream = balancer.register().await;
    stream.say(Said::Hello(hello)).await;
    assert_eq!(stream.end().await.code(), Code::OutOfRange);

    // As much as our client ever puts into one message.
    let exclude = vec![u32::MAX; 64];
    let affinity_key = "k".repeat(256);
    let pick =
        |id| SessionPick { id, exclude: exclude.clone(), affinity_key: affinity_key.clone() };
    let picks =
        |count| SessionRequest { picks: (0..count).map(pick).collect(), ..Default::default() };
    let mut session = Session::open(&balancer).await;
    session.say(picks(128)).await;
    assert_eq!(session.answer().await.unwrap().failures.len(), 128, "{SERVICE} has no workers");
    session.say(picks(250)).await;
    assert_eq!(session.answer().await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_session_that_does_not_say_what_it_is_for_ends() {
    let balancer = balancer(9).await;
    let mut client = LoadBalancerClient::new(balancer.channel.clone());
    tokio::time::pause();
    let mut answers = client.session(pending()).await.unwrap().into_inner();
    let status = answers.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "no open within 5s"));
    let first = once(SessionRequest::default());
    let mut answers = client.session(first).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::InvalidArgument);
}
