//! Workers and clients that fail, and what it costs the others. Fixed seeds: every figure here is the same in each run.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lb_core::policy::PolicyKind;
use lb_sim::{Calls, Fault, FaultKind, Rule, Scenario, Tally, run_once};

const LEAST_LOAD: Rule = Rule::Core(PolicyKind::LeastLoad);

/// Ten workers at 70 % load, sixteen clients with sessions, for a minute: 560 calls a second, 56 for each worker.
fn scenario(faults: impl IntoIterator<Item = Fault>) -> Scenario {
    Scenario {
        calls: Calls::Session,
        length: Duration::from_secs(60),
        faults: faults.into_iter().collect(),
        ..Scenario::usual()
    }
}

fn fault(kind: FaultKind, target: u32, from: u64, until: u64) -> Fault {
    let seconds = Duration::from_secs;
    Fault { at: seconds(from), lasts: Some(seconds(until - from)), kind, target }
}

/// One run for each policy that has nothing to do with the order of workers or keys.
fn runs(scenario: &Scenario) -> impl Iterator<Item = (PolicyKind, Tally)> {
    let policies = [PolicyKind::LeastLoad, PolicyKind::RoundRobin, PolicyKind::PowerOfTwo];
    policies.into_iter().map(|policy| (policy, run_once(scenario, Rule::Core(policy), 1)))
}

fn p99(tally: &Tally) -> u32 {
    let mut latencies = tally.latencies.clone();
    latencies.sort_unstable();
    lb_sim::percentile(&latencies, 0.99)
}

#[test]
fn a_worker_that_fails_everything_at_once_is_out_after_its_first_failures() {
    let sick = scenario([fault(FaultKind::Sick(100), 3, 10, 60)]);
    let well = scenario([]);
    for (policy, tally) in runs(&sick) {
        let unharmed = run_once(&well, Rule::Core(policy), 1);
        println!(
            "{policy}: {} of {} failed, {} ejections, p99 {} (well {})",
            tally.failed,
            tally.offered,
            tally.ejections,
            p99(&tally),
            p99(&unharmed)
        );
        // Without ejection it would be 2,800 by turns, and most calls where the emptiest is picked.
        assert!(tally.failed <= 25, "{policy}: {} calls failed in 50 s", tally.failed);
        assert!((5..=7).contains(&tally.ejections), "out for 1, 2, 4, 8, 16, 32 s");
    }
}

#[test]
fn unary_clients_are_spared_by_what_the_worker_reports_itself() {
    let sick =
        Scenario { calls: Calls::OneShot, ..scenario([fault(FaultKind::Sick(100), 3, 10, 60)]) };
    for (policy, tally) in runs(&sick) {
        println!(
            "{policy}: {} of {} failed, {} ejections",
            tally.failed, tally.offered, tally.ejections
        );
        assert!(tally.failed <= 60, "{policy}: {} calls failed in 50 s", tally.failed);
    }
}

#[test]
fn a_worker_that_fails_three_calls_in_ten_is_out_soon() {
    for (policy, tally) in runs(&scenario([fault(FaultKind::Sick(30), 3, 10, 60)])) {
        println!(
            "{policy}: {} of {} failed, {} ejections",
            tally.failed, tally.offered, tally.ejections
        );
        assert!(tally.failed <= 60, "{policy}: of 840 that it would fail, {}", tally.failed);
    }
}

#[test]
fn a_broken_client_puts_nobody_out() {
    for (policy, tally) in runs(&scenario([fault(FaultKind::BrokenClient, 5, 10, 50)])) {
        assert_eq!((tally.ejections, tally.failed), (0, 0), "{policy}");
        assert!(tally.failed_by_client > 1_000);
    }
    // Nor when it makes half of all calls.
    let two = Scenario { clients: 2, ..scenario([fault(FaultKind::BrokenClient, 1, 10, 50)]) };
    for (policy, tally) in runs(&two) {
        assert_eq!((tally.ejections, tally.failed), (0, 0), "{policy}");
    }
}

#[test]
fn when_the_whole_fleet_fails_it_is_whole_again_as_soon_as_that_is_over() {
    let all = (0..10).map(|worker| fault(FaultKind::Sick(100), worker, 20, 30));
    let well = scenario([]);
    for (policy, tally) in runs(&scenario(all)) {
        let unharmed = run_once(&well, Rule::Core(policy), 1);
        println!(
            "{policy}: {} ejections, second 31: {} of {}",
            tally.ejections, tally.answered[31], unharmed.answered[31]
        );
        assert!(tally.failed > 5_000);
        for second in 31..60 {
            let share = tally.answered[second] as f64 / unharmed.answered[second] as f64;
            assert!(
                share > 0.9,
                "{policy}: second {second}: {share:.2} of what a well fleet answers"
            );
        }
    }
}

#[test]
fn more_than_half_cannot_be_put_out_and_those_who_stay_draw_few_calls() {
    let sick = |count: u32| {
        let mut sick =
            scenario((0..count).map(|worker| fault(FaultKind::Sick(100), worker, 10, 60)));
        sick.set_load(0.3);
        run_once(&sick, LEAST_LOAD, 1)
    };
    for count in 2..=5 {
        let tally = sick(count);
        println!("{count} sick: {} failed, {} ejections", tally.failed, tally.ejections);
        assert!(tally.failed <= 25 * u64::from(count), "{} calls failed", tally.failed);
    }
    let tally = sick(6);
    let share = tally.failed as f64 / (tally.offered as f64 * 50.0 / 60.0);
    println!("{share:.3} failed, {} ejections", tally.ejections);
    // One of the five that stay is sick: by turns that is 20 %.
    assert!(share < 0.05, "{share:.3} of the calls failed");
}

#[test]
fn a_worker_that_is_sick_and_well_by_turns_is_out_for_longer_and_longer() {
    let turns = (10..60).step_by(4).map(|from| fault(FaultKind::Sick(100), 3, from, from + 2));
    for (policy, tally) in runs(&scenario(turns)) {
        println!("{policy}: {} failed, {} ejections", tally.failed, tally.ejections);
        assert!(tally.ejections <= 8 && tally.failed <= 80, "{policy}: {tally:?}");
    }
}

#[test]
fn a_worker_that_was_sick_once_is_back_within_seconds() {
    let tally = run_once(&scenario([fault(FaultKind::Sick(100), 3, 10, 12)]), LEAST_LOAD, 1);
    let busy = tally.busy[3];
    let others = tally.busy.iter().sum::<f64>() / 10.0;
    println!("busy {busy:.3}, all {others:.3}, {} ejections", tally.ejections);
    assert!(tally.ejections <= 2 && busy > 0.85 * others, "it works {busy:.2}, others {others:.2}");
    let last = tally.answered.last().copied().expect("calls were answered");
    assert!(last > 0);
}
