//! What a pick costs in the core, by policy and number of workers, and what a report costs.

use std::{collections::BTreeMap, hint::black_box, net::SocketAddr, sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fastrand::Rng;
use lb_core::{
    id::WorkerNumber,
    load::{Hello, LoadReport, RawLoad, TokenCounts, WorkerState},
    policy::PolicyKind,
    registry::Registry,
    snapshot::{Snapshot, Wish},
    time::Timestamp,
    token::TokenClass,
};

const FLEETS: [u32; 3] = [10, 1_000, 100_000];

fn report(in_flight: u32, calls: u64) -> LoadReport {
    LoadReport::parse(RawLoad {
        state: WorkerState::Serving,
        in_flight,
        queued: 0,
        slots: 4,
        picked: TokenCounts::default(),
        session: TokenCounts::default(),
        completed_total: calls,
        errors_total: 0,
        in_flight_integral: 0.0,
        busy_seconds: calls as f64 * 0.05,
        cpu: 0.0,
        memory: 0.0,
    })
    .expect("a sound report")
}

fn fleet(policy: PolicyKind, count: u32) -> (Registry, Arc<Snapshot>) {
    let mut registry = Registry::new(policy);
    for place in 1..=count {
        let [_, a, b, c] = place.to_be_bytes();
        let hello = Hello {
            id: format!("w{place}").parse().expect("a sound id"),
            instance: 0,
            address: SocketAddr::from(([127, a, b, c], 1)),
            services: vec!["Echo".parse().expect("a sound name")],
            slots: 4,
            zone: String::new(),
            labels: BTreeMap::new(),
            version: String::new(),
        };
        let number = registry.hello(hello, Timestamp::default()).expect("there is room");
        // Two reports: from the second on a worker's pace is known, and its count falls between reports.
        for calls in [0, 100] {
            registry
                .report(number, report(place % 3, calls), Timestamp::default())
                .expect("it is registered");
        }
    }
    let snapshot = registry.publish().expect("workers have joined");
    (registry, snapshot)
}

fn picks(criterion: &mut Criterion) {
    for policy in PolicyKind::ALL {
        let mut group = criterion.benchmark_group(format!("pick/{policy}"));
        for count in FLEETS {
            let (_registry, snapshot) = fleet(policy, count);
            let mut rng = Rng::with_seed(1);
            let mut now = Timestamp::default();
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter(|| {
                    let view = snapshot.service("Echo").expect("it is offered");
                    now = now + Duration::from_micros(1);
                    let wish = Wish { now, ..Wish::default() };
                    let pick = view.pick(wish, TokenClass::Picked, &mut rng);
                    black_box(pick.expect("there are workers").worker.number)
                });
            });
        }
        group.finish();
    }
}

fn reports(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("report");
    for count in FLEETS {
        let (mut registry, _snapshot) = fleet(PolicyKind::LeastLoad, count);
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                turn = turn % count + 1;
                let report = report(turn % 5, 100);
                registry.report(WorkerNumber(turn), report, Timestamp::default())
            });
        });
    }
    group.finish();
}

/// One report, and the picks that come between two reports at 100,000 picks and 20,000 reports a second.
fn reports_while_picking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("report_and_5_picks");
    for count in FLEETS {
        let (mut registry, snapshot) = fleet(PolicyKind::LeastLoad, count);
        let view = snapshot.service("Echo").expect("it is offered");
        let (mut rng, mut turn, mut now) = (Rng::with_seed(1), 0, Timestamp::default());
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                turn = turn % count + 1;
                now = now + Duration::from_micros(50);
                let taken = registry.report(WorkerNumber(turn), report(turn % 5, 100), now);
                for _ in 0..5 {
                    let wish = Wish { now, ..Wish::default() };
                    let pick = view.pick(wish, TokenClass::Picked, &mut rng);
                    black_box(pick.expect("there are workers").worker.number);
                }
                taken
            });
        });
    }
    group.finish();
}

criterion_group!(benches, picks, reports, reports_while_picking);
criterion_main!(benches);
