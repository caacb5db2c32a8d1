use proptest::{collection::vec, prelude::*};

use super::*;
use crate::load::{RawLoad, WorkerState};

fn report(in_flight: u32, picked: TokenCounts, session: TokenCounts) -> LoadReport {
    LoadReport::parse(RawLoad {
        state: WorkerState::Serving,
        in_flight,
        queued: 0,
        slots: 4,
        picked,
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

fn counts(seen: u64, done: u64) -> TokenCounts {
    TokenCounts { seen, done }
}

const NONE: TokenCounts = TokenCounts { seen: 0, done: 0 };

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::at(Duration::from_millis(milliseconds))
}

#[test]
fn a_pick_counts_once_wherever_it_is() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    assert_eq!(counters.issue(TokenClass::Picked), 1);
    assert_eq!(counters.issue(TokenClass::Picked), 2);
    assert_eq!(counters.estimate(), 2, "both on their way");
    ledger.report(&report(1, counts(1, 0), NONE), at(0), &counters);
    assert_eq!(counters.estimate(), 2, "one arrived, one on its way");
    ledger.report(&report(2, counts(2, 0), NONE), at(0), &counters);
    assert_eq!(counters.estimate(), 2, "both arrived");
    ledger.report(&report(1, counts(2, 1), NONE), at(0), &counters);
    assert_eq!(counters.estimate(), 1, "one has ended");
}

#[test]
fn calls_of_others_count_as_reported() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    counters.issue(TokenClass::Picked);
    ledger.report(&report(6, counts(1, 0), NONE), at(0), &counters);
    assert_eq!(counters.estimate(), 6);
}

#[test]
fn a_measured_load_holds_the_calls_that_are_ours() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    let measured = |in_flight| report(in_flight, NONE, NONE).measured();
    for _ in 0..3 {
        counters.issue(TokenClass::Session);
    }
    ledger.report(&measured(5), at(0), &counters);
    assert_eq!(counters.estimate(), 5, "three are ours");
    ledger.outcomes(true, 2, &counters);
    assert_eq!(counters.estimate(), 3, "two of them have ended");
    ledger.report(&measured(0), at(10), &counters);
    assert_eq!(counters.estimate(), 1, "nothing is measured, but one is still out");
    counters.issue(TokenClass::Picked);
    ledger.expire(at(10), &counters);
    assert_eq!(counters.estimate(), 2);
    for milliseconds in (1000..=4000).step_by(500) {
        ledger.report(&measured(0), at(milliseconds), &counters);
        ledger.expire(at(milliseconds), &counters);
    }
    assert_eq!(counters.estimate(), 1, "nobody sees a unary pick arrive: it counts for a lease");
}

#[test]
fn an_outcome_is_known_before_the_next_report_and_not_counted_again_by_it() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    counters.issue(TokenClass::Session);
    counters.issue(TokenClass::Session);
    ledger.report(&report(2, NONE, counts(2, 0)), at(0), &counters);
    ledger.outcomes(true, 1, &counters);
    assert_eq!(counters.estimate(), 1, "the client said so");
    ledger.report(&report(1, NONE, counts(2, 1)), at(0), &counters);
    assert_eq!(counters.estimate(), 1, "the worker says the same");
}

#[test]
fn a_returned_pick_no_longer_counts() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    counters.issue(TokenClass::Session);
    ledger.outcomes(false, 1, &counters);
    assert_eq!(counters.estimate(), 0);
    assert_eq!(ledger.expected(&counters).session, 0);
    ledger.outcomes(false, 5, &counters);
    assert_eq!(counters.estimate(), 0, "more outcomes than picks change nothing");
    counters.issue(TokenClass::Session);
    assert_eq!(counters.estimate(), 1);
}

#[test]
fn a_second_choice_is_counted_by_the_report_only() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    counters.issue(TokenClass::Second);
    assert_eq!(counters.estimate(), 0);
    ledger.report(&report(1, NONE, NONE), at(0), &counters);
    assert_eq!(counters.estimate(), 1);
}

#[test]
fn a_lost_pick_expires_after_its_lease_and_not_before() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    counters.issue(TokenClass::Picked);
    for elapsed in (0..2_000).step_by(250) {
        ledger.report(&report(0, NONE, NONE), at(elapsed), &counters);
        ledger.expire(at(elapsed), &counters);
        assert_eq!(counters.estimate(), 1, "after {elapsed} ms");
    }
    ledger.expire(at(2_500), &counters);
    assert_eq!(counters.estimate(), 1, "it may have arrived, and the worker need not say so yet");
    ledger.report(&report(0, NONE, NONE), at(2_600), &counters);
    ledger.expire(at(2_750), &counters);
    assert_eq!(counters.estimate(), 0);
    assert_eq!(ledger.expected(&counters).picked, 0, "a draining worker need not wait for it");
}

#[test]
fn a_pick_that_arrived_never_expires() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    counters.issue(TokenClass::Picked);
    ledger.report(&report(1, counts(1, 0), NONE), at(0), &counters);
    for elapsed in (0..60_000).step_by(250) {
        ledger.expire(at(elapsed), &counters);
    }
    assert_eq!(counters.estimate(), 1);
}

#[test]
fn a_pick_that_arrives_after_it_expired_counts_again() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    counters.issue(TokenClass::Picked);
    for elapsed in (0..4_000).step_by(250) {
        ledger.report(&report(0, NONE, NONE), at(elapsed), &counters);
        ledger.expire(at(elapsed), &counters);
    }
    assert_eq!(counters.estimate(), 0);
    ledger.report(&report(1, counts(1, 0), NONE), at(4_000), &counters);
    assert_eq!(counters.estimate(), 1);
    counters.issue(TokenClass::Picked);
    assert_eq!(counters.estimate(), 2, "and later picks are not swallowed");
}

#[test]
fn silence_after_the_interval_means_that_nothing_has_ended() {
    let interval = Duration::from_millis(20);
    let (counters, mut ledger, mut fleet) =
        (Counters::default(), Ledger::default(), FleetPace::default());
    for call in 0..40 {
        let past = LoadReport::parse(RawLoad {
            completed_total: call,
            busy_seconds: 0.05 * call as f64,
            ..*report(0, NONE, NONE)
        });
        ledger.learn(&past.unwrap(), &mut fleet, at(50 * call), interval, &counters);
    }
    counters.issue(TokenClass::Picked);
    let full = LoadReport::parse(RawLoad {
        completed_total: 40,
        busy_seconds: 2.0,
        ..*report(1, counts(1, 0), NONE)
    });
    let full = full.unwrap();
    ledger.report(&full, at(2_000), &counters);
    ledger.learn(&full, &mut fleet, at(2_000), interval, &counters);
    let expected = |elapsed: u64| counters.expected_calls(4, at(2_000 + elapsed));
    assert!((expected(0) - 1.0).abs() < 1e-3);
    assert!((0.6..0.8).contains(&expected(19)), "it may have ended untold: {}", expected(19));
    assert!((expected(22) - 1.0).abs() < 1e-12, "it would have been told");
}

#[test]
fn a_token_used_again_counts_as_a_call_of_others() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    counters.issue(TokenClass::Picked);
    ledger.report(&report(6, counts(6, 0), NONE), at(0), &counters);
    assert_eq!(counters.estimate(), 6, "six calls run, whoever sent them");
    ledger.report(&report(0, counts(6, 6), NONE), at(0), &counters);
    assert_eq!(counters.estimate(), 0);
    for _ in 0..5 {
        counters.issue(TokenClass::Picked);
    }
    assert_eq!(counters.estimate(), 5, "real picks are not hidden by what was forged before");
    ledger.report(&report(5, counts(11, 6), NONE), at(0), &counters);
    assert_eq!(counters.estimate(), 5);
}

#[test]
fn picks_that_ended_without_arriving_do_not_take_running_ones_with_them() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    for _ in 0..4 {
        counters.issue(TokenClass::Session);
    }
    ledger.outcomes(true, 4, &counters);
    for _ in 0..4 {
        counters.issue(TokenClass::Session);
    }
    for elapsed in (0..10_000).step_by(250) {
        ledger.expire(at(elapsed), &counters);
        ledger.report(&report(4, NONE, counts(4, 0)), at(elapsed), &counters);
        assert_eq!(counters.estimate(), 4, "after {elapsed} ms");
    }
}

#[test]
fn calls_of_a_session_that_ended_count_while_they_run() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    for _ in 0..3 {
        counters.issue(TokenClass::Session);
    }
    ledger.report(&report(3, NONE, counts(3, 0)), at(0), &counters);
    ledger.abandoned(3, at(0), &counters);
    assert_eq!(counters.estimate(), 3);
    ledger.report(&report(3, NONE, counts(3, 0)), at(5_000), &counters);
    assert_eq!(counters.estimate(), 3, "however long they run");
    ledger.report(&report(1, NONE, counts(3, 2)), at(6_000), &counters);
    assert_eq!(counters.estimate(), 1);
    ledger.report(&report(0, NONE, counts(3, 3)), at(7_000), &counters);
    assert_eq!(counters.estimate(), 0);
    counters.issue(TokenClass::Session);
    ledger.outcomes(true, 1, &counters);
    assert_eq!(counters.estimate(), 0, "outcomes count at once again");
}

#[test]
fn picks_of_a_session_that_ended_before_it_called_are_let_go() {
    let (counters, mut ledger) = (Counters::default(), Ledger::default());
    for _ in 0..3 {
        counters.issue(TokenClass::Session);
    }
    ledger.abandoned(3, at(0), &counters);
    ledger.report(&report(1, NONE, counts(1, 0)), at(1_000), &counters);
    assert_eq!(counters.estimate(), 3, "two may be on their way");
    ledger.report(&report(1, NONE, counts(1, 0)), at(2_000), &counters);
    assert_eq!(counters.estimate(), 1);
}

/// What can happen to a worker, in any order.
#[derive(Debug, Clone)]
enum Step {
    Issue(TokenClass),
    Arrive,
    End,
    Report,
    Outcome,
    Return,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Issue(TokenClass::Picked)),
        Just(Step::Issue(TokenClass::Session)),
        Just(Step::Arrive),
        Just(Step::End),
        Just(Step::Report),
        Just(Step::Outcome),
        Just(Step::Return),
        (1u64..1_500).prop_map(Step::Wait),
    ]
}

/// A worker that takes calls in the order they were issued, per class.
#[derive(Default)]
struct Model {
    issued: [u64; 2],
    seen: [u64; 2],
    done: [u64; 2],
    told: u64,
    returned: u64,
}

impl Model {
    fn inside(&self) -> u64 {
        (0..2).map(|class| self.seen[class] - self.done[class]).sum()
    }
}

proptest! {
    /// However things interleave: the estimate is at least what the worker really has at the moment of a report
    /// and at most that plus what is on its way; nothing goes negative (it would panic or wrap).
    #[test]
    fn the_estimate_is_bounded_by_the_truth(steps in vec(step(), 0..300)) {
        let (counters, mut ledger, mut model) = (Counters::default(), Ledger::default(), Model::default());
        let mut clock = 0;
        for step in steps {
            match step {
                Step::Issue(class) => {
                    counters.issue(class);
                    model.issued[usize::from(class == TokenClass::Session)] += 1;
                }
                Step::Arrive => {
                    for class in 0..2 {
                        let lost = if class == 1 { model.returned } else { 0 };
                        if model.seen[class] + lost < model.issued[class] {
                            model.seen[class] += 1;
                        }
                    }
                }
                Step::End => {
                    for class in 0..2 {
                        if model.done[class] < model.seen[class] {
                            model.done[class] += 1;
                        }
                    }
                }
                Step::Report => {
                    let inside = u32::try_from(model.inside()).unwrap();
                    let [picked, session] = [0, 1].map(|class| counts(model.seen[class], model.done[class]));
                    ledger.report(&report(inside, picked, session), at(clock), &counters);
                    let estimate = u64::from(counters.estimate());
                    let on_the_way = model.issued.iter().sum::<u64>() - model.seen.iter().sum::<u64>();
                    prop_assert!(estimate >= model.inside() - (model.told.saturating_sub(model.done[1])));
                    prop_assert!(estimate <= model.inside() + on_the_way, "{estimate}");
                }
                Step::Outcome => {
                    if model.told < model.done[1] {
                        model.told += 1;
                        ledger.outcomes(true, 1, &counters);
                    }
                }
                Step::Return => {
                    if model.seen[1] + model.returned < model.issued[1] {
                        model.returned += 1;
                        ledger.outcomes(false, 1, &counters);
                    }
                }
                Step::Wait(milliseconds) => {
                    clock += milliseconds;
                    ledger.expire(at(clock), &counters);
                }
            }
            prop_assert!(u64::from(counters.estimate()) <= counters.issued());
        }
    }
}
