//! What an operator sees of a worker.

use std::{fmt, time::Duration};

use super::{Record, Registry};
use crate::{
    id::WorkerNumber,
    load::{Hello, LoadReport, WorkerState},
    time::Timestamp,
};

/// Whether a worker is in rotation, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Registered, has not reported yet.
    Waiting,
    /// In rotation.
    Serving,
    /// Out of rotation by its own wish or by order.
    Draining,
    /// In rotation, but its last report is older than two heartbeats.
    Stale,
}

impl Standing {
    /// One word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Stale => "stale",
        }
    }

    /// The reason in words.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Waiting => "out of rotation: registered, its first report has not arrived",
            Self::Serving => "in rotation",
            Self::Draining => "out of rotation: finishes what it has",
            Self::Stale => "in rotation, but silent for over two heartbeats; out after three",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// One worker as the registry sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerStatus {
    /// Number of its registration.
    pub number: WorkerNumber,
    /// Who it is.
    pub hello: Hello,
    /// Whether it is in rotation.
    pub standing: Standing,
    /// Calls it runs at once.
    pub slots: u16,
    /// Its last report.
    pub report: Option<LoadReport>,
    /// Calls inside it and on their way to it.
    pub estimate: u32,
    /// Picks issued to it since it registered.
    pub issued: u64,
    /// Time since it was last heard.
    pub silent_for: Duration,
    /// Time since it registered.
    pub registered_for: Duration,
}

impl Registry {
    /// All workers, in the order of ids.
    pub fn workers(&self, now: Timestamp) -> impl Iterator<Item = WorkerStatus> {
        self.by_id
            .values()
            .map(move |number| status(*number, &self.workers[number], self.heartbeat, now))
    }
}

fn status(
    number: WorkerNumber,
    record: &Record,
    heartbeat: Duration,
    now: Timestamp,
) -> WorkerStatus {
    let silent_for = now.since(record.heard_at);
    WorkerStatus {
        number,
        hello: record.hello.clone(),
        standing: standing(record, silent_for, heartbeat),
        slots: record.slots(),
        report: record.report,
        estimate: record.counters.estimate(),
        issued: record.counters.issued(),
        silent_for,
        registered_for: now.since(record.joined_at),
    }
}

fn standing(record: &Record, silent_for: Duration, heartbeat: Duration) -> Standing {
    match record.state() {
        _ if record.drain_ordered => Standing::Draining,
        None => Standing::Waiting,
        Some(WorkerState::Draining) => Standing::Draining,
        Some(WorkerState::Serving) if silent_for > 2 * heartbeat => Standing::Stale,
        Some(WorkerState::Serving) => Standing::Serving,
    }
}
