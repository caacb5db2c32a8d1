//! What an operator sees of a worker.

use std::{fmt, time::Duration};

use super::{Record, Registry};
use crate::{
    health::{Cause, Health},
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
    /// Out of rotation for a while, since it fails.
    Ejected,
    /// It fails, and is in rotation since half of a service's workers must be.
    Spared,
    /// In rotation again after an ejection; one failure puts it out again.
    Trial,
}

impl Standing {
    /// One word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Stale => "stale",
            Self::Ejected => "ejected",
            Self::Spared => "spared",
            Self::Trial => "trial",
        }
    }

    /// The reason in words.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Waiting => "out of rotation: registered, its first report has not arrived",
            Self::Serving => "in rotation",
            Self::Draining => "out of rotation: finishes what it has",
            Self::Stale => "in rotation, but silent for over two heartbeats; about to be out",
            Self::Ejected => "out of rotation",
            Self::Spared => "in rotation, because at least half of the workers must be",
            Self::Trial => "in rotation on trial, the next failure puts it out again",
        }
    }
}

impl Standing {
    fn is_of_health(self) -> bool {
        matches!(self, Self::Ejected | Self::Spared | Self::Trial)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// What a worker is, or was last, put out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejected {
    /// For what.
    pub cause: Cause,
    /// Until it is tried again; zero on trial.
    pub remaining: Duration,
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
    /// While it is out for failing, or on trial after it.
    pub ejected: Option<Ejected>,
    /// How often it has been put out for failing.
    pub ejections: u32,
}

impl WorkerStatus {
    /// Why it is, or is not, in rotation, in words: for what it was put out, and when it is tried again.
    pub fn why(&self) -> String {
        let standing = self.standing.why();
        match self.ejected {
            Some(Ejected { cause, remaining }) if self.standing.is_of_health() => {
                let again = match self.standing {
                    Standing::Trial => String::new(),
                    _ => format!("; tried again in {:.1} s", remaining.as_secs_f64()),
                };
                format!("{standing}: {cause}{again}")
            }
            _ => standing.to_owned(),
        }
    }
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
        estimate: record.outstanding(),
        issued: record.counters.issued(),
        silent_for,
        registered_for: now.since(record.joined_at),
        ejected: ejected(&record.health, now),
        ejections: record.health.ejections(),
    }
}

fn ejected(health: &Health, now: Timestamp) -> Option<Ejected> {
    let out = health.out().map(|(until, cause)| Ejected { cause, remaining: until.since(now) });
    out.or_else(|| health.trial().map(|cause| Ejected { cause, remaining: Duration::ZERO }))
}

fn standing(record: &Record, silent_for: Duration, heartbeat: Duration) -> Standing {
    match record.state() {
        _ if record.drain_ordered => Standing::Draining,
        None => Standing::Waiting,
        Some(WorkerState::Draining) => Standing::Draining,
        Some(WorkerState::Serving) if record.health.is_out() => {
            let spared = record.places.iter().any(Option::is_some);
            if spared { Standing::Spared } else { Standing::Ejected }
        }
        Some(WorkerState::Serving) if silent_for > 2 * heartbeat => Standing::Stale,
        Some(WorkerState::Serving) if record.health.trial().is_some() => Standing::Trial,
        Some(WorkerState::Serving) => Standing::Serving,
    }
}
