//! The immutable picture that picks read.
//!
//! The owner publishes a new [`Snapshot`] when membership, state or policy changes. A report changes none of these: it
//! reaches picks through the counters that the snapshot's workers share with the owner. So a pick never waits
//! for a report, and a report never for a pick.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use fastrand::Rng;

use crate::{
    estimator::Counters,
    id::{ServiceName, WorkerId, WorkerNumber},
    policy::{Choice, Cursor, Field, Pick as _, Picker, PolicyKind, Reason},
    time::Timestamp,
    token::TokenClass,
};

/// One worker as picks see it.
#[derive(Debug)]
pub struct Worker {
    /// The number of its registration.
    pub number: WorkerNumber,
    /// Its stable identity.
    pub id: WorkerId,
    /// Where clients call it.
    pub address: SocketAddr,
    /// Calls it runs at once.
    pub slots: u16,
    /// Relative capacity: slots times the speed known when the list was made. Above 0.
    pub weight: f64,
    /// Properties a pick can require.
    pub labels: BTreeMap<String, String>,
    pub(crate) counters: Arc<Counters>,
}

impl Worker {
    /// Calls inside the worker and on their way to it.
    pub fn estimate(&self) -> u32 {
        self.counters.estimate()
    }

    /// Calls expected inside the worker and on their way to it at this moment; at most [`Worker::estimate`].
    pub fn expected_calls(&self, now: Timestamp) -> f64 {
        self.counters.expected_calls(self.slots, now)
    }

    /// How fast it is, as learned: 1 is the fleet's mean, 2 takes half the time for a call.
    pub fn speed(&self) -> f64 {
        self.counters.speed()
    }
}

/// What a pick asks for beyond the service, and when.
#[derive(Default, Clone, Copy)]
pub struct Wish<'a> {
    /// Which workers may be picked; `None`: all.
    pub eligible: Option<&'a dyn Fn(&Worker) -> bool>,
    /// Calls with the same key go to the same worker, under the policies that keep to it.
    pub affinity: Option<&'a str>,
    /// The moment of the pick: what is known of workers ages. A reading that is some milliseconds old is good enough.
    pub now: Timestamp,
}

/// A worker picked, and counted.
#[derive(Debug, Clone, Copy)]
pub struct Pick<'a> {
    /// The worker to call.
    pub worker: &'a Worker,
    /// Sequence for the token.
    pub sequence: u64,
    /// Why this worker.
    pub reason: Reason,
    index: usize,
}

/// Why nobody was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// No registered worker offers the service.
    #[error("no worker offers this service")]
    UnknownService,
    /// Workers offer the service, but none of them takes calls now.
    #[error("no worker of this service takes calls now")]
    NoWorker,
    /// None of the workers that take calls is allowed by the request.
    #[error("no worker of this service has the labels asked for and is not excluded")]
    NoneAllowed,
}

/// The workers of one service that take calls, in the order of ids, with the picker made for them.
#[derive(Debug)]
pub struct ServiceView {
    workers: Vec<Arc<Worker>>,
    picker: Picker,
}

impl ServiceView {
    /// Prepares a view of `workers`, which must stand in the order of ids.
    pub fn new(
        workers: Vec<Arc<Worker>>,
        policy: PolicyKind,
        cursor: &Cursor,
        now: Timestamp,
    ) -> Self {
        debug_assert!(
            workers.is_sorted_by(|a, b| a.id < b.id),
            "workers stand in the order of ids"
        );
        let picker = policy.prepare(&workers, cursor, now);
        Self { workers, picker }
    }

    /// The workers, in the order of ids.
    pub fn workers(&self) -> &[Arc<Worker>] {
        &self.workers
    }

    /// Picks a worker for one call and counts the call. Allocates nothing.
    ///
    /// # Errors
    /// [`PickError::NoWorker`] or [`PickError::NoneAllowed`].
    pub fn pick(
        &self,
        wish: Wish<'_>,
        class: TokenClass,
        rng: &mut Rng,
    ) -> Result<Pick<'_>, PickError> {
        let nobody =
            if self.workers.is_empty() { PickError::NoWorker } else { PickError::NoneAllowed };
        let field = Field {
            workers: &self.workers,
            eligible: wish.eligible,
            affinity: wish.affinity,
            now: wish.now,
        };
        let Choice { index, reason } = self.picker.pick(&field, rng).ok_or(nobody)?;
        let worker = &*self.workers[index];
        let sequence = worker.counters.picked(class, self.picker.expects(), wish.now);
        self.picker.load_changed(index, worker, wish.now);
        Ok(Pick { worker, sequence, reason, index })
    }

    /// Another worker than `first`, drawn at random, so that the calls of a failed worker
    /// spread over all others. Not counted.
    pub fn second(&self, first: &Pick<'_>, wish: Wish<'_>, rng: &mut Rng) -> Option<&Worker> {
        let others = self.workers.len().checked_sub(1).filter(|&others| others > 0)?;
        let start = (first.index + 1 + rng.usize(..others)) % self.workers.len();
        let allowed = |index: &usize| {
            *index != first.index
                && wish.eligible.is_none_or(|eligible| eligible(&self.workers[*index]))
        };
        let around = (start..self.workers.len()).chain(0..start);
        around.into_iter().find(allowed).map(|index| &*self.workers[index])
    }

    /// Tells the picker that the load of a worker changed.
    pub(crate) fn load_changed(&self, id: &WorkerId, now: Timestamp) {
        if let Ok(index) = self.workers.binary_search_by(|worker| worker.id.cmp(id)) {
            self.picker.load_changed(index, &self.workers[index], now);
        }
    }
}

/// Everything a pick needs, at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with every published change.
    pub generation: u64,
    /// The policy in force.
    pub policy: PolicyKind,
    pub(crate) services: BTreeMap<ServiceName, ServiceView>,
}

impl Snapshot {
    /// The workers of a service.
    ///
    /// # Errors
    /// [`PickError::UnknownService`] if no registered worker offers it.
    pub fn service(&self, name: &str) -> Result<&ServiceView, PickError> {
        self.services.get(name).ok_or(PickError::UnknownService)
    }

    /// All services that registered workers offer.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, &ServiceView)> {
        self.services.iter()
    }
}
