use std::net::SocketAddr;

use super::*;
use crate::{
    estimator::Expected,
    health::{CallEnd, Failure, Hearsay},
    id::ClientKey,
    load::{RawLoad, TokenCounts},
    snapshot::Wish,
    token::TokenClass,
};

fn hello(id: &str, port: u16) -> Hello {
    Hello {
        id: id.parse().unwrap(),
        instance: u64::from(port),
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        services: vec!["Echo".parse().unwrap()],
        slots: 2,
        zone: String::new(),
        labels: BTreeMap::new(),
        version: String::new(),
    }
}

fn load(state: WorkerState, session: TokenCounts, in_flight: u32) -> LoadReport {
    LoadReport::parse(RawLoad {
        state,
        in_flight,
        queued: 0,
        slots: 2,
        picked: TokenCounts::default(),
        session,
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

fn serving() -> LoadReport {
    load(WorkerState::Serving, TokenCounts::default(), 0)
}

fn draining() -> LoadReport {
    load(WorkerState::Draining, TokenCounts::default(), 0)
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::at(Duration::from_millis(milliseconds))
}

fn outputs(registry: &mut Registry) -> Vec<Output> {
    std::iter::from_fn(|| registry.poll_output()).collect()
}

fn in_rotation(registry: &mut Registry) -> Vec<String> {
    let snapshot = registry.publish().unwrap_or_else(|| Arc::clone(&registry.snapshot));
    let view = snapshot.service("Echo");
    view.map_or_else(|_| vec![], |view| view.workers().iter().map(|w| w.id.to_string()).collect())
}

/// A registry with these workers in rotation at time 0.
fn with(ids: &[&str]) -> (Registry, Vec<WorkerNumber>) {
    let mut registry = Registry::new(PolicyKind::LeastLoad);
    let numbers = ids.iter().zip(1..).map(|(id, port)| {
        let number = registry.hello(hello(id, port), at(0)).unwrap();
        registry.report(number, serving(), at(0)).unwrap();
        number
    });
    let numbers = numbers.collect();
    outputs(&mut registry);
    (registry, numbers)
}

#[test]
fn a_worker_gets_calls_after_its_first_report() {
    let mut registry = Registry::new(PolicyKind::LeastLoad);
    let number = registry.hello(hello("a", 1), at(0)).unwrap();
    assert_eq!(in_rotation(&mut registry), Vec::<String>::new());
    registry.report(number, serving(), at(1)).unwrap();
    assert_eq!(in_rotation(&mut registry), ["a"]);
    registry.closed(number, Departure::Goodbye);
    let snapshot = registry.publish().unwrap();
    assert_eq!(snapshot.service("Echo").unwrap_err().to_string(), "no worker offers this service");
}

#[test]
fn a_plain_report_publishes_nothing() {
    let (mut registry, numbers) = with(&["a"]);
    assert!(registry.publish().is_some());
    registry.report(numbers[0], serving(), at(1)).unwrap();
    assert!(registry.publish().is_none());
}

#[test]
fn a_second_live_worker_with_the_same_id_is_refused() {
    let (mut registry, _) = with(&["a"]);
    let refusal = registry.hello(hello("a", 9), at(5)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "worker id a is taken by a live worker at 127.0.0.1:1: give this one another id"
    );
    assert!(matches!(outputs(&mut registry)[..], [Output::Notice(Notice::Refused { .. })]));
    assert_eq!(in_rotation(&mut registry), ["a"]);
}

#[test]
fn a_successor_at_the_same_address_takes_over() {
    let (mut registry, numbers) = with(&["a"]);
    let successor = Hello { instance: 99, ..hello("a", 1) };
    let number = registry.hello(successor, at(5)).unwrap();
    assert_ne!(number, numbers[0]);
    let replaced = Output::Disconnect { worker: numbers[0], cause: Departure::Replaced };
    assert!(outputs(&mut registry).contains(&replaced));
    assert!(registry.report(numbers[0], serving(), at(6)).is_err(), "the old stream is dead");
    registry.report(number, serving(), at(6)).unwrap();
    assert_eq!(in_rotation(&mut registry), ["a"]);
}

#[test]
fn the_same_process_may_come_back_from_another_address() {
    let (mut registry, _) = with(&["a"]);
    let moved = Hello { instance: 1, ..hello("a", 9) };
    assert!(registry.hello(moved, at(5)).is_ok());
}

#[test]
fn a_silent_worker_is_out_after_more_than_a_heartbeat() {
    let (mut registry, numbers) = with(&["a", "b"]);
    registry.report(numbers[1], serving(), at(1_000)).unwrap();
    registry.handle_timeout(at(1_600));
    assert_eq!(in_rotation(&mut registry), ["a", "b"]);
    registry.handle_timeout(at(1_601));
    assert_eq!(in_rotation(&mut registry), ["b"]);
    let gone = Output::Disconnect { worker: numbers[0], cause: Departure::Silent };
    assert!(outputs(&mut registry).contains(&gone));
}

#[test]
fn a_host_without_power_is_out_within_two_seconds() {
    let tick = u64::try_from(TICK.as_millis()).unwrap();
    for phase in 0..tick {
        let (mut registry, _) = with(&["a"]);
        for now in (phase..2_000).step_by(usize::try_from(tick).unwrap()) {
            registry.handle_timeout(at(now));
        }
        assert_eq!(in_rotation(&mut registry), Vec::<String>::new(), "ticks from {phase} ms");
    }
}

#[test]
fn a_frozen_balancer_does_not_blame_its_workers() {
    let (mut registry, _) = with(&["a", "b"]);
    registry.handle_timeout(at(250));
    registry.handle_timeout(at(9_000));
    assert_eq!(in_rotation(&mut registry), ["a", "b"], "nobody could be heard");
    for now in (9_250..=12_250).step_by(250) {
        registry.handle_timeout(at(now));
    }
    assert_eq!(in_rotation(&mut registry), Vec::<String>::new(), "but now they are silent");
}

#[test]
fn a_stopping_worker_learns_what_can_still_come_after_it_is_out() {
    let (mut registry, numbers) = with(&["a"]);
    let snapshot = registry.publish().unwrap();
    registry.report(numbers[0], draining(), at(1)).unwrap();
    // Until the next snapshot is out, picks go on.
    let mut rng = fastrand::Rng::with_seed(1);
    let view = snapshot.service("Echo").unwrap();
    view.pick(Wish::default(), TokenClass::Session, &mut rng).unwrap();
    assert_eq!(in_rotation(&mut registry), Vec::<String>::new());
    let expected = Expected { picked: 0, session: 1 };
    let ack = Output::DrainAck { worker: numbers[0], expected };
    assert!(outputs(&mut registry).contains(&ack));
    registry.report(numbers[0], draining(), at(2)).unwrap();
    assert_eq!(outputs(&mut registry), [], "acknowledged once");
}

#[test]
fn a_drained_worker_comes_back_when_it_says_so() {
    let (mut registry, numbers) = with(&["a", "b"]);
    let id: WorkerId = "a".parse().unwrap();
    assert_eq!(registry.drain(&id), Ok(0));
    assert_eq!(in_rotation(&mut registry), ["b"], "at once, before the worker answers");
    let order = Output::Order { worker: numbers[0], state: WorkerState::Draining };
    assert_eq!(outputs(&mut registry), [order]);
    registry.report(numbers[0], serving(), at(1)).unwrap();
    assert_eq!(in_rotation(&mut registry), ["b"], "a report from before the order changes nothing");
    registry.report(numbers[0], draining(), at(2)).unwrap();
    registry.undrain(&id).unwrap();
    assert_eq!(in_rotation(&mut registry), ["b"]);
    registry.report(numbers[0], serving(), at(3)).unwrap();
    assert_eq!(in_rotation(&mut registry), ["a", "b"]);
}

#[test]
fn another_balancers_undrain_is_followed() {
    let (mut registry, numbers) = with(&["a"]);
    registry.drain(&"a".parse().unwrap()).unwrap();
    registry.report(numbers[0], draining(), at(1)).unwrap();
    registry.report(numbers[0], serving(), at(2)).unwrap();
    assert_eq!(in_rotation(&mut registry), ["a"]);
}

#[test]
fn draining_an_unknown_worker_names_it() {
    let (mut registry, _) = with(&[]);
    let error = registry.drain(&"ghost".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "no worker with id ghost is registered");
}

#[test]
fn an_impossible_report_is_refused_and_the_last_one_stays() {
    let (mut registry, numbers) = with(&["a"]);
    let seen = TokenCounts { seen: 5, done: 5 };
    registry.report(numbers[0], load(WorkerState::Serving, seen, 0), at(1)).unwrap();
    let error = registry.report(numbers[0], serving(), at(2)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "load report: session.seen is 0, expected at least 5, as reported before"
    );
    let status = registry.workers(at(2)).next().unwrap();
    assert_eq!(status.report.unwrap().session, seen);
}

#[test]
fn a_new_policy_is_in_the_next_snapshot() {
    let (mut registry, _) = with(&["a"]);
    registry.publish();
    registry.set_policy(PolicyKind::LeastLoad);
    assert!(registry.publish().is_none(), "the same policy changes nothing");
    registry.set_policy(PolicyKind::Random);
    assert_eq!(registry.publish().unwrap().policy, PolicyKind::Random);
    assert_eq!(outputs(&mut registry), [Output::Notice(Notice::Policy(PolicyKind::Random))]);
}

#[test]
fn status_tells_each_standing() {
    let (mut registry, numbers) = with(&["a", "b", "c"]);
    registry.report(numbers[1], serving(), at(2_500)).unwrap();
    registry.report(numbers[2], draining(), at(2_500)).unwrap();
    registry.hello(hello("d", 9), at(2_500)).unwrap();
    let standings: Vec<_> =
        registry.workers(at(2_501)).map(|status| status.standing.name()).collect();
    assert_eq!(standings, ["stale", "serving", "draining", "waiting"]);
}

const FAILED: CallEnd = CallEnd::Failed(Failure::Unavailable);

/// Two clients tell that calls failed.
fn failing(registry: &mut Registry, number: WorkerNumber, milliseconds: u64) {
    for client in [1, 2] {
        registry.outcomes(number, FAILED, 2, ClientKey(client), at(milliseconds));
    }
}

fn ejected(registry: &mut Registry) -> Vec<String> {
    let named = |output| match output {
        Output::Notice(Notice::Ejected { worker, .. }) => Some(worker.to_string()),
        _ => None,
    };
    outputs(registry).into_iter().filter_map(named).collect()
}

/// The calls that picks see in each worker.
fn counted(registry: &Registry) -> Vec<u32> {
    registry.snapshot.service("Echo").unwrap().workers().iter().map(Worker::estimate).collect()
}

fn standing(registry: &Registry, milliseconds: u64) -> Vec<&'static str> {
    registry.workers(at(milliseconds)).map(|status| status.standing.name()).collect()
}

#[test]
fn a_failing_worker_is_out_for_a_while_and_back_on_trial() {
    let (mut registry, numbers) = with(&["a", "b", "c"]);
    failing(&mut registry, numbers[1], 100);
    assert_eq!(ejected(&mut registry), ["b"]);
    assert_eq!(in_rotation(&mut registry), ["a", "c"]);
    let why = registry.workers(at(600)).nth(1).unwrap().why();
    assert_eq!(
        why,
        "out of rotation: 4 of 4 calls failed, several clients say, the last: UNAVAILABLE; \
         tried again in 0.5 s"
    );
    registry.handle_timeout(at(1_000));
    assert_eq!(standing(&registry, 1_000), ["serving", "ejected", "serving"]);
    registry.handle_timeout(at(1_100));
    assert_eq!(in_rotation(&mut registry), ["a", "b", "c"]);
    assert_eq!(standing(&registry, 1_100), ["serving", "trial", "serving"]);
    assert_eq!(counted(&registry), [0, 1, 0], "one of its two slots looks free");
    registry.outcomes(numbers[1], CallEnd::Answered, 13, ClientKey(1), at(1_200));
    registry.handle_timeout(at(1_250));
    let recovered = Output::Notice(Notice::Recovered { worker: "b".parse().unwrap() });
    assert_eq!(outputs(&mut registry), [recovered]);
    assert_eq!(counted(&registry), [0, 0, 0]);
}

#[test]
fn one_client_puts_nobody_out_whom_another_finds_well() {
    let (mut registry, numbers) = with(&["a", "b", "c"]);
    for millisecond in 0..1_000 {
        registry.outcomes(numbers[0], CallEnd::Answered, 1, ClientKey(1), at(millisecond));
        registry.outcomes(numbers[0], FAILED, 5, ClientKey(2), at(millisecond));
    }
    assert_eq!(ejected(&mut registry), [""; 0]);
}

#[test]
fn counts_of_clients_speak_of_health_and_not_of_load() {
    let (mut registry, numbers) = with(&["a", "b", "c"]);
    let tell = |registry: &mut Registry, place: usize, answered, failed| {
        let ends = Hearsay { answered, failed };
        registry.hearsay(numbers[place], ends, ClientKey(1), at(100));
    };
    tell(&mut registry, 0, 1_000, 0);
    tell(&mut registry, 1, 990, 10);
    assert_eq!(ejected(&mut registry), [""; 0], "one in a hundred");
    tell(&mut registry, 2, 50, 50);
    assert_eq!(ejected(&mut registry), ["c"], "one of two");
    let why = registry.workers(at(100)).nth(2).unwrap().why();
    assert!(why.contains("the only client says, the last: an error"), "{why}");
    assert_eq!(in_rotation(&mut registry), ["a", "b"]);
    assert_eq!(counted(&registry), [0, 0]);
    let full = LoadReport::parse(RawLoad { in_flight: 9, queued: 7, ..*serving() }).unwrap();
    registry.report(numbers[1], full, at(200)).unwrap();
    tell(&mut registry, 1, 0, 1_000);
    assert_eq!(ejected(&mut registry), [""; 0], "it may have refused them");
}

#[test]
fn half_of_the_fleet_stays_in() {
    let (mut registry, numbers) = with(&["a", "b", "c", "d", "e"]);
    for number in &numbers[..4] {
        failing(&mut registry, *number, 100);
    }
    assert_eq!(ejected(&mut registry), ["a", "b"]);
    assert_eq!(in_rotation(&mut registry), ["c", "d", "e"]);
    // Those that are well leave: of three, two must be in.
    for number in &numbers[3..] {
        registry.closed(*number, Departure::Goodbye);
    }
    assert_eq!(in_rotation(&mut registry), ["a", "c"]);
    assert_eq!(standing(&registry, 200), ["spared", "ejected", "serving"]);
    let (mut registry, numbers) = with(&["alone"]);
    failing(&mut registry, numbers[0], 100);
    assert_eq!(in_rotation(&mut registry), ["alone"]);
}

#[test]
fn when_everybody_fails_who_was_out_comes_back() {
    let (mut registry, numbers) = with(&["a", "b", "c", "d"]);
    failing(&mut registry, numbers[0], 100);
    assert_eq!(ejected(&mut registry), ["a"]);
    for _ in 0..5 {
        for number in &numbers[1..] {
            failing(&mut registry, *number, 150);
        }
    }
    assert_eq!(in_rotation(&mut registry).len(), 2, "no more than half go");
    registry.handle_timeout(at(250));
    assert_eq!(in_rotation(&mut registry).len(), 4);
    assert_eq!(standing(&registry, 250), ["serving"; 4]);
}

#[test]
fn a_worker_that_crashes_as_it_starts_gets_no_calls_for_a_while() {
    let (mut registry, numbers) = with(&["a", "b", "c"]);
    let mut last = numbers[0];
    for half_second in 1..=2 {
        registry.closed(last, Departure::Broken);
        last = registry.hello(hello("a", 1), at(half_second * 500)).unwrap();
        registry.report(last, serving(), at(half_second * 500)).unwrap();
    }
    assert_eq!(in_rotation(&mut registry), ["b", "c"]);
    let why = registry.workers(at(1_000)).next().unwrap().why();
    let cause = "lost 2 times, each time soon after it registered";
    assert!(why.starts_with(&format!("out of rotation: {cause}; tried again in ")), "{why}");
    registry.closed(last, Departure::Goodbye);
    let number = registry.hello(hello("a", 1), at(1_100)).unwrap();
    registry.report(number, serving(), at(1_100)).unwrap();
    assert_eq!(in_rotation(&mut registry), ["a", "b", "c"], "somebody has seen to it");
}

#[test]
fn a_failure_counts_as_a_slow_answer() {
    let (mut registry, numbers) = with(&["a"]);
    registry.report(numbers[0], serving(), at(0)).unwrap();
    let faults = LoadReport::parse(RawLoad {
        completed_total: 3,
        errors_total: 3,
        faults_total: 3,
        ..*serving()
    });
    registry.report(numbers[0], faults.unwrap(), at(10)).unwrap();
    registry.publish();
    assert_eq!(counted(&registry), [3]);
    assert_eq!(registry.workers(at(10)).next().unwrap().estimate, 0, "nothing runs there");
    registry.outcomes(numbers[0], FAILED, 3, ClientKey(1), at(20));
    assert_eq!(counted(&registry), [3], "the same three");
    registry.handle_timeout(at(1_250));
    assert_eq!(counted(&registry), [0]);
}

#[test]
fn numbers_begin_anew_without_those_in_use() {
    let mut registry = Registry::new(PolicyKind::default());
    let first = registry.hello(hello("a", 1), at(0)).unwrap();
    registry.last_number = u32::MAX - 1;
    let last = registry.hello(hello("b", 2), at(0)).unwrap();
    let next = registry.hello(hello("c", 3), at(0)).unwrap();
    assert_eq!([first.0, last.0, next.0], [1, u32::MAX, 2]);
}
