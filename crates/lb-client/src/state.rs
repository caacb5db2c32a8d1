//! What one balanced channel knows, and how it chooses a worker from it.
//!
//! The order is fixed: the session if one is open, else the last list of workers, else wait for
//! either, but not for ever. A channel that picks locally begins with the list.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use lb_core::{
    budget::RetryBudget,
    id::{BalancerId, ServiceName, WorkerId, WorkerNumber},
};
use lb_tls::Tls;
use tokio::{sync::watch, time::timeout_at};
use tonic::Status;

use crate::{
    assignment::{Assignment, Assignments, REBUILD_GRACE},
    local,
    pick::Picked,
    search::deadline,
    session::{PickError, Session},
    worker::{InFlight, Worker, Workers, now_ms},
};

/// What the channel is for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) service: ServiceName,
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether calls without an affinity key go by the list as long as there is one.
    pub(crate) local: bool,
    /// How long a call may wait for a balancer when there is neither a session nor a list.
    pub(crate) wait: Duration,
    /// How to speak with everybody.
    pub(crate) tls: Tls,
}

/// A worker that a call has tried in vain.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) worker: Arc<Worker>,
    pub(crate) number: Option<(BalancerId, WorkerNumber)>,
}

/// Longest affinity key that a balancer takes, in bytes.
const AFFINITY_KEY_LIMIT: usize = 256;

fn check_affinity_key(key: Option<&Arc<str>>) -> Result<(), Status> {
    match key.map_or(0, |key| key.len()) {
        0..=AFFINITY_KEY_LIMIT => Ok(()),
        bytes => Err(Status::invalid_argument(format!(
            "the affinity key has {bytes} bytes: expected at most {AFFINITY_KEY_LIMIT}"
        ))),
    }
}

/// The shared state of all clones of one channel.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) wanted: Wanted,
    pub(crate) workers: Workers,
    pub(crate) assignments: Assignments,
    session: ArcSwapOption<Session>,
    /// The balancer has no place for a session; its list must do.
    session_refused: AtomicBool,
    /// Workers that a session named: with labels, the only ones known to carry them.
    named: Mutex<HashSet<WorkerId>>,
    /// How often calls that were turned away may be tried again.
    retries: Mutex<RetryBudget>,
    /// Wakes those who wait for a session or a list.
    changed: watch::Sender<()>,
    /// Why there is no balancer, for people.
    trouble: Mutex<Option<String>>,
}

impl State {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            workers: Workers::new(wanted.tls.clone()),
            wanted,
            assignments: Assignments::default(),
            session: ArcSwapOption::empty(),
            session_refused: AtomicBool::new(false),
            named: Mutex::default(),
            retries: Mutex::default(),
            changed: watch::Sender::new(()),
            trouble: Mutex::default(),
        }
    }

    /// Chooses a worker, none of `failed`.
    pub(crate) async fn pick(
        &self,
        failed: &[Failed],
        affinity: Option<&Arc<str>>,
    ) -> Result<Picked, Status> {
        check_affinity_key(affinity)?;
        if let Some(result) = self.pick_now(failed, affinity).await {
            return result;
        }
        let give_up_at = deadline(self.wanted.wait);
        loop {
            // Subscribed before looking again, so that no change falls between.
            let mut changed = self.changed.subscribe();
            if let Some(result) = self.pick_now(failed, affinity).await {
                return result;
            }
            if timeout_at(give_up_at, changed.changed()).await.is_err() {
                return Err(self.no_balancer());
            }
        }
    }

    /// `None` when there is neither a session nor a list.
    async fn pick_now(
        &self,
        failed: &[Failed],
        affinity: Option<&Arc<str>>,
    ) -> Option<Result<Picked, Status>> {
        if self.wanted.local
            && affinity.is_none()
            && let Some(picked) = self.pick_locally(failed)
        {
            return Some(picked);
        }
        let session = self.session.load_full();
        if let Some(session) = session.filter(|session| !self.is_rebuilding(session)) {
            let exclude = numbers(failed, &session.balancer);
            match session.pick(exclude, affinity.cloned()).await {
                Ok(picked) => return Some(Ok(picked)),
                Err(PickError::Refused(status)) => return Some(Err(status)),
                Err(PickError::Lost) => {}
            }
        }
        self.pick_locally(failed)
    }

    /// A balancer that has just come up may not have heard of all the workers this client knows. Until its own list is
    /// believed, the old one is better.
    fn is_rebuilding(&self, session: &Session) -> bool {
        session.opened_at.elapsed() < REBUILD_GRACE
            && self.assignments.is_from_another(&session.balancer)
    }

    fn pick_locally(&self, failed: &[Failed]) -> Option<Result<Picked, Status>> {
        let assignment = self.assignments.latest()?;
        let chosen = self.choose(&assignment, failed);
        let service = &self.wanted.service;
        Some(match chosen {
            Some(worker) => Ok(Picked {
                in_flight: InFlight::new(Arc::clone(worker)),
                balancer: assignment.balancer.clone(),
                token: None,
                ticket: None,
                second: None,
            }),
            None if assignment.endpoints.is_empty() => {
                Err(Status::unavailable(format!("no workers for service {service}")))
            }
            None => {
                Err(Status::unavailable(format!("no suitable worker left for service {service}")))
            }
        })
    }

    fn choose<'a>(&self, assignment: &'a Assignment, failed: &[Failed]) -> Option<&'a Arc<Worker>> {
        let untried = |worker: &Worker| !failed.iter().any(|failed| failed.worker.id == worker.id);
        let rng = &mut fastrand::Rng::new();
        let endpoints = &assignment.endpoints;
        if self.wanted.labels.is_empty() {
            return local::choose(endpoints, untried, now_ms(), rng);
        }
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let is_allowed = |worker: &Worker| named.contains(&worker.id) && untried(worker);
        local::choose(endpoints, is_allowed, now_ms(), rng)
    }

    /// The record of a worker that a session has named.
    pub(crate) fn introduce(&self, id: &WorkerId, address: &str) -> Arc<Worker> {
        if !self.wanted.labels.is_empty() {
            self.named.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        }
        self.workers.intern(id, address)
    }

    /// Lets go of workers that are neither used nor listed. Before there is a list, all count as
    /// listed.
    pub(crate) fn sweep(&self) {
        let Some(latest) = self.assignments.latest() else { return };
        let listed: HashSet<*const Worker> =
            latest.endpoints.iter().map(|endpoint| Arc::as_ptr(&endpoint.worker)).collect();
        let ids: HashSet<&WorkerId> =
            latest.endpoints.iter().map(|endpoint| &endpoint.worker.id).collect();
        self.named.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| ids.contains(id));
        self.workers.sweep(|worker| listed.contains(&Arc::as_ptr(worker)), now_ms());
    }

    /// Makes a session the one to ask.
    pub(crate) fn publish(&self, session: Arc<Session>) {
        self.session.store(Some(session));
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.notify();
    }

    /// The balancer whose session is open.
    pub(crate) fn balancer_id(&self) -> Option<BalancerId> {
        self.session.load().as_ref().map(|session| session.balancer.clone())
    }

    /// Takes a session out of use, unless another one has taken its place.
    pub(crate) fn unpublish(&self, session: &Arc<Session>) {
        let current = self.session.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            self.session.compare_and_swap(&*current, None);
        }
        self.notify();
    }

    /// Wakes those who wait for a session or a list.
    pub(crate) fn notify(&self) {
        self.changed.send_replace(());
    }

    /// Notes why there is no balancer.
    pub(crate) fn note_trouble(&self, text: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// What was noted last, if no session was opened since.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes whether the balancer has a place for a session.
    pub(crate) fn note_session_refused(&self, refused: bool) {
        self.session_refused.store(refused, Ordering::Relaxed);
        self.notify();
    }

    /// A call begins: a part of a retry is earned.
    pub(crate) fn earn_retry(&self) {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner).deposit();
    }

    /// Takes a retry, if there is one left.
    pub(crate) fn take_retry(&self) -> bool {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner).withdraw()
    }

    fn is_open(&self) -> bool {
        let has_list = self.assignments.latest().is_some();
        let list_must_do = self.session_refused.load(Ordering::Relaxed);
        let has_session = self.session.load().is_some();
        (has_session && !self.wanted.local) || (has_list && (has_session || list_must_do))
    }

    /// Waits until a session is open, or the balancer has no place for one; in this case, and when
    /// picks are local, until there is a list.
    pub(crate) async fn opened(&self) {
        let mut changed = self.changed.subscribe();
        while !self.is_open() {
            // The sender lives in `self`.
            let _ = changed.changed().await;
        }
    }

    fn no_balancer(&self) -> Status {
        let Wanted { service, wait, .. } = &self.wanted;
        let trouble = self.trouble().map(|text| format!(" ({text})")).unwrap_or_default();
        let text = format!("no balancer to ask for a worker of {service} within {wait:?}{trouble}");
        Status::unavailable(text)
    }
}

/// The numbers that `balancer` gave to workers tried in vain.
fn numbers(failed: &[Failed], balancer: &BalancerId) -> Vec<u32> {
    failed
        .iter()
        .filter_map(|failed| failed.number.as_ref())
        .filter(|(from, _)| from == balancer)
        .map(|(_, number)| number.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::local::Endpoint;

    fn state(labels: &[(&str, &str)]) -> State {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let state = State::new(Wanted {
            service: "lb.v1.Compute".parse().unwrap(),
            labels: labels.iter().map(own).collect(),
            local: false,
            wait: Duration::from_secs(3),
            tls: Tls::open(),
        });
        let endpoint = |id: &str| Endpoint {
            worker: state.workers.intern(&id.parse().unwrap(), "127.0.0.1:1"),
            weight: 1.0,
        };
        let endpoints = Box::new([endpoint("a"), endpoint("b")]);
        let balancer = "lb-1".parse().unwrap();
        state.assignments.replace(Assignment { balancer, endpoints });
        state
    }

    #[tokio::test]
    async fn a_worker_tried_in_vain_is_not_picked_again() {
        let state = state(&[]);
        let first = state.pick(&[], None).await.unwrap();
        let failed = [Failed { worker: Arc::clone(first.worker()), number: None }];
        for _ in 0..20 {
            let other = state.pick(&failed, None).await.unwrap();
            assert_ne!(other.worker_id(), first.worker_id());
        }
    }

    #[tokio::test]
    async fn with_labels_only_workers_named_by_a_session_are_picked() {
        let state = state(&[("gpu", "a100")]);
        let status = state.pick(&[], None).await.unwrap_err();
        assert_eq!(status.message(), "no suitable worker left for service lb.v1.Compute");
        state.introduce(&"b".parse().unwrap(), "127.0.0.1:1");
        for _ in 0..20 {
            assert_eq!(state.pick(&[], None).await.unwrap().worker_id().as_str(), "b");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_balancer_a_pick_fails_after_the_stated_wait() {
        let state = State::new(Wanted {
            service: "lb.v1.Compute".parse().unwrap(),
            labels: BTreeMap::new(),
            local: false,
            wait: Duration::from_secs(3),
            tls: Tls::open(),
        });
        state.note_trouble("192.0.2.1:5: connection refused".into());
        let started = Instant::now();
        let status = state.pick(&[], None).await.unwrap_err();
        assert_eq!(started.elapsed(), Duration::from_secs(3));
        assert_eq!(
            status.message(),
            "no balancer to ask for a worker of lb.v1.Compute within 3s \
             (192.0.2.1:5: connection refused)"
        );
    }
}
