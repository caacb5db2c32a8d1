//! One host, by what its scaler says and what the registry knows of its workers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lb_core::{
    id::{BalancerId, WorkerId},
    registry::{Standing, WorkerStatus},
    scale::{Bounds, FAILED_PAUSE, Host, Instance, InstanceState, Obeyed},
    time::Timestamp,
};
use lb_proto::parse::scaler::{Doing, HostOrder, Offer, Report, Reported};

use super::{Orders, StreamKey, UNATTENDED};

/// An instance must be registered within this since it was started. Workers start within seconds and look for balancers all the time, so
/// that one is cut off, or is not who it should be.
const REGISTERED_WITHIN: Duration = Duration::from_secs(60);
/// How long one that is not counts as failed; ends before the planner tries it again.
const TOLD_FOR: Duration = FAILED_PAUSE.saturating_sub(Duration::from_secs(60));
/// What an operator reads of it.
pub(super) const UNREGISTERED: &str =
    "it has not registered within 60 s of its start; its journal says why";

/// All workers of the service, by id.
pub(super) type Workers = BTreeMap<WorkerId, WorkerStatus>;

/// A host that has, or had just now, a scaler.
pub(super) struct Attended {
    pub(super) offer: Offer,
    pub(super) report: Report,
    key: StreamKey,
    /// `None`: its scaler is gone.
    orders: Option<Orders>,
    /// Whether this stream has told how the host is.
    has_reported: bool,
    /// Whether any stream has. Before, nobody knows what runs there.
    is_known: bool,
    gone_since: Timestamp,
    /// Instances that are started and not registered: since when.
    waiting: BTreeMap<u32, Timestamp>,
    /// Those that have taken too long: since when that is so.
    unregistered: BTreeMap<u32, Timestamp>,
}

impl Attended {
    /// A scaler has come. What the one before it told holds until this one has reported.
    pub(super) fn new(
        offer: Offer,
        key: StreamKey,
        orders: Orders,
        before: Option<Self>,
        now: Timestamp,
    ) -> Self {
        let mut attended = Self {
            offer,
            report: Report::default(),
            key,
            orders: Some(orders),
            has_reported: false,
            is_known: false,
            gone_since: now,
            waiting: BTreeMap::new(),
            unregistered: BTreeMap::new(),
        };
        if let Some(before) = before {
            (attended.report, attended.is_known) = (before.report, before.is_known);
            attended.unregistered = before.unregistered;
        }
        attended
    }

    pub(super) fn is_on(&self, key: StreamKey) -> bool {
        self.key == key
    }

    pub(super) fn is_connected(&self) -> bool {
        self.orders.is_some()
    }

    /// Whether another live process speaks for the host.
    pub(super) fn is_anothers(&self, offer: &Offer) -> bool {
        self.is_connected() && self.offer.instance != offer.instance
    }

    pub(super) fn report(&mut self, report: Report, now: Timestamp) {
        (self.report, self.gone_since) = (report, now);
        (self.has_reported, self.is_known) = (true, true);
    }

    pub(super) fn is_left(&mut self, now: Timestamp) {
        (self.orders, self.gone_since) = (None, now);
    }

    pub(super) fn tell(&self, order: HostOrder) {
        let Some(orders) = &self.orders else { return };
        orders.send_if_modified(|latest| {
            let is_news = **latest != order;
            if is_news {
                *latest = Arc::new(order);
            }
            is_news
        });
    }

    /// Whether the host is still to be reckoned with.
    pub(super) fn stays(&self, workers: &Workers, now: Timestamp) -> bool {
        let registered = |reported: &Reported| worker_of(reported, workers).is_some();
        self.is_connected()
            || now.since(self.gone_since) < UNATTENDED
                && self.report.instances.values().any(registered)
    }

    /// Notes which instances take too long to register. To be called before each look.
    pub(super) fn watch(&mut self, workers: &Workers, now: Timestamp) {
        let reported = &self.report.instances;
        let is_registered = |reported: &Reported| worker_of(reported, workers).is_some();
        // One that has come late is there.
        self.unregistered.retain(|number, since| {
            now.since(*since) < TOLD_FOR && !reported.get(number).is_some_and(is_registered)
        });
        if !self.is_ready() {
            self.waiting.clear();
            return;
        }
        let waits = |number: &u32| {
            reported.get(number).is_some_and(|reported| {
                !is_registered(reported) && state(reported, None) == InstanceState::Starting
            })
        };
        self.waiting.retain(|number, _| waits(number));
        for &number in reported.keys().filter(|number| waits(number)) {
            let since = *self.waiting.entry(number).or_insert(now);
            if now.since(since) >= REGISTERED_WITHIN {
                self.unregistered.entry(number).or_insert(now);
            }
        }
    }

    /// Instances that have taken too long to register, of late.
    pub(super) fn unregistered(&self) -> impl Iterator<Item = u32> {
        self.unregistered.keys().copied()
    }

    /// What an instance does.
    pub(super) fn state(
        &self,
        number: u32,
        reported: &Reported,
        worker: Option<&WorkerStatus>,
    ) -> InstanceState {
        if self.unregistered.contains_key(&number) {
            return InstanceState::Failed { reason: UNREGISTERED.into() };
        }
        state(reported, worker)
    }

    /// As the planner sees it, which wants so many instances there; not at all before it is known what runs there.
    pub(super) fn seen(
        &self,
        workers: &Workers,
        balancer: &BalancerId,
        wanted: usize,
    ) -> Option<Host> {
        if !self.is_known {
            return None;
        }
        let attended = self.is_connected();
        let instances = self.report.instances.iter().filter_map(|(number, reported)| {
            let worker = worker_of(reported, workers);
            // Of a host that nobody speaks for, only what is registered is known to be there.
            (attended || worker.is_some()).then(|| Instance {
                number: *number,
                state: self.state(*number, reported, worker),
                outstanding: worker.map(|worker| worker.estimate),
            })
        });
        let instances: Vec<Instance> = instances.collect();
        let bounds = if self.is_ready() {
            self.offer.bounds
        } else {
            // Nothing can be started or stopped there. What is wanted and is not registered at this moment may be in a restart.
            let count = u32::try_from(instances.len().max(wanted)).unwrap_or(u32::MAX);
            Bounds::new(count, count).expect("equal bounds")
        };
        Some(Host {
            id: self.offer.host.clone(),
            bounds,
            needs: self.offer.needs,
            free_millicores: self.report.free_millicores,
            free_memory: self.report.free_memory,
            obeys: self.report.obeyed.as_ref().map(|plan| Obeyed {
                generation: plan.generation,
                ours: plan.balancer == *balancer,
            }),
            instances,
        })
    }

    fn is_ready(&self) -> bool {
        self.is_connected() && self.has_reported
    }
}

/// The registered worker that an instance is.
pub(super) fn worker_of<'a>(reported: &Reported, workers: &'a Workers) -> Option<&'a WorkerStatus> {
    workers.get(reported.worker.as_ref()?)
}

/// What an instance does, by its scaler and by the registry.
fn state(reported: &Reported, worker: Option<&WorkerStatus>) -> InstanceState {
    match (reported.doing, worker.map(|worker| worker.standing)) {
        (Doing::Failed, _) => InstanceState::Failed { reason: reported.reason.as_str().into() },
        (Doing::Draining, _) => InstanceState::Stopping,
        (_, Some(Standing::Draining)) => InstanceState::Draining,
        (_, None | Some(Standing::Waiting)) => InstanceState::Starting,
        (_, Some(_)) => InstanceState::Registered,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use lb_core::{load::Hello, registry::Registry, scale::Needs};

    use super::*;

    fn attended(now: Timestamp) -> Attended {
        let offer = Offer {
            host: "h".parse().unwrap(),
            instance: 1,
            cluster: "test".parse().unwrap(),
            services: vec!["a.B".parse().unwrap()],
            bounds: Bounds::new(0, 4).unwrap(),
            needs: Needs { millicores: 0, memory: 0 },
            executor: "hand".into(),
            version: String::new(),
        };
        let (orders, _) = watch::channel(Arc::new(HostOrder::default()));
        Attended::new(offer, StreamKey(1), orders, None, now)
    }

    fn running(number: u32) -> Report {
        let worker = Some("h-1".parse().unwrap());
        let reported = Reported { worker, doing: Doing::Running, reason: String::new() };
        Report { instances: BTreeMap::from([(number, reported)]), ..Report::default() }
    }

    #[test]
    fn what_runs_and_does_not_register_has_failed() {
        let (begun, workers) = (Timestamp::default(), Workers::new());
        let mut host = attended(begun);
        host.report(running(1), begun);
        let state = |host: &Attended| {
            let host = host.seen(&workers, &"b".parse().unwrap(), 1).unwrap();
            host.instances.first().map(|instance| instance.state.clone())
        };
        host.watch(&workers, begun);
        host.watch(&workers, begun + REGISTERED_WITHIN / 2);
        assert_eq!(state(&host), Some(InstanceState::Starting));
        let late = begun + REGISTERED_WITHIN;
        host.watch(&workers, late);
        assert_eq!(state(&host), Some(InstanceState::Failed { reason: UNREGISTERED.into() }));
        // It is stopped, and still told of for a while.
        host.report(Report::default(), late);
        host.watch(&workers, late + TOLD_FOR / 2);
        assert_eq!(host.unregistered().collect::<Vec<_>>(), [1]);
        host.watch(&workers, late + TOLD_FOR);
        assert_eq!(host.unregistered().count(), 0);
    }

    #[test]
    fn what_registers_late_is_there() {
        let begun = Timestamp::default();
        let mut host = attended(begun);
        host.report(running(1), begun);
        host.watch(&Workers::new(), begun);
        let late = begun + REGISTERED_WITHIN;
        host.watch(&Workers::new(), late);
        assert_eq!(host.unregistered().count(), 1);
        let hello = Hello {
            id: "h-1".parse().unwrap(),
            instance: 1,
            address: ([127, 0, 0, 1], 1).into(),
            services: vec!["a.B".parse().unwrap()],
            slots: 1,
            zone: String::new(),
            labels: BTreeMap::new(),
            version: String::new(),
        };
        let mut registry = Registry::default();
        registry.hello(hello, late).unwrap();
        let workers: Workers =
            registry.workers(late).map(|worker| (worker.hello.id.clone(), worker)).collect();
        host.watch(&workers, late);
        assert_eq!(host.unregistered().count(), 0);
    }

    #[test]
    fn what_a_scaler_restarts_is_not_what_it_sends_away() {
        let state_of = |doing| {
            let reported = Reported { worker: None, doing, reason: String::new() };
            state(&reported, None)
        };
        assert_eq!(state_of(Doing::Starting), InstanceState::Starting);
        assert_eq!(state_of(Doing::Draining), InstanceState::Stopping);
    }

    /// One of the workers is restarted while their scaler is.
    #[test]
    fn a_host_without_its_scaler_keeps_its_place_for_what_is_wanted() {
        let (begun, workers) = (Timestamp::default(), Workers::new());
        let mut host = attended(begun);
        host.report(running(1), begun);
        host.is_left(begun);
        let seen = host.seen(&workers, &"b".parse().unwrap(), 3).unwrap();
        assert_eq!((seen.bounds, seen.instances.len()), (Bounds::new(3, 3).unwrap(), 0));
    }
}
