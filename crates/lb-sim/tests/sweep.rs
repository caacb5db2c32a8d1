//! Many small runs with faults. Every run checks the world's and the core's invariants, and that the balancers' books agree with the
//! truth when all has come to rest. `LB_SIM_SEED=n` runs one seed again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{env, time::Duration};

use fastrand::Rng;
use lb_core::policy::PolicyKind;
use lb_sim::{
    Arrivals, Calls, Fault, FaultKind, Machine, Reports, Rule, Scenario, Service, Tally, run_once,
};

const SEEDS: u64 = 240;

fn milliseconds(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

fn scenario(rng: &mut Rng) -> (Scenario, Rule) {
    let fleet = (0..rng.usize(1..12))
        .map(|_| Machine { slots: rng.u16(1..6), speed: [0.3, 1.0, 1.0, 2.0][rng.usize(..4)] });
    let mut scenario = Scenario {
        name: "sweep".to_owned(),
        fleet: fleet.collect(),
        balancers: rng.u32(1..4),
        length: Duration::from_secs(20),
        warm_up: Duration::ZERO,
        calls: if rng.bool() { Calls::Session } else { Calls::OneShot },
        service: [
            Service::Exponential(0.03),
            Service::Constant(0.03),
            Service::bimodal(0.03, 0.1, 10.0),
            Service::pareto(0.03, 2.2),
        ][rng.usize(..4)],
        network_delay: Duration::from_micros(rng.u64(0..20_000)),
        outcome_delay: Duration::from_micros(rng.u64(0..20_000)),
        reports: match rng.u8(..3) {
            0 => Reports::Periodic { interval: milliseconds(rng, 5..1_000) },
            _ => Reports::OnChange { interval: milliseconds(rng, 0..50) },
        },
        ..Scenario::usual()
    };
    if rng.bool() {
        let load = 0.2 + 0.5 * rng.f64();
        scenario.set_load(load);
    } else {
        scenario.arrivals =
            Arrivals::Closed { clients: rng.u32(1..30), think: milliseconds(rng, 0..50) };
    }
    scenario.faults = (0..rng.usize(..6)).map(|_| fault(rng, &scenario)).collect();
    let policies = PolicyKind::ALL.map(Rule::Core);
    let rules: Vec<_> = policies.into_iter().chain(Rule::YARDSTICKS).collect();
    (scenario, *rng.choice(&rules).unwrap())
}

fn fault(rng: &mut Rng, scenario: &Scenario) -> Fault {
    let kinds = [
        FaultKind::Crash,
        FaultKind::Freeze,
        FaultKind::Drain,
        FaultKind::Join,
        FaultKind::BalancerLoss,
    ];
    let kind = kinds[rng.usize(..5)];
    let targets = match kind {
        FaultKind::BalancerLoss => scenario.balancers,
        _ => u32::try_from(scenario.fleet.len()).unwrap(),
    };
    let lasts = milliseconds(rng, 0..8_000);
    // What freezes for good keeps its calls for good, and nothing comes to rest.
    let lasts = (kind == FaultKind::Freeze || rng.bool()).then_some(lasts);
    Fault { at: milliseconds(rng, 0..18_000), lasts, kind, target: rng.u32(..targets) }
}

/// Drains alone, on a fleet that keeps somebody, cost no call.
fn check_drains(scenario: &Scenario, rule: Rule, tally: &Tally) {
    let kinds = |kind| scenario.faults.iter().any(|fault| fault.kind == kind);
    let harmless = !kinds(FaultKind::Crash)
        && !kinds(FaultKind::Freeze)
        && !kinds(FaultKind::Join)
        && !kinds(FaultKind::BalancerLoss);
    if harmless && matches!(rule, Rule::Core(_)) {
        assert_eq!(tally.refused_after_drain, 0, "a drained worker waits for what is on its way");
    }
    if scenario.faults.is_empty() {
        assert_eq!(tally.failed + tally.unfinished, 0, "nothing went wrong, so no call fails");
    }
}

fn replay(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let (scenario, rule) = scenario(&mut rng);
    let tally = run_once(&scenario, rule, seed);
    assert!(tally.offered > 0);
    check_drains(&scenario, rule, &tally);
    let again = run_once(&scenario, rule, seed);
    assert!(tally.latencies == again.latencies, "one seed gives one run");
}

#[test]
fn every_seed_keeps_the_invariants() {
    if let Ok(seed) = env::var("LB_SIM_SEED") {
        return replay(seed.parse().unwrap());
    }
    let failed: Vec<_> =
        (0..SEEDS).filter(|&seed| std::panic::catch_unwind(|| replay(seed)).is_err()).collect();
    assert!(failed.is_empty(), "LB_SIM_SEED=n shows one of these: {failed:?}");
}
