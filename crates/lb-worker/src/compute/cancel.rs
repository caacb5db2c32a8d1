//! Tells a thread that nobody waits for its work any more.

use tokio_util::sync::CancellationToken;

/// Nobody waits for the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the call was cancelled")]
pub struct Cancelled;

/// Asked by long computations, every millisecond or so. Asking costs a lock that nobody contends for.
#[derive(Debug, Clone, Default)]
pub struct Cancel(CancellationToken);

impl Cancel {
    /// Work is in vain once `token` is cancelled.
    pub fn new(token: CancellationToken) -> Self {
        Self(token)
    }

    /// Call it between two pieces of work, with `?`.
    ///
    /// # Errors
    /// [`Cancelled`] when the work is in vain.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.0.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }
}
