//! Picks without calls, and what happens when there is nobody to pick from or to ask.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lb_client::{Balanced, ConnectError, Scope, Search, Source, connect_balancer};
use lb_core::token::TokenClass;
use lb_discovery::{Announcement, Discovery, Role};
use lb_proto::v1::{PickRequest, load_balancer_client::LoadBalancerClient};
use tonic::Code;

use crate::{
    SERVICE, SOON,
    balancer::{FakeBalancer, Mode},
    connect, nobody, soon,
};

#[tokio::test]
async fn concurrent_picks_share_messages_and_each_is_given_back_once() {
    const PICKS: usize = 1000;
    let mut balancer = FakeBalancer::start("lb-1", &[("a", nobody()), ("b", nobody())]).await;
    let channel = connect(&[&balancer]).await;

    let picks = soon(join_all((0..PICKS).map(|_| channel.pick()))).await;
    let picks: Vec<_> = picks.into_iter().map(Result::unwrap).collect();

    assert_eq!(channel.in_flight() as usize, PICKS);
    assert!(balancer.script().messages <= PICKS / 20, "{} messages", balancer.script().messages);
    for pick in &picks {
        let token = pick.token().unwrap();
        assert_eq!(pick.source(), Source::Session);
        assert_eq!((token.balancer.as_str(), token.class), ("lb-1", TokenClass::Session));
    }
    drop(picks);
    assert_eq!(channel.in_flight(), 0);
    let mut sequences = Vec::new();
    for _ in 0..PICKS {
        let outcome = balancer.outcome().await;
        assert!(!outcome.sent);
        sequences.push(outcome.sequence);
    }
    sequences.sort_unstable();
    let expected: Vec<u64> = (1..=PICKS as u64).collect();
    assert_eq!(sequences, expected);
}

#[tokio::test]
async fn a_pick_whose_caller_left_is_given_back() {
    let mut balancer = FakeBalancer::start("lb-1", &[("a", nobody())]).await;
    let channel = connect(&[&balancer]).await;
    for _ in 0..100 {
        // Polled once, so that it is queued, and dropped before or after the answer arrives.
        let mut pick = Box::pin(channel.pick());
        tokio::select! {
            biased;
            _ = &mut pick => {}
            () = tokio::task::yield_now() => {}
        }
        drop(pick);
    }
    // The queue is in order: once this one is answered, so are all before it.
    let last = channel.pick().await.unwrap();
    let issued = last.token().unwrap().sequence;
    drop(last);
    for _ in 0..issued {
        assert!(!balancer.outcome().await.sent);
    }
    assert_eq!(channel.in_flight(), 0);
    assert!(balancer.outcomes.try_recv().is_err());
}

#[tokio::test]
async fn affinity_and_labels_reach_the_balancer() {
    let balancer = FakeBalancer::start("lb-1", &[("a", nobody())]).await;
    let channel = connect(&[&balancer]).await;
    channel.with_affinity("user-7").pick().await.unwrap();
    channel.pick().await.unwrap();
    let keys: Vec<String> =
        balancer.script().picks.iter().map(|pick| pick.affinity_key.clone()).collect();
    assert_eq!(keys, ["user-7", ""]);
}

#[tokio::test]
async fn the_balancers_refusal_is_the_callers_answer() {
    let balancer = FakeBalancer::start("lb-1", &[]).await;
    balancer.script().mode = Mode::Refuse(Code::NotFound, "nobody offers lb.v1.Compute");
    let channel = connect(&[&balancer]).await;
    let status = channel.pick().await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "nobody offers lb.v1.Compute");
}

#[tokio::test]
async fn an_empty_list_says_so_when_the_balancer_does_not_answer() {
    let balancer = FakeBalancer::start("lb-1", &[]).await;
    balancer.script().mode = Mode::Silent;
    let channel = connect(&[&balancer]).await;
    let status = soon(channel.pick()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "no workers for service lb.v1.Compute");
}

#[tokio::test]
async fn a_silent_balancer_is_left_after_a_moment() {
    let balancer = FakeBalancer::start("lb-1", &[("a", nobody())]).await;
    let channel = connect(&[&balancer]).await;
    balancer.script().mode = Mode::Silent;
    let pick = soon(channel.pick()).await.unwrap();
    assert_eq!(pick.source(), Source::Local);
    assert_eq!(pick.worker_id().as_str(), "a");
    assert!(pick.token().is_none());
}

#[tokio::test]
async fn no_balancer_is_an_error_after_the_stated_wait() {
    let wait = Duration::from_millis(200);
    let address = nobody().to_string();
    let started = Instant::now();
    let builder = Balanced::builder(SERVICE).balancers([address.clone()]).wait(wait);
    let error = builder.clone().connect().await.unwrap_err();
    assert!(started.elapsed() >= wait);
    assert!(matches!(&error, ConnectError::NoBalancer { waited, .. } if *waited == wait));
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("no balancer answered at {address} within 200ms (")),
        "{text}"
    );
    assert!(text.contains("refused"), "{text}");

    let status = builder.connect_lazy().unwrap().pick().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let expected = "no balancer to ask for a worker of lb.v1.Compute within 200ms";
    assert!(status.message().starts_with(expected), "{status}");
}

#[tokio::test]
async fn no_balancer_on_the_loopback_names_cluster_and_scope() {
    let wait = Duration::from_millis(300);
    let error = Balanced::builder(SERVICE)
        .scope(Scope::Loopback)
        .cluster("nobody-has-this-cluster")
        .wait(wait)
        .connect()
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(
            "no balancer of cluster \"nobody-has-this-cluster\" found on this machine's loopback \
             within 300ms; start one with `lb-server --local`"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn wrong_settings_are_named_before_anything_is_dialled() {
    let text = |builder: lb_client::Builder| builder.connect_lazy().unwrap_err().to_string();
    assert!(text(Balanced::builder("no/service")).contains("service name \"no/service\""));
    assert!(text(Balanced::builder(SERVICE).cluster("No")).contains("cluster name \"No\""));
    assert!(text(Balanced::builder(SERVICE).balancers(["x"])).contains("address \"x\""));
    let labels = (0..33).map(|index| (index.to_string(), "x"));
    assert!(text(Balanced::builder(SERVICE).labels(labels)).contains("labels is a map of 33"));
}

#[tokio::test]
async fn a_plain_connection_serves_the_unary_pick() {
    let balancer = FakeBalancer::start("lb-7", &[]).await;
    let balancers = vec![nobody().to_string(), balancer.address.to_string()];
    let search = Search { balancers, wait: SOON, ..Search::default() };
    let connection = connect_balancer(&search).await.unwrap();
    assert_eq!(connection.id, balancer.address.to_string());
    let mut client = LoadBalancerClient::new(connection.channel);
    let response = client.pick(PickRequest::default()).await.unwrap();
    assert_eq!(response.get_ref().balancer_id, "lb-7");
}

#[tokio::test]
async fn a_balancer_is_found_by_dns_sd_on_the_loopback() {
    let balancer = FakeBalancer::start("lb-1", &[("a", nobody())]).await;
    let cluster = format!("test-{}", std::process::id());
    let announced = Discovery::new(Scope::Loopback).unwrap();
    let announcement = Announcement {
        role: Role::Balancer,
        id: "lb-1".into(),
        cluster: cluster.clone(),
        port: balancer.address.port(),
        addresses: Vec::new(),
        txt: Vec::new(),
    };
    let _advertisement = announced.advertise(announcement).await.unwrap();
    let builder = Balanced::builder(SERVICE).scope(Scope::Loopback).cluster(cluster).wait(SOON);
    let channel = builder.connect().await.unwrap();
    assert_eq!(channel.pick().await.unwrap().worker_id().as_str(), "a");
}

#[test]
fn the_channel_can_be_shared_between_tasks() {
    fn shareable<T: Clone + Send + Sync + 'static>() {}
    shareable::<Balanced>();
}

#[tokio::test]
async fn local_picks_cost_the_balancer_no_message_unless_they_have_a_key() {
    let balancer = FakeBalancer::start("lb-1", &[("a", nobody()), ("b", nobody())]).await;
    let builder = Balanced::builder(SERVICE).balancers([balancer.address.to_string()]);
    let channel = soon(builder.picks(Source::Local).connect()).await.unwrap();
    let picks: Vec<_> = soon(join_all((0..8).map(|_| channel.pick()))).await;
    for pick in &picks {
        let pick = pick.as_ref().unwrap();
        assert_eq!((pick.source(), pick.token()), (Source::Local, None));
    }
    let at_a = picks.iter().flatten().filter(|pick| pick.worker_id().as_str() == "a").count();
    assert_eq!(at_a, 4, "two choices among two workers keep them level");
    assert_eq!(balancer.script().picks.len(), 0);

    let pinned = soon(channel.with_affinity("user-7").pick()).await.unwrap();
    assert_eq!(pinned.source(), Source::Session);
    assert_eq!(balancer.script().picks.len(), 1);
}
