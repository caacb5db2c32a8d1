//! What was seen of workers that come and go.

use serde::Serialize;

/// How a scaled service stood at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Scaled {
    /// Since the load began.
    pub(crate) at_seconds: f64,
    /// Workers that there should be.
    pub(crate) wanted: u32,
    /// Workers that take calls.
    pub(crate) ready: u32,
    /// Calls running and queued, by the balancer's count.
    pub(crate) outstanding: u32,
    /// Slots of all workers that take calls.
    pub(crate) slots: u32,
}

/// A call that was answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Answer {
    /// When it began, since the load did.
    pub(crate) at_seconds: f64,
    /// How long it took.
    pub(crate) took_us: f64,
}
