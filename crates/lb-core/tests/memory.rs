//! What a pick and a worker cost in memory. One test, since the allocator counts for the whole process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{alloc::System, collections::BTreeMap, net::SocketAddr};

use fastrand::Rng;
use lb_core::{
    load::{Hello, LoadReport, RawLoad, TokenCounts, WorkerState},
    policy::PolicyKind,
    registry::Registry,
    snapshot::Wish,
    time::Timestamp,
    token::TokenClass,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WORKERS: u32 = 2_000;

/// Most bytes of the core for one registered worker, its place in the published list included.
const BYTES_PER_WORKER: usize = 2_048;

fn join(registry: &mut Registry, place: u32) {
    let [_, a, b, c] = place.to_be_bytes();
    let hello = Hello {
        id: format!("worker-{place}").parse().unwrap(),
        instance: 0,
        address: SocketAddr::from(([127, a, b, c], 1)),
        services: vec!["Echo".parse().unwrap()],
        slots: 4,
        zone: String::new(),
        labels: BTreeMap::new(),
        version: "0.1.0".to_owned(),
    };
    let number = registry.hello(hello, Timestamp::default()).unwrap();
    let report = LoadReport::parse(RawLoad {
        state: WorkerState::Serving,
        in_flight: 0,
        queued: 0,
        slots: 4,
        picked: TokenCounts::default(),
        session: TokenCounts::default(),
        completed_total: 0,
        errors_total: 0,
        faults_total: 0,
        in_flight_integral: 0.0,
        busy_seconds: 0.0,
        cpu: 0.0,
        memory: 0.0,
    });
    registry.report(number, report.unwrap(), Timestamp::default()).unwrap();
    while registry.poll_output().is_some() {}
}

#[test]
fn a_pick_allocates_nothing_and_a_worker_little() {
    let whole = Region::new(ALLOCATOR);
    let mut registry = Registry::new(PolicyKind::LeastLoad);
    for place in 1..=WORKERS {
        join(&mut registry, place);
    }
    let mut snapshot = registry.publish().unwrap();
    let change = whole.change();
    let bytes = change.bytes_allocated - change.bytes_deallocated;
    let per_worker = bytes / WORKERS as usize;
    println!("{per_worker} bytes per worker");
    assert!(per_worker <= BYTES_PER_WORKER, "{per_worker} bytes");

    for policy in PolicyKind::ALL {
        registry.set_policy(policy);
        snapshot = registry.publish().unwrap_or(snapshot);
        let view = snapshot.service("Echo").unwrap();
        let mut rng = Rng::with_seed(1);
        let wish = Wish { affinity: Some("user-7"), ..Wish::default() };
        let region = Region::new(ALLOCATOR);
        for _ in 0..1_000 {
            view.pick(wish, TokenClass::Picked, &mut rng).unwrap();
        }
        assert_eq!(region.change().allocations, 0, "{policy}");
    }
}
