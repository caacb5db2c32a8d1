//! How busy the workers are while a run goes on.
//!
//! A [`Probe`] reads what the workers say of themselves at the start, at an interval and at the end.
//! Utilisation comes from their counters of busy time, not from the moments at which they were
//! looked at: a sample every quarter of a second says little about calls of ten milliseconds.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::result::UtilisationSample;

/// Longest wait for one reading. A balancer that is gone must not hold up the result.
const READING_TIMEOUT: Duration = Duration::from_secs(1);

/// Most samples kept. At the limit every second reading is forgotten and the interval doubles, so
/// that a long run has a coarser curve and not a shorter one.
const MAX_SAMPLES: usize = 20_000;

/// Reads what the workers say of themselves, such as by `Admin.ListWorkers`.
pub trait Probe: Send + 'static {
    /// One reading of all workers. Empty when they could not be asked.
    fn read(&mut self) -> impl Future<Output = Vec<WorkerReading>> + Send;
}

/// Reads nothing: for targets without workers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProbe;

impl Probe for NoProbe {
    async fn read(&mut self) -> Vec<WorkerReading> {
        Vec::new()
    }
}

/// What one worker says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerReading {
    /// The worker's id.
    pub worker_id: String,
    /// Calls it runs at once.
    pub slots: u32,
    /// Calls inside it, running and queued.
    pub in_flight: u32,
    /// Calls running.
    pub busy_slots: u32,
    /// Part of its machine's CPU in use, 0 to 1.
    pub cpu: f64,
    /// Integral of running calls over time since the worker started, in slot-seconds. Starts again
    /// from 0 when the worker does.
    pub busy_seconds: f64,
}

/// What is known of one worker so far.
#[derive(Debug, Clone)]
struct Counters {
    slots: u32,
    last_busy_seconds: f64,
    last_at: Instant,
    /// Since the first reading, in slot-seconds.
    busy: f64,
    /// Slots times the time watched, in slot-seconds.
    possible: f64,
}

/// Follows the workers over one run.
#[derive(Debug)]
pub(super) struct Usage<P> {
    probe: P,
    started: Instant,
    interval: Duration,
    counters: BTreeMap<String, Counters>,
    samples: Vec<UtilisationSample>,
}

/// What was seen of the workers, once the run is over.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Slots and mean utilisation by worker id.
    pub(super) workers: BTreeMap<String, (u32, Option<f64>)>,
    pub(super) samples: Vec<UtilisationSample>,
}

impl<P: Probe> Usage<P> {
    /// Takes the first reading, before any call is made.
    pub(super) async fn begin(probe: P, interval: Duration) -> Self {
        let mut usage = Self {
            probe,
            started: Instant::now(),
            interval,
            counters: BTreeMap::new(),
            samples: Vec::new(),
        };
        usage.read().await;
        usage
    }

    /// Reads at the interval until `finished`, then once more.
    pub(super) async fn follow(mut self, finished: CancellationToken) -> Seen {
        loop {
            tokio::select! {
                biased;
                () = finished.cancelled() => break,
                () = sleep(self.interval) => self.read().await,
            }
        }
        self.read().await;
        self.seen()
    }

    async fn read(&mut self) {
        let Ok(readings) = timeout(READING_TIMEOUT, self.probe.read()).await else {
            return;
        };
        let now = Instant::now();
        for reading in readings {
            self.note(reading, now);
        }
        if self.samples.len() > MAX_SAMPLES {
            self.thin_out();
        }
    }

    fn note(&mut self, reading: WorkerReading, now: Instant) {
        let counters = self.counters.entry(reading.worker_id.clone()).or_insert(Counters {
            slots: reading.slots,
            last_busy_seconds: reading.busy_seconds,
            last_at: now,
            busy: 0.0,
            possible: 0.0,
        });
        let utilisation = counters.advance(&reading, now);
        self.samples.push(UtilisationSample {
            at_seconds: now.duration_since(self.started).as_secs_f64(),
            worker_id: reading.worker_id,
            slots: reading.slots,
            in_flight: reading.in_flight,
            busy_slots: reading.busy_slots,
            utilisation,
            cpu: reading.cpu,
        });
    }

    /// Forgets every second sample of each worker.
    fn thin_out(&mut self) {
        let mut keep: BTreeMap<String, bool> = BTreeMap::new();
        self.samples.retain(|sample| {
            let kept = keep.entry(sample.worker_id.clone()).or_insert(false);
            *kept = !*kept;
            *kept
        });
        self.interval *= 2;
    }

    fn seen(self) -> Seen {
        let workers = self.counters.into_iter();
        Seen {
            workers: workers
                .map(|(id, counters)| (id, (counters.slots, counters.utilisation())))
                .collect(),
            samples: self.samples,
        }
    }
}

impl Counters {
    /// Takes in one more reading; answers the utilisation since the last.
    fn advance(&mut self, reading: &WorkerReading, now: Instant) -> Option<f64> {
        // A counter that fell belongs to a worker that restarted: what it shows is all new.
        let busy = if reading.busy_seconds >= self.last_busy_seconds {
            reading.busy_seconds - self.last_busy_seconds
        } else {
            reading.busy_seconds
        };
        let possible = now.duration_since(self.last_at).as_secs_f64() * f64::from(reading.slots);
        self.slots = reading.slots;
        self.last_busy_seconds = reading.busy_seconds;
        self.last_at = now;
        self.busy += busy;
        self.possible += possible;
        part(busy, possible)
    }

    fn utilisation(&self) -> Option<f64> {
        part(self.busy, self.possible)
    }
}

/// The worker's report and our clock are some milliseconds apart, hence the upper bound.
fn part(busy: f64, possible: f64) -> Option<f64> {
    (possible > 0.0).then(|| (busy / possible).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(slots: u32, busy_seconds: f64) -> WorkerReading {
        WorkerReading {
            worker_id: "w1".to_owned(),
            slots,
            in_flight: 3,
            busy_slots: 2,
            cpu: 0.5,
            busy_seconds,
        }
    }

    /// Two of four slots are always busy; the worker restarts after the third reading.
    struct HalfBusy {
        born: Instant,
        readings: u32,
    }

    impl Probe for HalfBusy {
        async fn read(&mut self) -> Vec<WorkerReading> {
            self.readings += 1;
            if self.readings == 4 {
                self.born = Instant::now() - Duration::from_millis(100);
            }
            vec![reading(4, self.born.elapsed().as_secs_f64() * 2.0)]
        }
    }

    #[tokio::test(start_paused = true)]
    async fn utilisation_comes_from_the_counters() {
        let probe = HalfBusy { born: Instant::now() - Duration::from_secs(1000), readings: 0 };
        let usage = Usage::begin(probe, Duration::from_millis(100)).await;
        let finished = CancellationToken::new();
        let following = tokio::spawn(usage.follow(finished.clone()));
        tokio::time::sleep(Duration::from_millis(950)).await;
        finished.cancel();
        let seen = following.await.unwrap();
        let (slots, utilisation) = seen.workers["w1"];
        assert_eq!(slots, 4);
        assert!((utilisation.unwrap() - 0.5).abs() < 1e-9, "{utilisation:?} despite the restart");
        assert_eq!(seen.samples.len(), 11, "start, nine ticks, end");
        assert_eq!(seen.samples[0].utilisation, None);
        assert!((seen.samples[10].at_seconds - 0.95).abs() < 1e-9);
    }

    /// Never answers.
    struct Silent;

    impl Probe for Silent {
        async fn read(&mut self) -> Vec<WorkerReading> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_probe_holds_nothing_up() {
        let begun = Instant::now();
        let usage = Usage::begin(Silent, Duration::from_millis(100)).await;
        let finished = CancellationToken::new();
        finished.cancel();
        let seen = usage.follow(finished).await;
        assert_eq!(begun.elapsed(), READING_TIMEOUT * 2);
        assert!(seen.workers.is_empty() && seen.samples.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_run_keeps_every_second_sample() {
        let mut usage = Usage::begin(NoProbe, Duration::from_millis(100)).await;
        for index in 0..=MAX_SAMPLES {
            usage.note(reading(1, index as f64), Instant::now());
        }
        usage.thin_out();
        assert_eq!(usage.samples.len(), MAX_SAMPLES / 2 + 1);
        assert_eq!(usage.interval, Duration::from_millis(200));
    }
}
