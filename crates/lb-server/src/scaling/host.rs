//! One host, by what its scaler says and what the registry knows of its workers.

use std::{collections::BTreeMap, sync::Arc};

use lb_core::{
    id::{BalancerId, WorkerId},
    registry::{Standing, WorkerStatus},
    scale::{Bounds, Host, Instance, InstanceState, Obeyed},
    time::Timestamp,
};
use lb_proto::parse::scaler::{Doing, HostOrder, Offer, Report, Reported};

use super::{Orders, StreamKey, UNATTENDED};

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
        let is_known = before.as_ref().is_some_and(|before| before.is_known);
        let report = before.map_or_else(Report::default, |before| before.report);
        let orders = Some(orders);
        Self { offer, report, key, orders, has_reported: false, is_known, gone_since: now }
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

    /// As the planner sees it; not at all before it is known what runs there.
    pub(super) fn seen(&self, workers: &Workers, balancer: &BalancerId) -> Option<Host> {
        if !self.is_known {
            return None;
        }
        let attended = self.is_connected();
        let instances = self.report.instances.iter().filter_map(|(number, reported)| {
            let worker = worker_of(reported, workers);
            // Of a host that nobody speaks for, only what is registered is known to be there.
            (attended || worker.is_some()).then(|| Instance {
                number: *number,
                state: state(reported, worker),
                outstanding: worker.map(|worker| worker.estimate),
            })
        });
        let instances: Vec<Instance> = instances.collect();
        let bounds = if self.is_ready() {
            self.offer.bounds
        } else {
            // Nothing can be started or stopped there.
            let count = u32::try_from(instances.len()).unwrap_or(u32::MAX);
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
pub(super) fn state(reported: &Reported, worker: Option<&WorkerStatus>) -> InstanceState {
    match (reported.doing, worker.map(|worker| worker.standing)) {
        (Doing::Failed, _) => InstanceState::Failed { reason: reported.reason.as_str().into() },
        (Doing::Draining, _) => InstanceState::Stopping,
        (_, Some(Standing::Draining)) => InstanceState::Draining,
        (_, None | Some(Standing::Waiting)) => InstanceState::Starting,
        (_, Some(_)) => InstanceState::Registered,
    }
}
