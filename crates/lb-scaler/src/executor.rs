//! What starts and stops instances.

use std::collections::BTreeMap;

use lb_core::id::WorkerId;

pub(crate) mod processes;
pub(crate) mod systemd;

/// An instance that is there, or was a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) state: FoundState,
    /// Its id as a worker, once that is known.
    pub(crate) worker: Option<WorkerId>,
    /// How often something else than us has started it again after it died.
    pub(crate) restarts: u32,
}

/// What an instance does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FoundState {
    /// It is not ready yet.
    Starting,
    /// It says that it is ready.
    Running,
    /// It has been told to stop, and drains.
    Stopping,
    /// It has ended without being told to.
    Dead {
        /// How, in words.
        cause: String,
    },
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExecutorError {
    /// Trying again changes nothing before somebody has changed something.
    #[error("{0}")]
    Hopeless(String),
    /// It may work later.
    #[error("{0}")]
    Unavailable(String),
}

/// Starts and stops instances by their numbers. Nothing here waits for an instance: what has become of it is found later.
pub(crate) trait Executor: Send {
    /// All instances that there are. Those that ended as they were told to are not among them.
    fn list(&mut self) -> impl Future<Output = Result<BTreeMap<u32, Found>, ExecutorError>> + Send;

    /// Begins to start one.
    fn start(&mut self, number: u32) -> impl Future<Output = Result<(), ExecutorError>> + Send;

    /// Begins to stop one: it drains first. Telling it twice does no harm.
    fn stop(&mut self, number: u32) -> impl Future<Output = Result<(), ExecutorError>> + Send;

    /// Returns when it is worth looking before the usual time.
    fn news(&mut self) -> impl Future<Output = ()> + Send;

    /// Whether instances live on without this daemon.
    fn outlives(&self) -> bool;
}
