//! Places for long-lived streams, counted.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// A bounded number of places. A place is free again when its permit is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    what: &'static str,
    limit: usize,
}

impl Places {
    pub(crate) fn new(what: &'static str, limit: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(limit)), what, limit }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED, naming the limit.
    pub(crate) fn take(&self) -> Result<OwnedSemaphorePermit, Status> {
        let full = |_| {
            let Self { what, limit, .. } = self;
            Status::resource_exhausted(format!(
                "this balancer already has {limit} {what}, its limit (limits.{what})"
            ))
        };
        Arc::clone(&self.free).try_acquire_owned().map_err(full)
    }
}
