//! What a host of workers says of itself, through its scaler.

use std::sync::Arc;

use super::{Generation, settings::Bounds};
use crate::id::HostId;

/// A host that can run instances of the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Who it is.
    pub id: HostId,
    /// How many instances it should run at least, and may run at most.
    pub bounds: Bounds,
    /// What one instance takes.
    pub needs: Needs,
    /// CPU that nobody uses at the moment, in thousandths of a core.
    pub free_millicores: u32,
    /// Memory that is available, in bytes.
    pub free_memory: u64,
    /// The newest plan that its scaler has taken; `None` if it has none since it started.
    pub obeys: Option<Obeyed>,
    /// All its instances, in whatever state.
    pub instances: Vec<Instance>,
}

/// What one instance takes. Zero: unknown, and not considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// CPU, in thousandths of a core.
    pub millicores: u32,
    /// Memory, in bytes.
    pub memory: u64,
}

/// A plan that a scaler has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obeyed {
    /// Its generation.
    pub generation: Generation,
    /// Whether it came from the balancer that plans here, in this life of it.
    pub ours: bool,
}

/// One instance of the worker on a host: `lb-worker@7`, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its number on the host.
    pub number: u32,
    /// What it does.
    pub state: InstanceState,
    /// Calls inside it and on their way to it; `None` if nobody knows.
    pub outstanding: Option<u32>,
}

/// What an instance does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceState {
    /// It has been started and is not registered yet, or is started again after it died.
    Starting,
    /// It is registered and takes calls.
    Registered,
    /// It finishes what it has.
    Draining,
    /// It has been told to end.
    Stopping,
    /// It died again and again, and its scaler has given up on it.
    Failed {
        /// What was seen, in words.
        reason: Arc<str>,
    },
}

impl InstanceState {
    /// It runs, or is about to, and nobody has sent it away.
    pub(super) fn is_staying(&self) -> bool {
        matches!(self, Self::Starting | Self::Registered)
    }
}

impl Host {
    pub(super) fn instance(&self, number: u32) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.number == number)
    }
}
