//! What is to be measured, checked: everything in range, nothing that contradicts something else.
//!
//! A value comes from a flag, else from the file, else it has a default. Whatever is wrong with it is
//! said with the place it came from: file and line, or the flag.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use lb_core::policy::PolicyKind;

use crate::{
    fleet::WorkerPlan,
    load::{End, Plan, PlanError, RateChange, Shape, Spacing},
    workload::{Distribution, Task},
};

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScenarioError {
    /// Neither a name nor a file.
    #[error(
        "no scenario {name:?}: expected a file ending in .toml, or one of {}",
        super::source::BUILT_IN.map(|(name, _)| name).join(", ")
    )]
    Unknown { name: String },
    /// The file cannot be read.
    #[error("cannot read the scenario {path}: {source}")]
    Read { path: String, source: std::io::Error },
    /// The file is something else.
    #[error("the scenario {path} has {length} bytes: expected at most 1 MiB")]
    Length { path: String, length: u64 },
    /// A key or a value is not acceptable.
    #[error("{place}: {message}")]
    Refused { place: String, message: String },
    /// A flag is not acceptable.
    #[error("{0}")]
    Flag(String),
}

/// Who calls, and when.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Calls {
    /// A fixed number of clients, one call after the other.
    Closed { clients: usize },
    /// A rate, which may change.
    Open { rate_per_second: f64, changes: Vec<RateChange> },
}

/// Something that happens to a worker in the middle of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// Since the run began.
    pub(crate) at: Duration,
    pub(crate) what: Happening,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Happening {
    /// The process is killed.
    Kill(String),
    /// The process is told to stop, and drains.
    Stop(String),
    /// A worker is started.
    Add(WorkerPlan),
}

/// A checked scenario.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) workers: Vec<WorkerPlan>,
    pub(crate) task: Task,
    pub(crate) distribution: Distribution,
    pub(crate) calls: Calls,
    pub(crate) end: End,
    pub(crate) policies: Vec<PolicyKind>,
    pub(crate) repeats: u64,
    pub(crate) warm_up: u64,
    pub(crate) seed: u64,
    /// In order.
    pub(crate) events: Vec<Event>,
    /// When the one run begins, on several machines at once.
    pub(crate) start_at: Option<SystemTime>,
}

/// Most clients that warm up at once: enough to reach every worker.
const WARM_UP_CLIENTS: usize = 64;

/// Readings of the workers in a run of the expected length.
const READINGS: u32 = 30;

/// Bounds of the time between two readings: workers report changes every 20 ms, and a shorter time would show
/// the difference.
const READING_INTERVALS: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(1));

impl Scenario {
    /// The plan of one run. Repeats differ in their arrivals, the policies of one repeat do not.
    pub(crate) fn plan(&self, policy: PolicyKind, repeat: u64) -> Result<Plan, PlanError> {
        let seed = self.seed_of(repeat);
        let (shape, changes) = match &self.calls {
            Calls::Closed { clients } => (Shape::Closed { clients: *clients }, Vec::new()),
            Calls::Open { rate_per_second, changes } => {
                let spacing = Spacing::Poisson { seed };
                (Shape::Open { rate_per_second: *rate_per_second, spacing }, changes.clone())
            }
        };
        let plan = Plan::new(policy.name(), shape, self.end)?
            .with_rate_changes(changes)?
            .with_reading_interval(self.reading_interval())?;
        Ok(if self.start_at.is_some() { plan.with_counts() } else { plan })
    }

    /// The calls before a run that are not counted.
    pub(crate) fn warm_up_plan(&self) -> Result<Option<Plan>, PlanError> {
        if self.warm_up == 0 {
            return Ok(None);
        }
        let wanted = match self.calls {
            Calls::Closed { clients } => clients.min(WARM_UP_CLIENTS),
            Calls::Open { .. } => WARM_UP_CLIENTS,
        };
        let clients = usize::try_from(self.warm_up).map_or(wanted, |calls| calls.min(wanted));
        Plan::new("warm-up", Shape::Closed { clients }, End::Requests(self.warm_up)).map(Some)
    }

    pub(crate) fn seed_of(&self, repeat: u64) -> u64 {
        self.seed.wrapping_add(repeat)
    }

    fn reading_interval(&self) -> Duration {
        let expected = match self.end {
            End::Elapsed(time) => time,
            End::Requests(requests) => {
                let slots: u32 = self.workers.iter().map(|worker| worker.slots).sum();
                let task = self.task.mean().unwrap_or_default();
                task.mul_f64(requests as f64 / f64::from(slots.max(1)))
            }
        };
        (expected / READINGS).clamp(READING_INTERVALS.0, READING_INTERVALS.1)
    }

    /// The scenario as part of a result.
    pub(crate) fn settings(&self) -> Value {
        let worker = |worker: &WorkerPlan| {
            let WorkerPlan { id, slots, queue, slowdown } = worker;
            json!({ "id": id, "slots": slots, "queue": queue, "slowdown": slowdown })
        };
        let calls = match &self.calls {
            Calls::Closed { clients } => json!({ "clients": clients }),
            Calls::Open { rate_per_second, changes } => {
                let changes = changes.iter().map(|change| {
                    json!({ "at_seconds": change.at.as_secs_f64(), "rate": change.rate_per_second })
                });
                json!({ "rate": rate_per_second, "phases": changes.collect::<Vec<_>>() })
            }
        };
        let end = match self.end {
            End::Requests(requests) => json!({ "requests": requests }),
            End::Elapsed(time) => json!({ "seconds": time.as_secs_f64() }),
        };
        let events = self.events.iter().map(|event| {
            let what = event.what.describe();
            json!({ "at_seconds": event.at.as_secs_f64(), "what": what })
        });
        json!({
            "workers": self.workers.iter().map(worker).collect::<Vec<_>>(),
            "task": self.task.to_string(),
            "distribution": self.distribution,
            "calls": calls,
            "end": end,
            "policies": self.policies.iter().map(|policy| policy.name()).collect::<Vec<_>>(),
            "repeats": self.repeats,
            "warm_up": self.warm_up,
            "seed": self.seed,
            "events": events.collect::<Vec<_>>(),
        })
    }
}

impl Happening {
    /// In words, as after "at 3s".
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Kill(id) => format!("{id} is killed"),
            Self::Stop(id) => format!("{id} is told to stop"),
            Self::Add(worker) => format!("{} with {} slots is added", worker.id, worker.slots),
        }
    }
}
