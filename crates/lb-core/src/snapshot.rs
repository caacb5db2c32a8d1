//! The immutable picture that picks read.
//!
//! The owner publishes a new [`Snapshot`] when membership, state or policy changes. A report changes none of these: it
//! reaches picks through the counters that the snapshot's workers share with the owner. So a pick never waits
//! for a report, and a report never for a pick.

use std::{collections::BTreeMap, net::SocketAddr, ops::Deref, sync::Arc};

use fastrand::Rng;

use crate::{
    estimator::{Blocks, Load, Seat},
    id::{ServiceName, WorkerId, WorkerNumber},
    policy::{Choice, Cursor, Field, Pick as _, Picker, PolicyKind, Reason},
    time::Timestamp,
    token::TokenClass,
};

/// One worker as picks see it.
///
/// A list of them is small, what callers rarely ask for stands apart in the [`Profile`], which a worker derefs to: in a
/// large fleet a pick pays for every place of memory that it touches.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The number of its registration.
    pub number: WorkerNumber,
    /// Calls it runs at once.
    pub slots: u16,
    profile: Arc<Profile>,
}

/// What is known of a worker for as long as a list holds.
#[derive(Debug)]
pub struct Profile {
    /// Its stable identity.
    pub id: WorkerId,
    /// Where clients call it.
    pub address: SocketAddr,
    /// Relative capacity: slots times the speed known when the list was made. Above 0.
    pub weight: f64,
    /// Properties a pick can require.
    pub labels: BTreeMap<String, String>,
    pub(crate) seat: Arc<Seat>,
}

impl Deref for Worker {
    type Target = Profile;

    fn deref(&self) -> &Profile {
        &self.profile
    }
}

impl Worker {
    pub(crate) fn new(number: WorkerNumber, slots: u16, profile: Profile) -> Self {
        Self { number, slots, profile: Arc::new(profile) }
    }

    /// Calls inside the worker and on their way to it.
    pub fn estimate(&self) -> u32 {
        self.profile.seat.estimate()
    }

    /// Calls expected inside the worker and on their way to it at this moment; at most [`Worker::estimate`].
    pub fn expected_calls(&self, now: Timestamp) -> f64 {
        self.profile.seat.expected_calls(self.slots, now)
    }

    /// How fast it is, as learned: 1 is the fleet's mean, 2 takes half the time for a call.
    pub fn speed(&self) -> f64 {
        self.profile.seat.speed()
    }
}

/// Workers in the order of a list, and their counters.
#[derive(Debug)]
pub(crate) struct Roster {
    pub(crate) workers: Vec<Worker>,
    /// The number of each one's seat: here and not in the worker, so that the memory of the worker and that of its counters are
    /// fetched at the same time, not one after the other.
    seats: Vec<u32>,
    blocks: Blocks,
}

impl Roster {
    fn new(workers: Vec<Worker>) -> Self {
        let seats = workers.iter().map(|worker| worker.profile.seat.number()).collect();
        let blocks = workers.iter().map(|worker| &*worker.profile.seat).collect();
        Self { workers, seats, blocks }
    }

    /// What the worker at a place of the list has to do.
    pub(crate) fn load(&self, index: usize) -> Load<'_> {
        let counters = self.blocks.counters(self.seats[index]);
        Load { counters, slots: self.workers[index].slots }
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
    roster: Roster,
    picker: Picker,
}

impl ServiceView {
    /// Prepares a view of `workers`, which must stand in the order of ids.
    pub fn new(workers: Vec<Worker>, policy: PolicyKind, cursor: &Cursor, now: Timestamp) -> Self {
        debug_assert!(
            workers.is_sorted_by(|a, b| a.id < b.id),
            "workers stand in the order of ids"
        );
        let roster = Roster::new(workers);
        let picker = policy.prepare(&roster, cursor, now);
        Self { roster, picker }
    }

    /// The workers, in the order of ids.
    pub fn workers(&self) -> &[Worker] {
        &self.roster.workers
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
        let field = Field { roster: &self.roster, wish: &wish };
        let Some(Choice { index, reason }) = self.picker.pick(&field, rng) else {
            let nobody = self.roster.workers.is_empty();
            return Err(if nobody { PickError::NoWorker } else { PickError::NoneAllowed });
        };
        let load = self.roster.load(index);
        let (sequence, calls) = if self.picker.expects() {
            load.counters.picked_and_expected(class, load.slots, wish.now)
        } else {
            (load.counters.picked(class, wish.now), 0.0)
        };
        self.picker.load_changed(index, load, calls);
        Ok(Pick { worker: &self.roster.workers[index], sequence, reason, index })
    }

    /// Another worker than `first`, drawn at random, so that the calls of a failed worker
    /// spread over all others. Not counted.
    pub fn second(&self, first: &Pick<'_>, wish: Wish<'_>, rng: &mut Rng) -> Option<&Worker> {
        let workers = self.workers();
        let others = workers.len().checked_sub(1).filter(|&others| others > 0)?;
        let start = (first.index + 1 + rng.usize(..others)) % workers.len();
        let allowed = |index: &usize| {
            *index != first.index && wish.eligible.is_none_or(|eligible| eligible(&workers[*index]))
        };
        let around = (start..workers.len()).chain(0..start);
        around.into_iter().find(allowed).map(|index| &workers[index])
    }

    /// Tells the picker that the load of the worker at a place of the list changed.
    pub(crate) fn load_changed(&self, index: usize, now: Timestamp) {
        let load = self.roster.load(index);
        let calls = if self.picker.expects() { load.expected_calls(now) } else { 0.0 };
        self.picker.load_changed(index, load, calls);
    }

    /// Tells the picker that the load of any worker may have changed.
    pub(crate) fn time_passed(&self, now: Timestamp) {
        for index in 0..self.roster.workers.len() {
            self.load_changed(index, now);
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
