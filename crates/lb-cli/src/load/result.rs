//! What a run hands back; everything that is shown or saved is made from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::histogram::{CdfPoint, ResponseTimes};
use super::merge::Counts;
use super::phases::PhaseResult;

/// One run, finished or cancelled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Name of the run: the policy, where policies are compared.
    pub name: String,
    /// How the calls were made, in words.
    pub load: String,
    /// From the first call to the end of the last.
    pub elapsed_seconds: f64,
    /// Calls that ended, well or badly.
    pub requests: u64,
    /// Of those, how many failed, by the name of their status.
    pub failures: BTreeMap<String, u64>,
    /// The run was cancelled before its end.
    pub cancelled: bool,
    /// Calls dropped in flight when the run was cancelled. They count nowhere else.
    pub abandoned: u64,
    /// Calls answered well, per second of the run.
    pub throughput_per_second: f64,
    /// Response times of the calls answered well; `None` when there was none, or when the generator
    /// did not keep the rate: then they would be its own and not the system's.
    pub response: Option<ResponseTimes>,
    /// Their distribution, for plotting. Empty when there was none.
    pub response_cdf: Vec<CdfPoint>,
    /// Time the calls waited for a worker to be picked, as far as the target told. A part of the
    /// response time, and left out with it.
    #[serde(default)]
    pub pick: Option<ResponseTimes>,
    /// Time the calls waited in the worker for a slot, as far as workers told.
    pub queued: Option<ResponseTimes>,
    /// Time they spent in the slot, as far as workers told.
    pub service: Option<ResponseTimes>,
    /// All those times, to be merged with those of other machines; left out where nobody merges them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// What each worker did, ordered by id.
    pub workers: Vec<WorkerUse>,
    /// How busy the workers were, over time.
    pub utilisation: Vec<UtilisationSample>,
    /// Of an open loop whose rate changed: what became of the calls at each rate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseResult>,
    /// Of an open loop: whether the generator kept its rate.
    pub pace: Option<Pace>,
}

impl RunResult {
    /// How many calls failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// What one worker did in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerUse {
    /// The worker's id.
    pub worker_id: String,
    /// Calls it runs at once, if that is known.
    pub slots: Option<u32>,
    /// Calls of this run that ended there, well or badly.
    pub requests: u64,
    /// Of those, how many failed.
    pub failures: u64,
    /// Its part of the calls that reached a worker, 0 to 1.
    pub share: f64,
    /// Mean part of its slots that was in use, 0 to 1, by its own count of busy time; `None` when
    /// it was not read at least twice.
    pub utilisation: Option<f64>,
}

/// How busy one worker was at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UtilisationSample {
    /// Since the run began.
    pub at_seconds: f64,
    /// The worker's id.
    pub worker_id: String,
    /// Calls it runs at once.
    pub slots: u32,
    /// Calls inside it, running and queued.
    pub in_flight: u32,
    /// Calls running.
    pub busy_slots: u32,
    /// Mean part of its slots in use since the sample before, 0 to 1, by its own count of busy
    /// time: smoother than `busy_slots`, and nothing falls between two readings. `None` at first.
    pub utilisation: Option<f64>,
    /// Part of its machine's CPU in use, 0 to 1.
    pub cpu: f64,
}

/// How well an open loop kept its rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// The rate asked for, in calls/s.
    pub intended_per_second: f64,
    /// The rate at which calls were really begun, in calls/s.
    pub achieved_per_second: f64,
    /// Calls begun.
    pub starts: u64,
    /// Of those, begun more than 5 ms after they were due.
    pub late_starts: u64,
    /// Calls that were due while too many were outstanding, and had to wait.
    pub held_starts: u64,
    /// How long after its due time a call was begun. Up to 1 ms is the resolution of the timer.
    pub start_delay: Option<ResponseTimes>,
    /// False when more than 1 % of the calls were begun late.
    pub kept: bool,
}

impl Pace {
    /// Whether so many calls were outstanding that the generator would begin no more. A target that is
    /// slow does that, and so does a generator that is too busy to see answers: nobody can tell which.
    pub fn was_held(&self) -> bool {
        !self.kept && self.held_starts > 0
    }
}
