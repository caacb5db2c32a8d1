//! Unary picks and the watched list.

use std::collections::BTreeMap;

use tonic::Code;

use lb_core::{policy::PolicyKind, token::Token};
use lb_proto::v1::{Hello, PickRequest, WatchRequest, load_balancer_client::LoadBalancerClient};
use lb_server::Limits;

use crate::support::{Balancer, SERVICE, hello, until};

fn request() -> PickRequest {
    PickRequest { service: SERVICE.into(), ..PickRequest::default() }
}

#[tokio::test]
async fn a_pick_names_the_best_and_a_second_with_tokens() {
    let balancer = Balancer::start(PolicyKind::RoundRobin).await;
    let first = balancer.worker("a", 4001).await;
    let second = balancer.worker("b", 4002).await;
    let mut client = LoadBalancerClient::new(balancer.channel.clone());
    let answer = client.pick(request()).await.unwrap().into_inner();
    assert_eq!((&*answer.policy, &*answer.reason), ("round_robin", "its turn"));
    let [best, other] = &answer.choices[..] else { panic!("expected two choices") };
    assert_eq!((&*best.worker_id, &*best.address), ("a", "127.0.0.1:4001"));
    assert_eq!(&*other.worker_id, "b");
    let token: Token = best.token.parse().unwrap();
    assert_eq!(
        token.to_string(),
        format!("{}/{}/p1", answer.balancer_id, first.accepted.worker_number)
    );
    let spare: Token = other.token.parse().unwrap();
    assert_eq!(spare.worker.0, second.accepted.worker_number);
    assert!(other.token.contains("/x"), "a second choice is not counted as issued");
}

#[tokio::test]
async fn exclusions_and_labels_are_kept() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let _plain = balancer.worker("a", 4001).await;
    let labels = BTreeMap::from([("gpu".to_owned(), "a100".to_owned())]);
    let _labelled =
        balancer.worker_with(Hello { labels: labels.clone(), ..hello("b", 4002) }).await;
    let mut client = LoadBalancerClient::new(balancer.channel.clone());
    for _ in 0..20 {
        let wanted = PickRequest { labels: labels.clone(), ..request() };
        let answer = client.pick(wanted).await.unwrap().into_inner();
        assert_eq!(answer.choices.len(), 1);
        assert_eq!(answer.choices[0].worker_id, "b");
        let wanted = PickRequest { exclude: vec!["b".into()], ..request() };
        assert_eq!(client.pick(wanted).await.unwrap().into_inner().choices[0].worker_id, "a");
    }
    let wanted = PickRequest { labels, exclude: vec!["b".into()], ..request() };
    let status = client.pick(wanted).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.message(),
        "service lb.v1.Compute: no worker of this service has the labels asked for and is not excluded"
    );
}

#[tokio::test]
async fn a_pick_that_cannot_be_answered_says_why() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let mut client = LoadBalancerClient::new(balancer.channel.clone());
    let unknown = client.pick(request()).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(unknown.message(), "service lb.v1.Compute: no worker offers this service");
    let mut worker = balancer.worker("a", 4001).await;
    worker.drain().await;
    let status = client.pick(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.message(),
        "service lb.v1.Compute: no worker of this service takes calls now"
    );
    let bad = [
        (PickRequest::default(), "service is not set"),
        (PickRequest { choices: 9, ..request() }, "choices is 9: expected at most 8"),
        (PickRequest { exclude: vec![String::new(); 65], ..request() }, "exclude is a list of 65"),
        (PickRequest { affinity_key: "k".repeat(257), ..request() }, "affinity_key has 257 bytes"),
    ];
    for (request, expected) in bad {
        let status = client.pick(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(expected), "{status}");
    }
}

#[tokio::test]
async fn a_draining_worker_learns_how_many_picks_can_still_come() {
    let balancer = Balancer::start(PolicyKind::PickFirst).await;
    let mut worker = balancer.worker("a", 4001).await;
    let mut client = LoadBalancerClient::new(balancer.channel.clone());
    for _ in 0..3 {
        client.pick(request()).await.unwrap();
    }
    assert_eq!(worker.drain().await, (3, 0));
}

#[tokio::test]
async fn the_watched_list_follows_every_change() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let mut client = LoadBalancerClient::new(balancer.channel.clone());
    let request = WatchRequest { service: SERVICE.into() };
    let mut lists = client.watch(request).await.unwrap().into_inner();
    assert_eq!(lists.message().await.unwrap().unwrap().endpoints, []);
    let mut worker = balancer.worker("a", 4001).await;
    let list = lists.message().await.unwrap().unwrap();
    assert_eq!(list.endpoints.len(), 1);
    assert_eq!((&*list.endpoints[0].address, list.endpoints[0].slots), ("127.0.0.1:4001", 2));
    worker.drain().await;
    let after = lists.message().await.unwrap().unwrap();
    assert_eq!(after.endpoints, []);
    assert!(after.generation > list.generation);
}

#[tokio::test]
async fn a_stopping_balancer_never_sends_an_emptied_list() {
    let mut balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let _workers = [balancer.worker("a", 4001).await, balancer.worker("b", 4002).await];
    let mut watchers = Vec::new();
    for _ in 0..8 {
        let mut client = LoadBalancerClient::new(balancer.channel.clone());
        let request = WatchRequest { service: SERVICE.into() };
        let mut lists = client.watch(request).await.unwrap().into_inner();
        assert_eq!(lists.message().await.unwrap().unwrap().endpoints.len(), 2);
        watchers.push(lists);
    }
    balancer.stop().await;
    for mut lists in watchers {
        let after = lists.message().await;
        assert!(!matches!(after, Ok(Some(_))), "{after:?}");
    }
}

#[tokio::test]
async fn places_are_limited_and_come_back() {
    let limits = Limits { sessions: 1, watchers: 1, ..Limits::default() };
    let balancer = Balancer::start_with(PolicyKind::LeastLoad, limits).await;
    let mut events = balancer.events().await;
    let status =
        balancer.admin().watch_events(lb_proto::v1::WatchEventsRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "this balancer already has 1 watchers in all, its limit (limits.watchers)"
    );
    // The other kind of watcher has places of its own.
    let mut client = LoadBalancerClient::new(balancer.channel.clone());
    let watch = WatchRequest { service: SERVICE.into() };
    assert!(client.watch(watch).await.is_ok());
    balancer
        .admin()
        .set_policy(lb_proto::v1::SetPolicyRequest { policy: "rr".into() })
        .await
        .unwrap();
    assert_eq!(until(&mut events, "policy_changed").await.message, "round_robin");
}
