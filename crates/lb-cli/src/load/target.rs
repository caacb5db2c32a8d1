//! What is called, and what a call tells.

use std::future::Future;
use std::time::Duration;

/// Something that can be called many times at once.
pub trait Target: Clone + Send + Sync + 'static {
    /// Makes one call to its end and tells how it went.
    ///
    /// `index` counts the calls of a run from 0. The future is dropped when the run is cancelled.
    fn call(&self, index: u64) -> impl Future<Output = Sample> + Send;
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Ok,
    /// It failed with this status, as the name of a gRPC code: `"UNAVAILABLE"`.
    Failed(String),
}

/// What one call tells. How long it took is measured by the generator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The worker that served it, when it reached one.
    pub worker_id: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Time it waited in the worker for a slot, as the worker says.
    pub queued: Option<Duration>,
    /// Time it spent in the slot, as the worker says.
    pub service: Option<Duration>,
}

impl Sample {
    /// A call that was answered.
    pub fn ok() -> Self {
        Self { worker_id: None, outcome: Outcome::Ok, queued: None, service: None }
    }

    /// A call that failed with the status of this name.
    pub fn failed(status: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed(status.into()), ..Self::ok() }
    }

    /// The same, served by this worker.
    #[must_use]
    pub fn on_worker(mut self, worker_id: impl Into<String>) -> Self {
        self.worker_id = Some(worker_id.into());
        self
    }

    /// The same, with the times that the worker reported.
    #[must_use]
    pub fn with_server_times(mut self, queued: Duration, service: Duration) -> Self {
        self.queued = Some(queued);
        self.service = Some(service);
        self
    }
}
