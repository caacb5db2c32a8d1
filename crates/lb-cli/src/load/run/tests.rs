//! Runs in virtual time against a target whose calls take known times.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::*;
use crate::load::{NoProbe, Sample, Shape, Spacing, WorkerReading};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Calls take the time and the end that a function of their index says, on a worker with so many
/// slots.
#[derive(Clone)]
struct Fake {
    slots: Arc<Semaphore>,
    behave: fn(u64) -> (Duration, Sample),
}

impl Fake {
    fn new(slots: usize, behave: fn(u64) -> (Duration, Sample)) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots)), behave }
    }
}

impl Target for Fake {
    async fn call(&self, index: u64) -> Sample {
        let _slot = self.slots.acquire().await.unwrap();
        let (time, sample) = (self.behave)(index);
        sleep(time).await;
        sample
    }
}

const PLENTY: usize = 1000;

fn closed(clients: usize, end: End) -> Plan {
    Plan::new("fake", Shape::Closed { clients }, end).unwrap()
}

fn open(rate_per_second: f64, end: End) -> Plan {
    let shape = Shape::Open { rate_per_second, spacing: Spacing::Constant };
    Plan::new("fake", shape, end).unwrap()
}

async fn result_of(plan: &Plan, target: Fake) -> RunResult {
    let cancel = CancellationToken::new();
    run(plan, target, NoProbe, &cancel, |_| ()).await
}

/// Equal to 0.1 %, the precision of the histogram.
fn assert_time(found_us: f64, expected: Duration) {
    let expected_us = expected.as_micros() as f64;
    assert!(
        (found_us - expected_us).abs() <= expected_us * 0.001,
        "{found_us} µs, expected {expected_us} µs"
    );
}

#[tokio::test(start_paused = true)]
async fn closed_loop_measures_what_calls_take() {
    // 1, 2, .. 200 ms.
    let target = Fake::new(PLENTY, |index| {
        let time = MILLISECOND * (u32::try_from(index).unwrap() + 1);
        (time, Sample::ok().on_worker("w1"))
    });
    let result = result_of(&closed(1, End::Requests(200)), target).await;
    assert_eq!((result.requests, result.failed()), (200, 0));
    let response = result.response.unwrap();
    assert_time(response.mean_us, Duration::from_micros(100_500));
    assert_time(response.p50_us as f64, MILLISECOND * 100);
    assert_time(response.p99_us as f64, MILLISECOND * 198);
    assert_time(response.max_us as f64, MILLISECOND * 200);
    assert!((result.elapsed_seconds - 20.1).abs() < 1e-6);
    assert!((result.throughput_per_second - 200.0 / 20.1).abs() < 1e-6);
    assert_eq!(result.pace, None);
    assert!(!result.cancelled);
}

#[tokio::test(start_paused = true)]
async fn closed_loop_keeps_every_client_busy() {
    let target = Fake::new(PLENTY, |_| (MILLISECOND * 10, Sample::ok()));
    let result = result_of(&closed(4, End::Elapsed(MILLISECOND * 100)), target).await;
    assert_eq!(result.requests, 40, "4 clients, 10 calls each");
    assert!((result.elapsed_seconds - 0.1).abs() < 1e-6);
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_at_the_end_are_awaited_and_counted() {
    let target = Fake::new(PLENTY, |_| (MILLISECOND * 70, Sample::ok()));
    let result = result_of(&closed(3, End::Elapsed(MILLISECOND * 100)), target).await;
    assert_eq!((result.requests, result.abandoned), (6, 0));
    assert!((result.elapsed_seconds - 0.14).abs() < 1e-6);
}

#[tokio::test(start_paused = true)]
async fn open_loop_counts_the_queue_in_front_of_a_slow_target() {
    // A call is due every 10 ms and takes 20 ms in the only slot: call n waits n * 10 ms.
    let target = Fake::new(1, |_| (MILLISECOND * 20, Sample::ok()));
    let result = result_of(&open(100.0, End::Requests(100)), target).await;
    let response = result.response.unwrap();
    assert_time(response.max_us as f64, MILLISECOND * (99 * 10 + 20));
    assert_time(response.mean_us, MILLISECOND * 515);
    assert_time(response.p50_us as f64, MILLISECOND * (49 * 10 + 20));
    let pace = result.pace.unwrap();
    assert!(pace.kept, "the generator itself was in time: {pace:?}");
    assert_eq!((pace.starts, pace.late_starts), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn open_loop_says_when_it_was_held_up_by_its_own_limit() {
    // 10,000 calls fill the limit in one second; the rest wait for the first to end after 5 s.
    let target = Fake::new(100_000, |_| (Duration::from_secs(5), Sample::ok()));
    let result = result_of(&open(10_000.0, End::Requests(10_100)), target.clone()).await;
    let pace = result.pace.unwrap();
    assert_eq!(pace.late_starts, 100);
    assert!(pace.held_starts > 0 && pace.kept, "1 % is allowed: {pace:?}");
    // Due after 1 s, begun after 5 s, ended after 10 s: the wait counts.
    assert_time(result.response.unwrap().max_us as f64, Duration::from_secs(9));
    let result = result_of(&open(10_000.0, End::Requests(10_200)), target).await;
    assert!(result.pace.unwrap().was_held());
    assert_eq!(
        (result.response, result.pick),
        (None, None),
        "nobody can tell whose times they are"
    );
}

#[tokio::test(start_paused = true)]
async fn open_loop_says_when_the_generator_was_too_slow() {
    let target = Fake::new(PLENTY, |_| (MILLISECOND, Sample::ok()));
    let plan = open(1000.0, End::Requests(1000));
    let stalled = Stalling(target);
    let cancel = CancellationToken::new();
    let result = run(&plan, stalled, NoProbe, &cancel, |_| ()).await;
    let pace = result.pace.unwrap();
    assert!(!pace.kept, "{pace:?}");
    assert!((90..=100).contains(&pace.late_starts), "{pace:?}");
    assert_eq!(pace.held_starts, 0);
    assert!(!pace.was_held());
    assert_eq!((result.requests, result.response), (1000, None), "its times are not the target's");
    assert_eq!(result.response_cdf, []);
}

/// Stands for a machine that stops for 100 ms at call 50.
#[derive(Clone)]
struct Stalling(Fake);

impl Target for Stalling {
    async fn call(&self, index: u64) -> Sample {
        if index == 50 {
            tokio::time::advance(MILLISECOND * 100).await;
        }
        self.0.call(index).await
    }
}

#[tokio::test(start_paused = true)]
async fn open_loop_ends_after_its_time() {
    let target = Fake::new(PLENTY, |_| (MILLISECOND, Sample::ok()));
    let result = result_of(&open(50.0, End::Elapsed(Duration::from_secs(2))), target).await;
    assert_eq!(result.requests, 100);
    let pace = result.pace.unwrap();
    assert!((pace.intended_per_second - 50.0).abs() < f64::EPSILON);
    assert!((49.0..52.0).contains(&pace.achieved_per_second), "{pace:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_reports_what_was_done() {
    for plan in [closed(2, End::Requests(1000)), open(200.0, End::Requests(1000))] {
        let cancel = CancellationToken::new();
        tokio::spawn({
            let cancel = cancel.clone();
            async move {
                sleep(MILLISECOND * 105).await;
                cancel.cancel();
            }
        });
        let target = Fake::new(PLENTY, |_| (MILLISECOND * 10, Sample::ok()));
        let result = run(&plan, target, NoProbe, &cancel, |_| ()).await;
        assert!(result.cancelled);
        assert!((19..=20).contains(&result.requests), "{}", result.requests);
        assert_eq!(result.abandoned, 2);
        assert!((result.elapsed_seconds - 0.105).abs() < 1e-6);
        assert_time(result.response.unwrap().max_us as f64, MILLISECOND * 10);
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_after_the_last_call_changes_nothing() {
    let cancel = CancellationToken::new();
    let last = cancel.clone();
    let target = Fake::new(PLENTY, |_| (MILLISECOND, Sample::ok()));
    let plan = closed(1, End::Requests(3));
    let result = run(&plan, target, NoProbe, &cancel, move |progress| {
        if progress.done == 3 {
            last.cancel();
        }
    })
    .await;
    assert_eq!((result.requests, result.cancelled), (3, false));
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_by_status_and_have_no_response_time() {
    let target = Fake::new(PLENTY, |index| match index % 4 {
        0 => (MILLISECOND * 900, Sample::failed("UNAVAILABLE")),
        1 => {
            let sample = Sample::failed("RESOURCE_EXHAUSTED").on_worker("w2");
            (MILLISECOND * 800, sample)
        }
        _ => {
            let sample = Sample::ok().on_worker("w1");
            let sample = sample.with_pick(MILLISECOND / 2);
            (MILLISECOND * 5, sample.with_server_times(MILLISECOND, MILLISECOND * 4))
        }
    });
    let result = result_of(&closed(8, End::Requests(40)), target).await;
    assert_eq!(result.failures["UNAVAILABLE"], 10);
    assert_eq!(result.failures["RESOURCE_EXHAUSTED"], 10);
    assert_eq!(result.failed(), 20);
    assert_time(result.response.unwrap().max_us as f64, MILLISECOND * 5);
    assert_time(result.pick.unwrap().mean_us, MILLISECOND / 2);
    assert_time(result.queued.unwrap().mean_us, MILLISECOND);
    assert_time(result.service.unwrap().mean_us, MILLISECOND * 4);
    let counts = |worker: &crate::load::WorkerUse| (worker.requests, worker.failures);
    assert_eq!(counts(&result.workers[0]), (20, 0));
    assert_eq!(counts(&result.workers[1]), (10, 10));
    assert!((result.workers[0].share - 2.0 / 3.0).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn progress_grows_to_the_total() {
    let mut seen = Vec::new();
    let target = Fake::new(PLENTY, |index| match index {
        3 => (MILLISECOND, Sample::failed("INTERNAL")),
        _ => (MILLISECOND, Sample::ok()),
    });
    let cancel = CancellationToken::new();
    let plan = closed(2, End::Requests(10));
    run(&plan, target, NoProbe, &cancel, |progress| {
        seen.push(progress);
    })
    .await;
    assert!(seen.is_sorted_by_key(|progress| progress.done));
    let last = seen.last().unwrap();
    assert_eq!((last.done, last.total, last.failures), (10, Some(10), 1));
    assert!((last.fraction - 1.0).abs() < f64::EPSILON);
}

/// Two workers: one with two of its four slots busy all the time, one idle.
struct TwoWorkers(Instant);

impl Probe for TwoWorkers {
    async fn read(&mut self) -> Vec<WorkerReading> {
        let reading = |worker_id: &str, busy_slots: u32| WorkerReading {
            worker_id: worker_id.to_owned(),
            slots: 4,
            in_flight: busy_slots,
            busy_slots,
            cpu: 0.25,
            busy_seconds: 7.0 + self.0.elapsed().as_secs_f64() * f64::from(busy_slots),
            age: Duration::ZERO,
        };
        vec![reading("w1", 2), reading("w2", 0)]
    }
}

#[tokio::test(start_paused = true)]
async fn workers_are_listed_with_their_use_even_when_idle() {
    let target = Fake::new(PLENTY, |_| (MILLISECOND * 10, Sample::ok().on_worker("w1")));
    let plan = closed(2, End::Elapsed(Duration::from_secs(1)));
    let cancel = CancellationToken::new();
    let result = run(&plan, target, TwoWorkers(Instant::now()), &cancel, |_| ()).await;
    assert_eq!(result.workers.len(), 2);
    assert_eq!(result.workers[0].slots, Some(4));
    assert!((result.workers[0].utilisation.unwrap() - 0.5).abs() < 1e-6);
    assert!((result.workers[0].share - 1.0).abs() < 1e-9);
    assert_eq!(result.workers[1].requests, 0);
    assert!(result.workers[1].utilisation.unwrap().abs() < 1e-9);
    assert!(result.utilisation.len() >= 2 * 5, "start, ticks, end");
    let json = serde_json::to_string(&result).unwrap();
    assert_eq!(serde_json::from_str::<RunResult>(&json).unwrap(), result);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "a broken target")]
async fn a_panic_in_a_call_is_not_swallowed() {
    let target = Fake::new(PLENTY, |_| panic!("a broken target"));
    result_of(&closed(1, End::Requests(1)), target).await;
}
