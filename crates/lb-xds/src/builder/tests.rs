use std::collections::BTreeMap as Map;

use prost::Message as _;

use lb_core::{
    id::WorkerNumber,
    load::{Hello, LoadReport, RawLoad, TokenCounts, WorkerState},
    registry::Registry,
};

use super::*;
use crate::{proto::ClusterLoadAssignment, resources::worker_of};

const SERVICE: &str = "x.Y";

/// A balancer's registry and builder, and the time that has passed.
pub(crate) struct Fleet {
    registry: Registry,
    pub(crate) builder: Builder,
    snapshot: Arc<Snapshot>,
    pub(crate) now: Timestamp,
}

impl Fleet {
    /// Of a balancer that has run for so many seconds.
    pub(crate) fn new(policy: PolicyKind, age: u64) -> Self {
        let mut registry = Registry::new(policy);
        let snapshot = registry.publish().unwrap();
        let now = Timestamp::at(Duration::from_secs(age));
        Self { registry, builder: Builder::default(), snapshot, now }
    }

    pub(crate) fn join(&mut self, id: &str, port: u16, slots: u16) -> WorkerNumber {
        let hello = Hello {
            id: id.parse().unwrap(),
            instance: port.into(),
            address: ([10, 0, 0, 1], port).into(),
            services: vec![SERVICE.parse().unwrap()],
            slots,
            zone: String::new(),
            labels: Map::new(),
            version: String::new(),
        };
        let number = self.registry.hello(hello, self.now).unwrap();
        self.report(number, slots, WorkerState::Serving, 0);
        number
    }

    fn report(&mut self, number: WorkerNumber, slots: u16, state: WorkerState, in_flight: u32) {
        let report = LoadReport::parse(RawLoad {
            state,
            in_flight,
            queued: 0,
            slots: slots.into(),
            picked: TokenCounts::default(),
            session: TokenCounts::default(),
            completed_total: 0,
            errors_total: 0,
            faults_total: 0,
            in_flight_integral: 0.0,
            busy_seconds: 0.0,
            cpu: 0.0,
            memory: 0.0,
        });
        self.registry.report(number, report.unwrap(), self.now).unwrap();
    }

    pub(crate) fn update(&mut self) -> Option<Arc<Lists>> {
        if let Some(snapshot) = self.registry.publish() {
            self.snapshot = snapshot;
        }
        self.builder.update(&self.snapshot, self.now)
    }

    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.now = self.now + Duration::from_millis(milliseconds);
    }
}

/// Id, weight and priority of each worker that is told.
fn told(lists: &Lists) -> Vec<(String, u32, u32)> {
    let Answer::Workers(listed) = lists.answer(SERVICE, false) else { panic!("no list") };
    let list = ClusterLoadAssignment::decode(&*listed.resource.value).unwrap();
    assert_eq!(list.cluster_name, SERVICE);
    let entry = |one: crate::proto::endpoint::LocalityLbEndpoints| {
        assert_eq!(one.lb_endpoints.len(), 1);
        let id = worker_of(one.locality.as_ref().unwrap()).unwrap();
        (id.to_string(), one.load_balancing_weight.unwrap(), one.priority)
    };
    list.endpoints.into_iter().map(entry).collect()
}

fn expected(all: &[(&str, u32, u32)]) -> Vec<(String, u32, u32)> {
    all.iter().map(|(id, weight, priority)| ((*id).to_owned(), *weight, *priority)).collect()
}

fn three(policy: PolicyKind) -> Arc<Lists> {
    let mut fleet = Fleet::new(policy, 60);
    for (id, port, slots) in [("a", 1, 6), ("b", 2, 3), ("c", 3, 1)] {
        fleet.join(id, port, slots);
    }
    fleet.update().unwrap()
}

#[test]
fn each_policy_says_what_it_can() {
    let by_capacity = expected(&[("a", 10_000, 0), ("b", 5_000, 0), ("c", 1_667, 0)]);
    for policy in PolicyKind::ALL {
        let told = told(&three(policy));
        match policy {
            PolicyKind::PickFirst => {
                assert_eq!(told, expected(&[("a", 1, 0), ("b", 1, 1), ("c", 1, 2)]));
            }
            PolicyKind::RoundRobin | PolicyKind::Random => {
                assert_eq!(told, expected(&[("a", 1, 0), ("b", 1, 0), ("c", 1, 0)]));
            }
            _ => assert_eq!(told, by_capacity, "{policy}"),
        }
    }
}

#[test]
fn priorities_are_few_and_without_gaps() {
    let mut fleet = Fleet::new(PolicyKind::PickFirst, 60);
    for port in 1..=20 {
        fleet.join(&format!("w{port:02}"), port, 1);
    }
    let told = told(&fleet.update().unwrap());
    let priorities: Vec<_> = told.iter().map(|(_, _, priority)| *priority).collect();
    assert_eq!(priorities[..9], [0, 1, 2, 3, 4, 5, 6, 7, 7]);
    assert!(priorities[9..].iter().all(|priority| *priority == 7));
}

#[test]
fn who_comes_and_goes_is_told_at_once() {
    let mut fleet = Fleet::new(PolicyKind::LeastLoad, 60);
    let a = fleet.join("a", 1, 2);
    assert!(fleet.update().is_some());
    assert!(fleet.update().is_none(), "nothing has happened");
    fleet.join("b", 2, 2);
    assert_eq!(told(&fleet.update().unwrap()).len(), 2);
    fleet.report(a, 2, WorkerState::Draining, 1);
    let lists = fleet.update().unwrap();
    assert_eq!(told(&lists), expected(&[("b", 10_000, 0)]));
    fleet.registry.set_policy(PolicyKind::PickFirst);
    assert!(fleet.update().is_none(), "the same list under another policy");
    fleet.join("c", 3, 1);
    fleet.registry.set_policy(PolicyKind::WeightedRoundRobin);
    assert_eq!(told(&fleet.update().unwrap()), expected(&[("b", 10_000, 0), ("c", 5_000, 0)]));
    fleet.registry.set_policy(PolicyKind::RoundRobin);
    assert_eq!(told(&fleet.update().unwrap()), expected(&[("b", 1, 0), ("c", 1, 0)]));
}

#[test]
fn weights_alone_are_told_when_they_have_moved_and_not_too_often() {
    let mut fleet = Fleet::new(PolicyKind::LeastLoad, 60);
    let [a, _b] = [("a", 1), ("b", 2)].map(|(id, port)| fleet.join(id, port, 4));
    fleet.update().unwrap();
    let mut lists = Vec::new();
    for _ in 0..40 {
        fleet.wait(250);
        fleet.report(a, 4, WorkerState::Serving, 16);
        lists.extend(fleet.update());
    }
    assert!((2..=6).contains(&lists.len()), "{} lists in ten seconds", lists.len());
    let told = told(lists.last().unwrap());
    assert_eq!(told[1].1, 10_000);
    assert!((3_000..7_000).contains(&told[0].1), "{told:?}");
}

#[test]
fn capacity_that_changes_is_told_after_a_moment() {
    let mut fleet = Fleet::new(PolicyKind::WeightedRoundRobin, 60);
    let [a, _b] = [("a", 1), ("b", 2)].map(|(id, port)| fleet.join(id, port, 4));
    fleet.update().unwrap();
    fleet.wait(10);
    fleet.report(a, 8, WorkerState::Serving, 0);
    assert!(fleet.update().is_none());
    fleet.wait(1_000);
    assert_eq!(told(&fleet.update().unwrap()), expected(&[("a", 10_000, 0), ("b", 5_000, 0)]));
}

#[test]
fn of_two_at_one_address_the_later_one_counts() {
    let mut fleet = Fleet::new(PolicyKind::PickFirst, 60);
    for (id, port) in [("a", 1), ("b", 2), ("z", 1)] {
        fleet.join(id, port, 1);
    }
    assert_eq!(told(&fleet.update().unwrap()), expected(&[("b", 1, 0), ("z", 1, 1)]));
}

#[test]
fn nobody_is_said_only_by_who_knows() {
    let is = |lists: &Lists, informed, wanted: &str| {
        let found = match lists.answer(SERVICE, informed) {
            Answer::Workers(_) => "workers",
            Answer::Nobody => "nobody",
            Answer::Wait => "wait",
        };
        assert_eq!(found, wanted, "{:?}, informed: {informed}", lists.phase);
    };
    let mut fleet = Fleet::new(PolicyKind::LeastLoad, 0);
    is(&fleet.update().unwrap(), false, "wait");
    fleet.join("a", 1, 1);
    let lists = fleet.update().unwrap();
    is(&lists, false, "workers");
    is(&lists, true, "wait");
    fleet.wait(3_000);
    is(&fleet.update().unwrap(), true, "workers");
    let number = fleet.registry.workers(fleet.now).next().unwrap().number;
    fleet.registry.closed(number, lb_core::registry::Departure::Goodbye);
    is(&fleet.update().unwrap(), true, "wait");
    fleet.wait(7_000);
    is(&fleet.update().unwrap(), true, "nobody");
    assert!(fleet.update().is_none());
}
