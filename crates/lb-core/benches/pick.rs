//! What a pick costs in the core, by policy and number of workers, and what a report costs.
//!
//! The fleet is at work: picks come as fast as [`LOAD`] of its capacity allows, by the clock that they are given, so counts are
//! neither empty nor endless. Figures are CPU time of the thread, waiting for memory and for another thread's writes
//! included: what else runs on the machine does not count.

use std::{
    cell::LazyCell,
    collections::BTreeMap,
    hint::black_box,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

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
use rustix::time::{ClockId, clock_gettime};

const FLEETS: [u32; 3] = [10, 1_000, 100_000];

const SLOTS: u16 = 4;

/// Time a call takes: short enough for two threads that do nothing but pick not to fill a fleet.
const CALL_SECONDS: f64 = 0.01;

/// Share of the fleet's slots that the picks keep busy.
const LOAD: f64 = 0.7;

/// Threads that pick side by side.
const THREADS: u32 = 2;

/// What the owner takes in a second while they do.
const REPORTS_PER_SECOND: f64 = 20_000.0;

/// How often the owner looks at the clock, tells the time and takes the reports that are due.
const BEAT: Duration = Duration::from_micros(500);

fn report(in_flight: u32, calls: u64) -> LoadReport {
    LoadReport::parse(RawLoad {
        state: WorkerState::Serving,
        in_flight,
        queued: 0,
        slots: SLOTS.into(),
        picked: TokenCounts::default(),
        session: TokenCounts::default(),
        completed_total: calls,
        errors_total: 0,
        faults_total: 0,
        in_flight_integral: 0.0,
        busy_seconds: calls as f64 * CALL_SECONDS,
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
            slots: SLOTS,
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

/// Moments of picks that come at [`LOAD`] of the capacity of `count` workers.
struct Clock {
    now: Duration,
    step: Duration,
}

impl Clock {
    fn new(count: u32) -> Self {
        let capacity = f64::from(count) * f64::from(SLOTS) / CALL_SECONDS;
        Self { now: Duration::ZERO, step: Duration::from_secs_f64(1.0 / (LOAD * capacity)) }
    }

    fn tick(&mut self) -> Timestamp {
        self.now += self.step;
        Timestamp::at(self.now)
    }
}

fn picks(criterion: &mut Criterion) {
    for policy in PolicyKind::ALL {
        let mut group = criterion.benchmark_group(format!("pick/{policy}"));
        for count in FLEETS {
            // Made only if the case is asked for.
            let fleet = LazyCell::new(|| fleet(policy, count));
            let mut rng = Rng::with_seed(1);
            let mut clock = Clock::new(count);
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                let (_registry, snapshot) = &*fleet;
                bencher.iter_custom(|rounds| {
                    on_cpu(rounds, || {
                        let view = snapshot.service("Echo").expect("it is offered");
                        let wish = Wish { now: clock.tick(), ..Wish::default() };
                        let pick = view.pick(wish, TokenClass::Picked, &mut rng);
                        black_box(pick.expect("there are workers").worker.number)
                    })
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
            bencher.iter_custom(|rounds| {
                on_cpu(rounds, || {
                    turn = turn % count + 1;
                    let report = report(turn % 5, 100);
                    registry.report(WorkerNumber(turn), report, Timestamp::default())
                })
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
            bencher.iter_custom(|rounds| {
                on_cpu(rounds, || {
                    turn = turn % count + 1;
                    now = now + Duration::from_micros(50);
                    let taken = registry.report(WorkerNumber(turn), report(turn % 5, 100), now);
                    for _ in 0..5 {
                        let wish = Wish { now, ..Wish::default() };
                        let pick = view.pick(wish, TokenClass::Picked, &mut rng);
                        black_box(pick.expect("there are workers").worker.number);
                    }
                    taken
                })
            });
        });
    }
    group.finish();
}

/// Two threads pick while the owner takes reports: three threads, so on fewer cores they share them.
fn picks_side_by_side(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("two_threads_and_reports");
    for policy in [PolicyKind::RoundRobin, PolicyKind::PowerOfTwo, PolicyKind::LeastLoad] {
        let (mut registry, snapshot) = fleet(policy, 100_000);
        let mut side_by_side = SideBySide::new(&mut registry, &snapshot);
        group.bench_function(BenchmarkId::from_parameter(policy), |bencher| {
            bencher.iter_custom(|picks| side_by_side.run(picks));
        });
    }
    group.finish();
}

/// The owner, and what it shares with those who pick.
struct SideBySide<'a> {
    registry: &'a mut Registry,
    snapshot: &'a Snapshot,
    started: Instant,
    /// The time as the owner told it last, in microseconds.
    now: AtomicU64,
    reports: u32,
}

impl<'a> SideBySide<'a> {
    #[expect(clippy::disallowed_methods, reason = "a benchmark stands where the daemon would")]
    fn new(registry: &'a mut Registry, snapshot: &'a Snapshot) -> Self {
        Self { registry, snapshot, started: Instant::now(), now: AtomicU64::new(0), reports: 0 }
    }

    /// Lets each thread pick so many times. Returns the CPU time that one of them took.
    fn run(&mut self, picks: u64) -> Duration {
        let (snapshot, now, done) = (self.snapshot, &self.now, AtomicBool::new(false));
        let (registry, reports, started) = (&mut *self.registry, &mut self.reports, self.started);
        thread::scope(|scope| {
            let pickers: Vec<_> = (0..THREADS)
                .map(|seed| scope.spawn(move || pick_many(snapshot, now, picks, seed.into())))
                .collect();
            let owner = scope.spawn(|| {
                let mut due = started.elapsed().as_secs_f64();
                while !done.load(Relaxed) {
                    thread::sleep(BEAT);
                    let elapsed = started.elapsed();
                    let at = Timestamp::at(elapsed);
                    now.store(u64::try_from(elapsed.as_micros()).expect("short"), Relaxed);
                    while due < at.seconds() {
                        due += 1.0 / REPORTS_PER_SECOND;
                        *reports = *reports % 100_000 + 1;
                        let report = report(*reports % 5, 100);
                        registry.report(WorkerNumber(*reports), report, at).expect("it may be");
                    }
                }
            });
            let spent: Duration =
                pickers.into_iter().map(|picker| picker.join().expect("it ends")).sum();
            done.store(true, Relaxed);
            owner.join().expect("it ends");
            spent / THREADS
        })
    }
}

/// Returns the CPU time it took.
fn pick_many(snapshot: &Snapshot, now: &AtomicU64, picks: u64, seed: u64) -> Duration {
    let mut rng = Rng::with_seed(seed);
    on_cpu(picks, || {
        let view = snapshot.service("Echo").expect("it is offered");
        let now = Timestamp::at(Duration::from_micros(now.load(Relaxed)));
        let pick = view.pick(Wish { now, ..Wish::default() }, TokenClass::Picked, &mut rng);
        pick.expect("there are workers").worker.number
    })
}

/// CPU time that this thread spends on so many rounds of the work.
fn on_cpu<Done>(rounds: u64, mut work: impl FnMut() -> Done) -> Duration {
    let before = cpu_seconds();
    for _ in 0..rounds {
        black_box(work());
    }
    Duration::from_secs_f64(cpu_seconds() - before)
}

/// CPU time of this thread.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

criterion_group!(benches, picks, reports, reports_while_picking, picks_side_by_side);
criterion_main!(benches);
