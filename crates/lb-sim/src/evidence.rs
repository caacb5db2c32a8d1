//! The cases by which the rule of `least_load` is judged: what it must reach, and what it does where nothing can be reached.
//!
//! The tests run [`targets`]; the example `evidence` runs [`targets`] and [`known_rows`], and writes both to `docs/results`.

use std::time::Duration;

use lb_core::policy::PolicyKind;

use crate::{
    rule::Rule,
    scenario::{Calls, Machine, Reports, Scenario},
    service::Service,
};

/// The rule that is judged.
pub const JUDGED: Rule = Rule::Core(PolicyKind::LeastLoad);

/// What it is compared with where information is too old to help.
pub const BLIND: Rule = Rule::Core(PolicyKind::RoundRobin);

/// What a case demands of the 99th percentile of [`JUDGED`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// At most this many times the oracle's.
    Oracle(f64),
    /// At most this many times that of [`BLIND`].
    Blind(f64),
}

/// A case with its demand.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// What happens.
    pub scenario: Scenario,
    /// What is demanded.
    pub limit: Limit,
    /// Where the demand is not met: the ratio that is held instead.
    pub held: Option<f64>,
}

const ON_CHANGE: Reports = Reports::OnChange { interval: Duration::from_millis(20) };

fn every(milliseconds: u64) -> Reports {
    Reports::Periodic { interval: Duration::from_millis(milliseconds) }
}

fn machines(count: usize, slots: u16) -> Vec<Machine> {
    vec![Machine { slots, speed: 1.0 }; count]
}

/// Half of the machines are this much slower.
fn half_slower(count: usize, factor: f64) -> Vec<Machine> {
    let speed = |place: usize| if place < count / 2 { 1.0 } else { 1.0 / factor };
    (0..count).map(|place| Machine { slots: 1, speed: speed(place) }).collect()
}

fn case(name: impl Into<String>, load: f64, edit: impl Fn(&mut Scenario)) -> Scenario {
    let mut case = Scenario::usual();
    case.name = format!("{}, {:.0} % load", name.into(), load * 100.0);
    case.seeds = vec![11, 12, 13];
    case.length = Duration::from_secs(80);
    edit(&mut case);
    let oracle = if case.fleet.iter().any(|machine| (machine.speed - 1.0).abs() > 1e-9) {
        Rule::ShortestDelay
    } else {
        Rule::ShortestQueue
    };
    case.rules = vec![oracle, JUDGED, BLIND];
    case.set_load(load);
    case
}

fn target(scenario: Scenario, limit: f64) -> Target {
    Target { scenario, limit: Limit::Oracle(limit), held: None }
}

/// 10 workers of 4 slots, 50 ms exponential calls, and variations of it.
pub fn targets() -> Vec<Target> {
    let mut targets = vec![
        target(case("reports on change", 0.7, |_| ()), 1.03),
        target(case("reports on change", 0.9, |_| ()), 1.06),
        target(case("a report every 1 s", 0.7, |case| case.reports = every(1_000)), 1.10),
        target(case("a report every 1 s", 0.9, |case| case.reports = every(1_000)), 1.70),
    ];
    for (reports, how) in
        [(ON_CHANGE, "on change"), (every(1_000), "every 1 s"), (every(5_000), "every 5 s")]
    {
        for load in [0.7, 0.9] {
            let session = case(format!("outcomes known, reports {how}"), load, |case| {
                case.reports = reports;
                case.calls = Calls::Session;
            });
            targets.push(target(session, 1.03));
        }
    }
    let two_slow = |reports| {
        move |case: &mut Scenario| {
            case.reports = reports;
            case.fleet[0].speed = 0.5;
            case.fleet[1].speed = 0.5;
        }
    };
    targets.push(target(case("2 of 10 at half speed, on change", 0.7, two_slow(ON_CHANGE)), 1.05));
    let slow = case("2 of 10 at half speed, every 1 s", 0.7, two_slow(every(1_000)));
    // The limit is the mean over seeds. Eight fast workers alone, at the same rate, come to 1.10 as well: it is the age of the counts.
    targets.push(Target { held: Some(1.12), ..target(slow, 1.10) });
    let two = case("two balancers, every 1 s", 0.7, |case| {
        case.reports = every(1_000);
        case.balancers = 2;
    });
    targets.push(target(two, 1.10));
    let old = case("a report every 5 s", 0.9, |case| {
        case.reports = every(5_000);
        case.warm_up = Duration::from_secs(20);
    });
    targets.push(Target { limit: Limit::Blind(1.05), ..target(old, 0.0) });
    targets.extend(other_services());
    targets.extend(single_slots());
    targets
}

fn other_services() -> Vec<Target> {
    let services = [
        ("Pareto 1.5", Service::pareto(0.05, 1.5)),
        ("Pareto 2.2", Service::pareto(0.05, 2.2)),
        ("bimodal 10 % ten times longer", Service::bimodal(0.05, 0.1, 10.0)),
    ];
    let large = |(name, service)| {
        let large = case(format!("100 workers, {name}"), 0.8, |case| {
            case.service = service;
            case.fleet = machines(100, 4);
            case.length = Duration::from_secs(15);
        });
        target(large, 1.15)
    };
    services.into_iter().map(large).collect()
}

fn single_slots() -> Vec<Target> {
    let mut targets = Vec::new();
    for (count, seconds) in [(10, 200), (100, 40)] {
        for load in [0.7, 0.9, 0.95] {
            let alike = case(format!("{count} workers of 1 slot"), load, |case| {
                case.fleet = machines(count, 1);
                case.length = Duration::from_secs(seconds);
            });
            targets.push(target(alike, 1.06));
            let slower = case(format!("{count} of 1 slot, half 3 times slower"), load, |case| {
                case.fleet = half_slower(count, 3.0);
                case.length = Duration::from_secs(seconds);
            });
            targets.push(target(slower, 1.10));
        }
    }
    targets
}

/// 100 workers of one slot at 90 %: what the rule makes of less and less information.
pub fn known_rows() -> Vec<Scenario> {
    let hundred = |name: String, edit: &dyn Fn(&mut Scenario)| {
        let mut row = case(name, 0.9, |case| {
            case.fleet = machines(100, 1);
            case.length = Duration::from_secs(40);
            edit(case);
        });
        row.rules.extend([
            Rule::Core(PolicyKind::PowerOfTwo),
            Rule::Core(PolicyKind::Prequal),
            Rule::NaiveLeastLoad,
        ]);
        row
    };
    let mut rows = Vec::new();
    for (times, milliseconds) in [("0.1", 5), ("1", 50), ("10", 500), ("100", 5_000)] {
        rows.push(hundred(format!("a report every {times} service times"), &|case| {
            case.reports = every(milliseconds);
            if milliseconds == 5_000 {
                case.length = Duration::from_secs(150);
                case.warm_up = Duration::from_secs(20);
            }
        }));
    }
    for (times, microseconds) in [("0.05", 2_500), ("0.1", 5_000), ("0.5", 25_000), ("1", 50_000)] {
        rows.push(hundred(format!("outcomes after {times} service times"), &|case| {
            case.reports = every(5_000);
            case.calls = Calls::Session;
            case.outcome_delay = Duration::from_micros(microseconds);
        }));
    }
    for balancers in [2, 4] {
        rows.push(hundred(
            format!("{balancers} balancers, a report every service time"),
            &|case| {
                case.reports = every(50);
                case.balancers = balancers;
            },
        ));
    }
    rows.extend([10, 100].map(client_only));
    rows
}

/// Each client balances by itself and knows its own calls only: a balancer of its own, outcomes, and no reports.
fn client_only(clients: u32) -> Scenario {
    let mut row = case(format!("{clients} clients that balance alone"), 0.9, |case| {
        case.fleet = machines(100, 1);
        case.length = Duration::from_secs(20);
        // The first report, which says that nothing runs, is the only one.
        case.reports = every(1_000_000_000_000);
        case.calls = Calls::Session;
        case.balancers = clients;
    });
    row.seeds.truncate(1);
    row.rules = vec![Rule::ShortestQueue, JUDGED, Rule::Core(PolicyKind::PowerOfTwo)];
    row
}
