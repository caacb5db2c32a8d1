//! Workers that come and go: what the planner must reach, on fixed seeds.

use std::time::Duration;

use fastrand::Rng;
use lb_sim::{
    Fault, FaultKind, Scenario, Tally,
    evidence::JUDGED,
    run_once,
    scaling::{
        cases::{
            Case, LIMIT, LOST_AT, STEP_AT, bursts, bursty_day, lost_host, noise, quiet_day, ramp,
            scaled, step, with_rate,
        },
        compare,
    },
};

/// From the order to start a worker until it answers a call, at most.
const START: Duration = Duration::from_secs(3);
const SYNC: Duration = Duration::from_secs(15);

fn runs(scenario: &Scenario) -> Vec<Tally> {
    scenario.seeds.iter().map(|&seed| run_once(scenario, JUDGED, seed)).collect()
}

/// How many workers took calls, by time.
fn ready(tally: &Tally) -> impl Iterator<Item = (Duration, u32)> {
    tally.wanted.iter().zip(&tally.ready).map(|((at, _), ready)| (*at, *ready))
}

/// How many workers took calls just before a moment.
fn ready_before(tally: &Tally, moment: Duration) -> u32 {
    ready(tally).take_while(|(at, _)| *at < moment).last().map_or(0, |(_, ready)| ready)
}

/// Worker-hours over those of a planner that knows what is to come, at the same p99.
fn check(case: Case, seeds: usize) {
    let Case { mut scenario, held } = case;
    scenario.seeds.truncate(seeds);
    let found = compare(&scenario, JUDGED);
    assert_eq!(found.planner.failed, 0);
    assert!(found.clairvoyant.p99 <= found.planner.p99, "it is no yardstick");
    let ratio = found.ratio();
    assert!(ratio <= held.unwrap_or(LIMIT), "{}: {ratio:.3}, {found:?}", scenario.name);
}

#[test]
fn a_day_takes_little_more_than_for_one_who_knows_it() {
    check(quiet_day(), 3);
}

#[test]
fn bursts_take_more() {
    check(bursts(), 1);
}

#[test]
fn a_day_with_bursts_takes_more() {
    check(bursty_day(), 1);
}

#[test]
fn noise_of_a_fifth_for_ten_minutes_changes_nothing() {
    for seed in 21..=26 {
        let tally = run_once(&noise(seed), JUDGED, seed);
        let changed = tally.wanted.iter().find(|(_, wanted)| *wanted != 10);
        assert_eq!(changed, None, "seed {seed}");
        assert_eq!(tally.failed, 0);
    }
}

#[test]
fn a_lost_host_is_made_good_within_ten_seconds() {
    for tally in runs(&lost_host()) {
        let before = ready_before(&tally, LOST_AT);
        let after = |(at, ready): &(Duration, u32)| *at > LOST_AT && *ready >= before;
        let (again, _) = ready(&tally).find(after).unwrap();
        assert!(again <= LOST_AT + Duration::from_secs(10), "{before} workers again at {again:?}");
    }
}

#[test]
fn a_step_in_load_is_answered_by_new_workers_within_a_sync_and_a_start() {
    for times in [2.0, 3.0, 4.0] {
        for tally in runs(&step(times)) {
            let before = ready_before(&tally, STEP_AT);
            let more = |(at, ready): &(Duration, u32)| *at > STEP_AT && *ready > before;
            let (helped, _) = ready(&tally).find(more).unwrap();
            assert!(helped <= STEP_AT + SYNC + START, "times {times}: helped at {helped:?}");
        }
    }
}

#[test]
fn a_ramp_up_and_down_fails_no_call_and_does_not_flap() {
    for tally in runs(&ramp()) {
        assert_eq!((tally.failed, tally.turned_away, tally.refused_after_drain), (0, 0, 0));
        let mut wanted: Vec<_> = tally.wanted.iter().map(|(_, wanted)| *wanted).collect();
        wanted.dedup();
        let most = *wanted.iter().max().unwrap();
        let top = wanted.iter().position(|wanted| *wanted == most).unwrap();
        assert!((12..=16).contains(&most), "{wanted:?}");
        assert!(wanted[..=top].is_sorted(), "up: {wanted:?}");
        assert!(wanted[top..].iter().rev().is_sorted(), "down: {wanted:?}");
        assert!(*wanted.last().unwrap() <= 4, "{wanted:?}");
    }
}

#[test]
fn a_balancer_that_restarts_takes_nobody_away() {
    let mut scenario = with_rate(scaled("restart", 10, 300), Duration::from_secs(20), |_| 6.6);
    let (at, lasts) = (Duration::from_secs(60), Some(Duration::from_secs(3)));
    scenario.faults = vec![Fault { at, lasts, kind: FaultKind::BalancerLoss, target: 0 }];
    for tally in runs(&scenario) {
        assert!(tally.wanted.iter().all(|(_, wanted)| *wanted == 10));
        assert!(tally.ready.iter().skip(4).all(|ready| *ready == 10 || *ready == 0));
    }
}

/// Hosts, workers and the balancer come and go at random. The simulator checks the books, and the fleet is whole in the end.
#[test]
fn whatever_is_lost_the_fleet_is_whole_again() {
    for seed in 21..=40 {
        let mut rng = Rng::with_seed(seed);
        let mut scenario = with_rate(scaled("losses", 10, 200), Duration::from_secs(20), |_| 6.6);
        scenario.faults = (0..rng.usize(1..8))
            .map(|_| {
                let (kind, target) = match rng.u8(..3) {
                    0 => (FaultKind::HostLoss, rng.u32(..5)),
                    1 => (FaultKind::Crash, rng.u32(..40)),
                    _ => (FaultKind::BalancerLoss, 0),
                };
                let at = Duration::from_secs(rng.u64(10..150));
                let returns = kind == FaultKind::BalancerLoss || rng.bool();
                let lasts = returns.then(|| Duration::from_secs(rng.u64(1..20)));
                Fault { at, lasts, kind, target }
            })
            .collect();
        let tally = run_once(&scenario, JUDGED, seed);
        let lost = scenario.faults.iter().filter(|fault| fault.kind == FaultKind::HostLoss).count();
        let wanted = tally.wanted.last().map_or(0, |(_, wanted)| *wanted);
        let ready = tally.ready.last().copied().unwrap_or(0);
        assert!(wanted >= 10, "seed {seed}: {wanted} wanted");
        assert!(
            ready >= wanted.min(40 - 8 * u32::try_from(lost.min(4)).unwrap_or(4)),
            "seed {seed}: {ready} of {wanted}"
        );
    }
}
