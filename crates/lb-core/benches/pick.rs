//! What a pick costs in the core, by policy and number of workers, and what a report costs.

use std::{collections::BTreeMap, hint::black_box, net::SocketAddr, sync::Arc};

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

fn report(in_flight: u32) -> LoadReport {
    LoadReport::parse(RawLoad {
        state: WorkerState::Serving,
        in_flight,
        queued: 0,
        slots: 4,
        picked: TokenCounts::default(),
        session: TokenCounts::default(),
        completed_total: 0,
        errors_total: 0,
        in_flight_integral: 0.0,
        busy_seconds: 0.0,
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
        registry.report(number, report(place % 3), Timestamp::default()).expect("it is registered");
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
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter(|| {
                    let view = snapshot.service("Echo").expect("it is offered");
                    let pick = view.pick(Wish::default(), TokenClass::Session, &mut rng);
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
                let report = report(turn % 5);
                registry.report(WorkerNumber(turn), report, Timestamp::default())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, picks, reports);
criterion_main!(benches);
