use prost::Message as _;

use lb_core::policy::PolicyKind;

use super::*;
use crate::{
    builder::tests::Fleet,
    proto::{Cluster, ClusterLoadAssignment, Listener, Status},
};

fn subscriptions() -> Subscriptions {
    Subscriptions::new("b-1".parse().unwrap())
}

fn request(kind: Kind, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

/// As a client acknowledges.
fn acknowledge(answer: &DiscoveryResponse, names: &[&str]) -> DiscoveryRequest {
    let kind = Kind::of(&answer.type_url).unwrap();
    DiscoveryRequest {
        version_info: answer.version_info.clone(),
        response_nonce: answer.nonce.clone(),
        ..request(kind, names)
    }
}

fn lists() -> std::sync::Arc<Lists> {
    let mut fleet = Fleet::new(PolicyKind::RoundRobin, 60);
    fleet.join("a", 1, 1);
    fleet.update().unwrap()
}

#[test]
fn any_name_leads_to_a_list() {
    let (mut client, lists) = (subscriptions(), lists());
    for name in ["x.Y", "no-such service"] {
        for kind in Kind::ALL {
            assert_eq!(client.request(&request(kind, &[name])), None);
        }
        let answers = client.answers(&lists);
        assert_eq!(answers.len(), 4);
        let resource = |place: usize| &*answers[place].resources[0].value;
        assert_eq!(Listener::decode(resource(0)).unwrap().name, name);
        assert_eq!(Cluster::decode(resource(2)).unwrap().name, name);
        let list = ClusterLoadAssignment::decode(resource(3)).unwrap();
        assert_eq!(list.cluster_name, name);
        assert_eq!(list.endpoints.len(), usize::from(name == "x.Y"));
    }
}

#[test]
fn what_is_acknowledged_is_not_repeated() {
    let (mut client, lists) = (subscriptions(), lists());
    client.request(&request(Kind::Endpoints, &["x.Y"]));
    let answer = client.answers(&lists).remove(0);
    assert_eq!((answer.version_info.as_str(), answer.nonce.as_str()), ("b-1.1", "1"));
    client.request(&acknowledge(&answer, &["x.Y"]));
    assert!(client.answers(&lists).is_empty());
    // One more name: the list that the client has is not repeated, a listener is.
    client.request(&acknowledge(&answer, &["x.Y", "x.Z"]));
    assert_eq!(client.answers(&lists)[0].resources.len(), 1);
    client.request(&request(Kind::Listener, &["x.Y"]));
    let answer = client.answers(&lists).remove(0);
    client.request(&acknowledge(&answer, &["x.Y", "x.Z"]));
    assert_eq!(client.answers(&lists)[0].resources.len(), 2);
}

#[test]
fn the_next_list_waits_until_the_last_is_acknowledged() {
    let mut fleet = Fleet::new(PolicyKind::RoundRobin, 60);
    let mut client = subscriptions();
    client.request(&request(Kind::Endpoints, &["x.Y"]));
    fleet.join("a", 1, 1);
    let first = client.answers(&fleet.update().unwrap()).remove(0);
    let mut lists = Vec::new();
    for (id, port) in [("b", 2), ("c", 3)] {
        fleet.join(id, port, 1);
        lists.push(fleet.update().unwrap());
        assert!(client.answers(&lists[lists.len() - 1]).is_empty());
    }
    client.request(&acknowledge(&first, &["x.Y"]));
    let next = client.answers(&lists[1]).remove(0);
    let list = ClusterLoadAssignment::decode(&*next.resources[0].value).unwrap();
    assert_eq!(list.endpoints.len(), 3, "the newest, and not the one between");
}

/// A channel that is idle gives up what it wanted, and asks again when it wakes.
#[test]
fn who_comes_back_is_told_again() {
    let (mut client, lists) = (subscriptions(), lists());
    for kind in [Kind::Listener, Kind::Endpoints] {
        client.request(&request(kind, &["x.Y"]));
        let answer = client.answers(&lists).remove(0);
        client.request(&acknowledge(&answer, &[]));
        assert!(client.answers(&lists).is_empty(), "nothing is wanted");
        client.request(&acknowledge(&answer, &["x.Y"]));
        assert_eq!(client.answers(&lists)[0].resources.len(), 1, "{kind:?}");
    }
}

#[test]
fn outdated_requests_say_nothing() {
    let (mut client, lists) = (subscriptions(), lists());
    client.request(&request(Kind::Cluster, &["x.Y"]));
    let first = client.answers(&lists).remove(0);
    client.request(&acknowledge(&first, &["x.Y", "x.Z"]));
    let second = client.answers(&lists).remove(0);
    client.request(&acknowledge(&first, &[]));
    client.request(&acknowledge(&second, &["x.Y", "x.Z"]));
    assert!(client.answers(&lists).is_empty());
}

#[test]
fn a_refusal_is_told_once_and_answered_by_nothing() {
    let (mut client, lists) = (subscriptions(), lists());
    client.request(&request(Kind::Endpoints, &["x.Y"]));
    let answer = client.answers(&lists).remove(0);
    let problem = Some(Status { code: 3, message: "x".repeat(1_000) });
    let refusal = DiscoveryRequest { error_detail: problem, ..acknowledge(&answer, &["x.Y"]) };
    let refused = client.request(&refusal).unwrap();
    assert_eq!((refused.kind, refused.problem.len()), (Kind::Endpoints, QUOTE_LIMIT));
    assert_eq!(client.request(&refusal), None);
    assert!(client.answers(&lists).is_empty(), "the same again would be refused again");
}

#[test]
fn names_are_bounded_and_what_is_beyond_does_not_exist() {
    let (mut client, lists) = (subscriptions(), lists());
    let many: Vec<String> = (0..300).map(|number| format!("s{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    client.request(&request(Kind::Listener, &many));
    assert_eq!(client.answers(&lists)[0].resources.len(), NAMES_LIMIT);
    client.request(&request(Kind::Listener, &[&"x".repeat(SERVICE_NAME_LIMIT + 1)]));
    assert!(client.answers(&lists)[0].resources.is_empty(), "told, without the name");
}

#[test]
fn a_client_with_a_list_waits_for_the_whole_of_the_next() {
    let mut fleet = Fleet::new(PolicyKind::RoundRobin, 0);
    fleet.join("a", 1, 1);
    let (mut old, mut new) = (subscriptions(), subscriptions());
    let asked = request(Kind::Endpoints, &["x.Y"]);
    new.request(&asked);
    old.request(&DiscoveryRequest { version_info: "b-0.9".into(), ..asked });
    let lists = fleet.update().unwrap();
    assert_eq!(new.answers(&lists).len(), 1);
    assert!(old.answers(&lists).is_empty());
    fleet.wait(3_000);
    let lists = fleet.update().unwrap();
    assert_eq!(old.answers(&lists).len(), 1);
    assert!(new.answers(&lists).is_empty());
}

#[test]
fn other_types_are_not_served() {
    let mut client = subscriptions();
    let secret = DiscoveryRequest { type_url: "x".into(), ..request(Kind::Cluster, &["a"]) };
    client.request(&secret);
    assert!(client.answers(&lists()).is_empty());
}
