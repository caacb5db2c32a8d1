//! A scenario as it is written: in a file with places, and on the command line.

use clap::Args;
use serde::Deserialize;
use toml::Spanned;

use crate::workload::Distribution;

use super::{scenario::ScenarioError, source::Source};

/// The file. Nothing is required, and nothing else is allowed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) title: Option<String>,
    pub(super) description: Option<String>,
    pub(super) workers: Option<Spanned<i64>>,
    pub(super) slots: Option<Spanned<Vec<i64>>>,
    pub(super) slowdown: Option<Spanned<Vec<f64>>>,
    pub(super) queue: Option<Spanned<i64>>,
    pub(super) task: Option<Spanned<String>>,
    pub(super) distribution: Option<Spanned<Distribution>>,
    pub(super) clients: Option<Spanned<i64>>,
    pub(super) rate: Option<Spanned<f64>>,
    pub(super) requests: Option<Spanned<i64>>,
    pub(super) duration: Option<Spanned<String>>,
    pub(super) policies: Option<Spanned<Vec<String>>>,
    pub(super) repeats: Option<Spanned<i64>>,
    pub(super) warm_up: Option<Spanned<i64>>,
    pub(super) seed: Option<Spanned<i64>>,
    #[serde(default, rename = "event")]
    pub(super) events: Vec<Spanned<RawEvent>>,
    #[serde(default, rename = "phase")]
    pub(super) phases: Vec<Spanned<RawPhase>>,
}

/// `[[event]]`: something that happens to a worker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvent {
    pub(super) at: Spanned<String>,
    pub(super) kill: Option<Spanned<String>>,
    pub(super) stop: Option<Spanned<String>>,
    pub(super) add: Option<Spanned<RawWorker>>,
}

/// A worker that is added.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWorker {
    pub(super) id: Spanned<String>,
    pub(super) slots: Option<Spanned<i64>>,
    pub(super) slowdown: Option<Spanned<f64>>,
    pub(super) queue: Option<Spanned<i64>>,
}

/// `[[phase]]`: another rate from a moment on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPhase {
    pub(super) at: Spanned<String>,
    pub(super) rate: Spanned<f64>,
}

impl Raw {
    pub(super) fn parse(source: &Source) -> Result<Self, ScenarioError> {
        toml::from_str(&source.text).map_err(|error| source.explain(&error))
    }
}

/// What the command line says; it overrules the file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Flags {
    /// Workers to start, named w01, w02 …
    #[arg(long, value_name = "COUNT", conflicts_with = "found")]
    pub(super) workers: Option<i64>,
    /// Slots of the workers; repeated in turn when there are more workers
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', conflicts_with = "found")]
    pub(super) slots: Option<Vec<i64>>,
    /// How many times as long the workers take over sleep and burn; repeated in turn
    #[arg(long, value_name = "FACTOR,…", value_delimiter = ',', conflicts_with = "found")]
    pub(super) slowdown: Option<Vec<f64>>,
    /// Calls that may wait at each worker; without it all clients, or four per slot under a rate
    #[arg(long, value_name = "COUNT", conflicts_with = "found")]
    pub(super) queue: Option<i64>,
    /// What each call asks for: sleep 50ms, burn 200ms, sum 1000, primes 1000, echo 64
    #[arg(long, value_name = "TASK")]
    pub(super) task: Option<String>,
    /// How the times of sleep and burn differ around their mean
    #[arg(long, value_enum, value_name = "NAME")]
    pub(super) distribution: Option<Distribution>,
    /// Closed loop: so many clients, each of which calls again when its last call has ended
    #[arg(long, value_name = "COUNT", conflicts_with = "rate")]
    pub(super) clients: Option<i64>,
    /// Open loop: so many calls a second, whatever became of earlier ones (Poisson arrivals)
    #[arg(long, value_name = "PER-SECOND")]
    pub(super) rate: Option<f64>,
    /// Calls of one run
    #[arg(long, value_name = "COUNT", conflicts_with = "duration")]
    pub(super) requests: Option<i64>,
    /// How long one run makes calls
    #[arg(long, value_name = "TIME")]
    pub(super) duration: Option<String>,
    /// Policies to compare, in this order
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(super) policies: Option<Vec<String>>,
    /// How often each policy is measured, in turn with the others
    #[arg(long, value_name = "COUNT")]
    pub(super) repeats: Option<i64>,
    /// Calls before each run that are not counted
    #[arg(long, value_name = "COUNT")]
    pub(super) warm_up: Option<i64>,
    /// Of all random numbers: the same seed draws the same tasks and arrivals
    #[arg(long, value_name = "NUMBER")]
    pub(super) seed: Option<i64>,
}
