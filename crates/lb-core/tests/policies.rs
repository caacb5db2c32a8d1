//! What every policy promises, checked on random fleets through the public API.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use fastrand::Rng;
use lb_core::{
    health::CallEnd,
    id::{ClientKey, WorkerNumber},
    load::{Hello, LoadReport, RawLoad, TokenCounts, WorkerState},
    policy::{PolicyKind, Reason},
    registry::Registry,
    snapshot::{PickError, Snapshot, Wish, Worker},
    time::Timestamp,
    token::TokenClass,
};
use proptest::{collection::vec, prelude::*};

#[derive(Debug, Clone)]
struct Member {
    slots: u16,
    in_flight: u32,
    draining: bool,
    labelled: bool,
}

fn member() -> impl Strategy<Value = Member> {
    (1u16..9, 0u32..20, prop::bool::weighted(0.2), any::<bool>()).prop_map(
        |(slots, in_flight, draining, labelled)| Member { slots, in_flight, draining, labelled },
    )
}

fn policy() -> impl Strategy<Value = PolicyKind> {
    prop::sample::select(PolicyKind::ALL.to_vec())
}

fn join(registry: &mut Registry, place: usize, member: &Member) -> WorkerNumber {
    let port = u16::try_from(place).unwrap() + 1;
    let label = member.labelled.then(|| ("gpu".to_owned(), "yes".to_owned()));
    let hello = Hello {
        id: format!("w{place:04}").parse().unwrap(),
        instance: 0,
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        services: vec!["Echo".parse().unwrap()],
        slots: member.slots,
        zone: String::new(),
        labels: label.into_iter().collect(),
        version: String::new(),
    };
    let number = registry.hello(hello, Timestamp::default()).unwrap();
    registry.report(number, report(member), Timestamp::default()).unwrap();
    number
}

fn report(member: &Member) -> LoadReport {
    LoadReport::parse(RawLoad {
        state: if member.draining { WorkerState::Draining } else { WorkerState::Serving },
        in_flight: member.in_flight,
        queued: 0,
        slots: member.slots.into(),
        picked: TokenCounts::default(),
        session: TokenCounts::default(),
        completed_total: 0,
        errors_total: 0,
        faults_total: 0,
        in_flight_integral: 0.0,
        busy_seconds: 0.0,
        cpu: 0.0,
        memory: 0.0,
    })
    .unwrap()
}

fn fleet(policy: PolicyKind, members: &[Member]) -> (Registry, Arc<Snapshot>) {
    let mut registry = Registry::new(policy);
    for (place, member) in members.iter().enumerate() {
        join(&mut registry, place, member);
    }
    let snapshot = registry.publish().unwrap();
    (registry, snapshot)
}

/// Expected delay of one more call, by the rule in the documentation of least load. All are equally fast here.
fn delay(calls: u32, slots: u16) -> f64 {
    let (calls, slots) = (f64::from(calls) + 1.0, f64::from(slots));
    1.0 + ((calls - slots).max(0.0) + 0.3 * calls) / slots
}

fn delay_of(worker: &Worker) -> f64 {
    delay(worker.estimate(), worker.slots)
}

proptest! {
    #[test]
    fn only_eligible_workers_are_picked(
        members in vec(member(), 1..40), policy in policy(), seed in any::<u64>(), labelled in any::<bool>(),
    ) {
        let (_registry, snapshot) = fleet(policy, &members);
        let view = snapshot.service("Echo").unwrap();
        let may = |member: &Member| !member.draining && (!labelled || member.labelled);
        let has_label = |worker: &Worker| worker.labels.contains_key("gpu");
        let eligible: Option<&dyn Fn(&Worker) -> bool> = if labelled { Some(&has_label) } else { None };
        let wish = Wish { eligible, ..Wish::default() };
        let mut rng = Rng::with_seed(seed);
        for _ in 0..50 {
            match view.pick(wish, TokenClass::Picked, &mut rng) {
                Ok(pick) => {
                    let place: usize = pick.worker.id.as_str()[1..].parse().unwrap();
                    prop_assert!(may(&members[place]));
                    if let Some(second) = view.second(&pick, wish, &mut rng) {
                        let place: usize = second.id.as_str()[1..].parse().unwrap();
                        prop_assert!(may(&members[place]));
                        prop_assert_ne!(second.number, pick.worker.number);
                    }
                }
                Err(error) => {
                    prop_assert!(!members.iter().any(may));
                    let serving = members.iter().any(|member| !member.draining);
                    let expected = if serving { PickError::NoneAllowed } else { PickError::NoWorker };
                    prop_assert_eq!(error, expected);
                }
            }
        }
    }

    #[test]
    fn round_robin_is_exact_over_any_window(count in 1usize..30, skip in 0usize..100, window in 1usize..200) {
        let members = vec![Member { slots: 1, in_flight: 0, draining: false, labelled: false }; count];
        let (_registry, snapshot) = fleet(PolicyKind::RoundRobin, &members);
        let view = snapshot.service("Echo").unwrap();
        let mut rng = Rng::with_seed(0);
        let mut picked = || view.pick(Wish::default(), TokenClass::Picked, &mut rng).unwrap().worker.number;
        for _ in 0..skip {
            picked();
        }
        let mut counts = BTreeMap::new();
        for _ in 0..window {
            *counts.entry(picked()).or_insert(0usize) += 1;
        }
        let (floor, ceiling) = (window / count, window.div_ceil(count));
        prop_assert!(counts.values().all(|&calls| (floor..=ceiling).contains(&calls)), "{counts:?}");
        prop_assert!(floor == 0 || counts.len() == count);
    }

    #[test]
    fn round_robin_is_exact_among_those_allowed(
        labelled in vec(any::<bool>(), 1..30), window in 1usize..200,
    ) {
        let member = |&labelled: &bool| Member { slots: 1, in_flight: 0, draining: false, labelled };
        let members: Vec<_> = labelled.iter().map(member).collect();
        let count = labelled.iter().filter(|labelled| **labelled).count();
        prop_assume!(count > 0);
        let (_registry, snapshot) = fleet(PolicyKind::RoundRobin, &members);
        let view = snapshot.service("Echo").unwrap();
        let has_label = |worker: &Worker| worker.labels.contains_key("gpu");
        let wish = Wish { eligible: Some(&has_label), ..Wish::default() };
        let mut rng = Rng::with_seed(0);
        let mut counts = BTreeMap::new();
        for _ in 0..window {
            let pick = view.pick(wish, TokenClass::Picked, &mut rng).unwrap();
            *counts.entry(pick.worker.number).or_insert(0usize) += 1;
        }
        let (floor, ceiling) = (window / count, window.div_ceil(count));
        prop_assert!(counts.values().all(|&calls| (floor..=ceiling).contains(&calls)), "{counts:?}");
    }

    #[test]
    fn least_load_takes_a_shortest_wait_except_to_explore(
        members in vec(member(), 1..60), seed in any::<u64>(), picks in 1usize..200,
    ) {
        let (_registry, snapshot) = fleet(PolicyKind::LeastLoad, &members);
        let view = snapshot.service("Echo").unwrap();
        prop_assume!(!view.workers().is_empty());
        let mut rng = Rng::with_seed(seed);
        for _ in 0..picks {
            let least = view.workers().iter().map(delay_of).fold(f64::MAX, f64::min);
            let pick = view.pick(Wish::default(), TokenClass::Picked, &mut rng).unwrap();
            if let Reason::LeastLoad { .. } = pick.reason {
                let before = delay(pick.worker.estimate() - 1, pick.worker.slots);
                prop_assert!(before <= least * 1.000_001, "{before} instead of {least}");
            }
        }
    }

    #[test]
    fn pick_first_always_takes_the_first(members in vec(member(), 1..20), seed in any::<u64>()) {
        let (_registry, snapshot) = fleet(PolicyKind::PickFirst, &members);
        let view = snapshot.service("Echo").unwrap();
        let mut rng = Rng::with_seed(seed);
        let first = view.workers().first().map(|worker| worker.number);
        for _ in 0..10 {
            let pick = view.pick(Wish::default(), TokenClass::Picked, &mut rng).ok();
            prop_assert_eq!(pick.map(|pick| pick.worker.number), first);
        }
    }

    /// A new report moves the score in a list that is already published.
    #[test]
    fn least_load_follows_reports(loads in vec(0u32..9, 2..40), seed in any::<u64>()) {
        let members: Vec<_> = loads
            .iter()
            .map(|_| Member { slots: 1, in_flight: 0, draining: false, labelled: false })
            .collect();
        let (mut registry, snapshot) = fleet(PolicyKind::LeastLoad, &members);
        for (number, load) in (1..).zip(&loads) {
            let member = Member { slots: 1, in_flight: *load, draining: false, labelled: false };
            registry.report(WorkerNumber(number), report(&member), Timestamp::at(Duration::from_millis(1))).unwrap();
        }
        let view = snapshot.service("Echo").unwrap();
        let pick = view.pick(Wish::default(), TokenClass::Picked, &mut Rng::with_seed(seed)).unwrap();
        if let Reason::LeastLoad { estimate, .. } = pick.reason {
            prop_assert_eq!(estimate, *loads.iter().min().unwrap());
        }
    }
}

fn alike(count: usize) -> Vec<Member> {
    vec![Member { slots: 4, in_flight: 0, draining: false, labelled: false }; count]
}

/// Picks `count` times with an affinity key, and ends each call at once.
fn places(
    registry: &mut Registry,
    snapshot: &Snapshot,
    keys: impl Iterator<Item = String>,
) -> Vec<u32> {
    let view = snapshot.service("Echo").unwrap();
    let mut rng = Rng::with_seed(3);
    keys.map(|key| {
        let wish = Wish { affinity: Some(&key), ..Wish::default() };
        let number = view.pick(wish, TokenClass::Session, &mut rng).unwrap().worker.number;
        registry.outcomes(number, CallEnd::Answered, 1, ClientKey(1), Timestamp::default());
        number.0
    })
    .collect()
}

#[test]
fn a_busy_fleet_is_not_explored() {
    let (_registry, snapshot) = fleet(PolicyKind::LeastLoad, &alike(10));
    let view = snapshot.service("Echo").unwrap();
    let mut rng = Rng::with_seed(42);
    for _ in 0..10_000 {
        let pick = view.pick(Wish::default(), TokenClass::Picked, &mut rng).unwrap();
        assert_ne!(pick.reason, Reason::Explored);
    }
}

/// Nobody picks a worker that is full of the calls of others, until these end; a free one is tried again.
#[test]
fn a_worker_that_is_passed_over_is_tried_at_the_stated_share() {
    let (mut registry, snapshot) = fleet(PolicyKind::LeastLoad, &alike(2));
    let busy = Member { in_flight: 3, ..alike(1)[0].clone() };
    registry.report(WorkerNumber(2), report(&busy), Timestamp::default()).unwrap();
    let view = snapshot.service("Echo").unwrap();
    let mut rng = Rng::with_seed(42);
    let explored = (1..10_000u64)
        .filter(|second| {
            let now = Timestamp::at(Duration::from_secs(10 * second));
            let wish = Wish { now, ..Wish::default() };
            let pick = view.pick(wish, TokenClass::Session, &mut rng).unwrap();
            registry.outcomes(
                pick.worker.number,
                CallEnd::Answered,
                1,
                ClientKey(1),
                Timestamp::default(),
            );
            pick.reason == Reason::Explored
        })
        .count();
    assert!((200..400).contains(&explored), "{explored} of 10000");
}

#[test]
fn weighted_round_robin_follows_slots() {
    let slots = [1u16, 2, 4, 8];
    let members: Vec<_> =
        slots.iter().map(|&slots| Member { slots, ..alike(1)[0].clone() }).collect();
    let (_registry, snapshot) = fleet(PolicyKind::WeightedRoundRobin, &members);
    let view = snapshot.service("Echo").unwrap();
    let mut rng = Rng::with_seed(1);
    let mut counts = [0u32; 4];
    for _ in 0..15_000 {
        let pick = view.pick(Wish::default(), TokenClass::Picked, &mut rng).unwrap();
        counts[pick.worker.number.0 as usize - 1] += 1;
    }
    for (count, slots) in counts.into_iter().zip(slots) {
        let share = u32::from(slots) * 1_000;
        assert!(count.abs_diff(share) < 30, "{counts:?}");
    }
}

#[test]
fn a_key_stays_and_keys_spread() {
    for policy in [PolicyKind::RingHash, PolicyKind::Maglev] {
        let (mut registry, snapshot) = fleet(policy, &alike(10));
        let keys = || (0..2_000).map(|key| format!("user-{key}"));
        let first = places(&mut registry, &snapshot, keys());
        assert_eq!(first, places(&mut registry, &snapshot, keys()), "{policy}");
        for number in 1..=10 {
            let share = first.iter().filter(|&&place| place == number).count();
            assert!((130..280).contains(&share), "{policy}: {share} of 2000 on one of ten");
        }
        join(&mut registry, 10, &alike(1)[0]);
        let snapshot = registry.publish().unwrap();
        let moved = places(&mut registry, &snapshot, keys());
        let moved = first.iter().zip(&moved).filter(|(a, b)| a != b).count();
        assert!((100..320).contains(&moved), "{policy}: {moved} of 2000 moved for one of eleven");
    }
}

/// Anybody may claim to be huge. The table of the others must not take the longer to fill: nobody would be picked meanwhile.
#[test]
fn a_giant_among_thousands_delays_no_list() {
    let mut members = alike(5_000);
    members[7].slots = u16::MAX;
    for policy in PolicyKind::ALL {
        let (_registry, snapshot) = fleet(policy, &members);
        let view = snapshot.service("Echo").unwrap();
        assert!(view.pick(Wish::default(), TokenClass::Session, &mut Rng::with_seed(1)).is_ok());
    }
}

#[test]
fn a_popular_key_overflows_to_others() {
    for policy in [PolicyKind::RingHash, PolicyKind::Maglev] {
        let (_registry, snapshot) = fleet(policy, &alike(10));
        let view = snapshot.service("Echo").unwrap();
        let wish = Wish { affinity: Some("everybody"), ..Wish::default() };
        let mut rng = Rng::with_seed(1);
        for _ in 0..200 {
            view.pick(wish, TokenClass::Session, &mut rng).unwrap();
        }
        let most = view.workers().iter().map(Worker::estimate).max();
        assert!(most <= Some(26), "{policy}: {most:?} of 200 on one of ten");
    }
}

/// Two drawn at random: the worst of a fleet is never taken, unless drawn against itself.
#[test]
fn two_choices_never_take_the_only_busy_worker() {
    let mut members = alike(10);
    members[4].in_flight = 100;
    for policy in [PolicyKind::PowerOfTwo, PolicyKind::Prequal] {
        let (mut registry, snapshot) = fleet(policy, &members);
        let view = snapshot.service("Echo").unwrap();
        let mut rng = Rng::with_seed(1);
        for _ in 0..1_000 {
            let pick = view.pick(Wish::default(), TokenClass::Session, &mut rng).unwrap();
            assert_ne!(pick.worker.number.0, 5, "{policy}");
            registry.outcomes(
                pick.worker.number,
                CallEnd::Answered,
                1,
                ClientKey(1),
                Timestamp::default(),
            );
        }
    }
}

/// A worker that joins does not make the round start anew.
#[test]
fn the_round_goes_on_when_the_list_changes() {
    let member = Member { slots: 1, in_flight: 0, draining: false, labelled: false };
    let (mut registry, snapshot) = fleet(PolicyKind::RoundRobin, &vec![member.clone(); 3]);
    let mut rng = Rng::with_seed(0);
    let mut pick = |snapshot: &Snapshot| {
        let view = snapshot.service("Echo").unwrap();
        view.pick(Wish::default(), TokenClass::Picked, &mut rng).unwrap().worker.id.to_string()
    };
    assert_eq!([pick(&snapshot), pick(&snapshot)], ["w0000", "w0001"]);
    join(&mut registry, 3, &member);
    let snapshot = registry.publish().unwrap();
    assert_eq!([pick(&snapshot), pick(&snapshot), pick(&snapshot)], ["w0002", "w0003", "w0000"]);
}
