//! What is written down while the window is open.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use anyhow::ensure;
use hdrhistogram::Histogram;
use tonic::Status;

use super::Measured;

/// Longest latency told apart, in nanoseconds: a minute.
const LONGEST: u64 = 60_000_000_000;

/// Counts and latencies of one window.
#[derive(Debug)]
pub(super) struct Recorder(Mutex<Record>);

#[derive(Debug)]
struct Record {
    window: Option<Edge>,
    closed: Option<Edge>,
    failed: u64,
    first_failure: Option<Status>,
    latencies: Histogram<u64>,
    late: Histogram<u64>,
}

/// One edge of the window.
#[derive(Debug)]
struct Edge {
    at: Instant,
    cpu: BTreeMap<String, u64>,
}

impl Recorder {
    pub(super) fn new() -> anyhow::Result<Arc<Self>> {
        let histogram = || Histogram::new_with_max(LONGEST, 3);
        Ok(Arc::new(Self(Mutex::new(Record {
            window: None,
            closed: None,
            failed: 0,
            first_failure: None,
            latencies: histogram()?,
            late: histogram()?,
        }))))
    }

    pub(super) fn open(&self, cpu: BTreeMap<String, u64>) {
        self.lock().window = Some(Edge { at: Instant::now(), cpu });
    }

    pub(super) fn close(&self, cpu: BTreeMap<String, u64>) {
        self.lock().closed = Some(Edge { at: Instant::now(), cpu });
    }

    /// Notes a call that begins now and was due at `due`.
    pub(super) fn begun(&self, due: Instant) {
        let late = nanoseconds(due);
        let mut record = self.lock();
        if record.is_open() {
            record.late.saturating_record(late);
        }
    }

    /// Notes the end of a pick or call that was due at `due`.
    pub(super) fn ended(&self, due: Instant, result: &Result<(), Status>) {
        let latency = nanoseconds(due);
        let mut record = self.lock();
        if !record.is_open() {
            return;
        }
        match result {
            Ok(()) => record.latencies.saturating_record(latency),
            Err(status) => {
                record.failed += 1;
                record.first_failure.get_or_insert_with(|| status.clone());
            }
        }
    }

    /// What the window held.
    ///
    /// # Errors
    /// When the window was never closed, or nothing ended in it.
    pub(super) fn summary(&self) -> anyhow::Result<Measured> {
        let record = self.lock();
        let (Some(from), Some(to)) = (&record.window, &record.closed) else {
            anyhow::bail!("the measurement did not end");
        };
        let count = record.latencies.len();
        ensure!(count + record.failed > 0, "nothing ended while it was measured");
        let quantile = |of: &Histogram<u64>, at| of.value_at_quantile(at) as f64 / 1e3;
        let per_one = |name: &String, used: &u64| {
            let before = from.cpu.get(name).copied().unwrap_or(0);
            used.saturating_sub(before) as f64 / 1e3 / count.max(1) as f64
        };
        let cpu_us = to.cpu.iter().map(|(name, used)| (name.clone(), per_one(name, used)));
        Ok(Measured {
            count,
            failed: record.failed,
            first_failure: record.first_failure.as_ref().map(ToString::to_string),
            per_second: count as f64 / (to.at - from.at).as_secs_f64(),
            p50_us: quantile(&record.latencies, 0.5),
            p99_us: quantile(&record.latencies, 0.99),
            late_p99_us: (!record.late.is_empty()).then(|| quantile(&record.late, 0.99)),
            cpu_us: cpu_us.collect(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn is_open(&self) -> bool {
        self.window.is_some() && self.closed.is_none()
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
