//! From snapshots to lists, and when clients should hear of a new one.
//!
//! Who is on a list is told at once: a worker that drains or fails must not be drawn any more. Weights alone are told when they have
//! moved, and not too often ([`crate::weights`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use prost_types::Any;

use lb_core::{
    id::{ServiceName, WorkerId},
    policy::PolicyKind,
    snapshot::{ServiceView, Snapshot, Worker},
    time::Timestamp,
};

use crate::{
    resources::{self, Target},
    subscriptions::Kind,
    weights::{Loads, Member, wait, whole},
};

/// For so long after its start a balancer tells nothing to a client that has a list already: workers that have lost a balancer
/// look for it again within two, so then the living are back, and the old list is better than half a new one.
const RETURN: Duration = Duration::from_secs(3);

/// For so long after its start it tells nobody that a service has no workers. A client that waits for a list gives up after 15
/// seconds.
const GATHERING: Duration = Duration::from_secs(10);

/// Most priorities under `pick_first`; who comes after shares the last one. A client tries them one after the other, up to ten
/// seconds each.
const PRIORITIES: u32 = 8;

/// What clients are told of the workers of one service.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Of no other list that this balancer has made.
    pub(crate) version: u64,
    pub(crate) resource: Any,
}

/// How much a balancer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Phase {
    /// Workers are coming back to it.
    #[default]
    Returning,
    /// Late ones may still come.
    Gathering,
    /// All there is.
    Complete,
}

/// The lists of all services at one moment.
#[derive(Debug, Default)]
pub struct Lists {
    services: BTreeMap<ServiceName, Arc<Listed>>,
    phase: Phase,
}

/// What to tell about a service.
pub(crate) enum Answer<'a> {
    /// Its workers.
    Workers(&'a Listed),
    /// It has none.
    Nobody,
    /// Nothing yet.
    Wait,
}

impl Lists {
    /// What to tell a client about a service. `informed`: it has a list from an earlier stream.
    pub(crate) fn answer(&self, service: &str, informed: bool) -> Answer<'_> {
        match self.services.get(service) {
            Some(_) if informed && self.phase == Phase::Returning => Answer::Wait,
            Some(listed) => Answer::Workers(listed),
            None if self.phase == Phase::Complete => Answer::Nobody,
            None => Answer::Wait,
        }
    }
}

/// Who is on a list, and in which place: what is told at once.
#[derive(Debug, PartialEq)]
struct Seat {
    id: WorkerId,
    address: SocketAddr,
    priority: u32,
}

/// What was told last of one service, and what will be.
#[derive(Debug, Default)]
struct Service {
    loads: Loads,
    /// Of the snapshot that `kept` and `seats` are of.
    generation: u64,
    /// Who is told of, by the place in the view.
    kept: Vec<usize>,
    seats: Vec<Seat>,
    weights: Vec<u32>,
    policy: PolicyKind,
    told_at: Timestamp,
    listed: Option<Arc<Listed>>,
}

/// Makes lists.
#[derive(Debug, Default)]
pub struct Builder {
    services: BTreeMap<ServiceName, Service>,
    version: u64,
    current: Arc<Lists>,
    has_told: bool,
}

impl Builder {
    /// New lists, if there is something to tell. Call it with each new snapshot, and every [`crate::SAMPLE`] with the last one. Times are
    /// those since the balancer started.
    pub fn update(&mut self, snapshot: &Snapshot, now: Timestamp) -> Option<Arc<Lists>> {
        let phase = phase(now);
        let mut news = !std::mem::replace(&mut self.has_told, true) || phase != self.current.phase;
        let offered = |name: &ServiceName| snapshot.service(name.as_str()).is_ok_and(has_workers);
        let before = self.services.len();
        self.services.retain(|name, _| offered(name));
        news |= self.services.len() != before;
        for (name, view) in snapshot.services().filter(|(_, view)| has_workers(view)) {
            let service = self.services.entry(name.clone()).or_default();
            news |= service.follow(name, view, snapshot, &mut self.version, now);
        }
        if !news {
            return None;
        }
        let listed = self.services.iter().filter_map(|(name, service)| {
            Some((name.clone(), Arc::clone(service.listed.as_ref()?)))
        });
        self.current = Arc::new(Lists { services: listed.collect(), phase });
        Some(Arc::clone(&self.current))
    }
}

fn phase(now: Timestamp) -> Phase {
    match now.since(Timestamp::default()) {
        age if age < RETURN => Phase::Returning,
        age if age < GATHERING => Phase::Gathering,
        _ => Phase::Complete,
    }
}

fn has_workers(view: &ServiceView) -> bool {
    !view.workers().is_empty()
}

impl Service {
    /// Returns whether there is a new list.
    fn follow(
        &mut self,
        name: &ServiceName,
        view: &ServiceView,
        snapshot: &Snapshot,
        version: &mut u64,
        now: Timestamp,
    ) -> bool {
        let policy = snapshot.policy;
        let others = self.take_seats(view, snapshot);
        let workers: Vec<_> = self.kept.iter().map(|place| &view.workers()[*place]).collect();
        let weights = self.weights(&workers, policy, now);
        // An operator who puts another policy in force wants to see it.
        let (at_once, since) = (policy != self.policy, now.since(self.told_at));
        self.policy = policy;
        let is_due = |least: Duration| at_once || since >= least;
        if !others && !wait(&self.weights, &weights).is_some_and(is_due) {
            return false;
        }
        *version += 1;
        let targets: Vec<_> = self.seats.iter().zip(&weights).map(target).collect();
        let list = resources::assignment(name.as_str(), &targets);
        let resource = resources::any(Kind::Endpoints.type_url(), &list);
        self.listed = Some(Arc::new(Listed { version: *version, resource }));
        (self.weights, self.told_at) = (weights, now);
        true
    }

    /// Who is on the list, of a new snapshot. Returns whether that are others than before, or in other places.
    fn take_seats(&mut self, view: &ServiceView, snapshot: &Snapshot) -> bool {
        if snapshot.generation == self.generation {
            return false;
        }
        self.generation = snapshot.generation;
        self.kept = one_for_each_address(view.workers());
        let workers: Vec<_> = self.kept.iter().map(|place| &view.workers()[*place]).collect();
        let seats = seats(&workers, snapshot.policy);
        let others = seats != self.seats;
        self.seats = seats;
        others
    }

    fn weights(&mut self, workers: &[&Worker], policy: PolicyKind, now: Timestamp) -> Vec<u32> {
        match policy {
            PolicyKind::PickFirst | PolicyKind::RoundRobin | PolicyKind::Random => {
                vec![1; workers.len()]
            }
            PolicyKind::WeightedRoundRobin | PolicyKind::RingHash | PolicyKind::Maglev => {
                whole(&workers.iter().map(|worker| worker.weight).collect::<Vec<_>>())
            }
            PolicyKind::LeastLoad | PolicyKind::PowerOfTwo | PolicyKind::Prequal => {
                let member = |worker: &&Worker| Member {
                    number: worker.number,
                    capacity: worker.weight,
                    calls: worker.expected_calls(now),
                };
                let members: Vec<_> = workers.iter().map(member).collect();
                self.loads.look(&members, now);
                whole(&self.loads.weights(&members))
            }
        }
    }
}

/// Clients refuse a list that has an address twice. Two workers have the same for a moment when one is started anew under another id;
/// the one that came last is alive.
fn one_for_each_address(workers: &[Worker]) -> Vec<usize> {
    let mut latest = BTreeMap::new();
    for worker in workers {
        let number = latest.entry(worker.address).or_insert(worker.number);
        *number = worker.number.max(*number);
    }
    let alive: BTreeSet<_> = latest.into_values().collect();
    let is_alive = |place: &usize| alive.contains(&workers[*place].number);
    (0..workers.len()).filter(is_alive).collect()
}

fn seats(workers: &[&Worker], policy: PolicyKind) -> Vec<Seat> {
    let first_counts = policy == PolicyKind::PickFirst;
    let seat = |(place, worker): (u32, &&Worker)| Seat {
        id: worker.id.clone(),
        address: worker.address,
        priority: if first_counts { place.min(PRIORITIES - 1) } else { 0 },
    };
    (0..).zip(workers).map(seat).collect()
}

fn target((seat, weight): (&Seat, &u32)) -> Target {
    let Seat { id, address, priority } = seat;
    Target { id: id.clone(), address: *address, weight: *weight, priority: *priority }
}

#[cfg(test)]
pub(crate) mod tests;
