//! What a host of workers says of itself, through its scaler.

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use super::{Generation, settings::Bounds};
use crate::id::HostId;

/// Most instances on one host, whatever it says of itself: planning for it should take no time that anybody notices.
pub const HOST_LIMIT: u32 = 1_000;

/// A host that can run instances of the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Who it is.
    pub id: HostId,
    /// How many instances it should run at least, and may run at most. More than [`HOST_LIMIT`] are as many as that.
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
    /// It takes no calls and finishes what it has, because somebody else wants that, or because it is being restarted.
    Draining,
    /// Its scaler has told it to end.
    Stopping,
    /// It died again and again, and its scaler has given up on it.
    Failed {
        /// What was seen, in words.
        reason: Arc<str>,
    },
}

impl InstanceState {
    /// It runs, or is about to, and its scaler has not sent it away.
    pub(super) fn is_staying(&self) -> bool {
        matches!(self, Self::Starting | Self::Registered | Self::Draining)
    }
}

/// A host whose instances are found by number.
#[derive(Debug)]
pub(super) struct View<'a> {
    host: &'a Host,
    instances: BTreeMap<u32, &'a Instance>,
}

impl<'a> View<'a> {
    pub(super) fn new(host: &'a Host) -> Self {
        let instances = host.instances.iter().map(|instance| (instance.number, instance));
        Self { host, instances: instances.collect() }
    }

    pub(super) fn instance(&self, number: u32) -> Option<&'a Instance> {
        self.instances.get(&number).copied()
    }

    /// How many instances it should run at least.
    pub(super) fn least(&self) -> usize {
        self.bounds.min().min(HOST_LIMIT) as usize
    }

    /// How many instances it may run.
    pub(super) fn most(&self) -> usize {
        self.bounds.max().min(HOST_LIMIT) as usize
    }
}

impl Deref for View<'_> {
    type Target = Host;

    fn deref(&self) -> &Host {
        self.host
    }
}
