//! How many workers there should be: what scalers tell, what the planner makes of it, and what scalers are told.
//!
//! The owner task holds the [`Fleet`]. It hears of scalers as events, and at each tick lets the planner (`lb_core::scale`) look at
//! the demand, which the registry knows, and at the hosts. The plan goes to each scaler's stream as a value that replaces the one
//! before, so nothing queues up. Without scalers nothing here does anything.
//!
//! A scaler tells what it has started and under which ids; whether those are registered is for the registry to say. So an instance counts
//! when it is registered, and not before.
//!
//! A host whose scaler is gone may be well: a scaler that is restarted stops nothing. While its workers are registered the host
//! stays in the plan as it is, for [`UNATTENDED`] at most; a host without power loses its workers within two seconds.

mod clock;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod host;
mod status;
mod stream;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use lb_core::{
    id::{BalancerId, HostId, ServiceName, WorkerId},
    registry::{Registry, WorkerStatus},
    scale::{Demand, Host, Manual, Mode, Plan, Planner},
    time::Timestamp,
};
use lb_proto::parse::scaler::{HostOrder, Offer, Report};

pub(crate) use self::stream::Offering;
use self::{clock::time_of_day, host::Attended};
use crate::{ScaleSettings, owner};

/// Most scalers at once: far more hosts than a LAN has. It bounds memory.
pub(crate) const SCALER_LIMIT: usize = 1_024;

/// How long a host without a scaler stays in the plan while its workers are registered. Ample for an upgrade; a scaler that is gone for
/// longer does not come back by itself.
const UNATTENDED: Duration = Duration::from_secs(60);

/// One stream of a scaler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamKey(u64);

/// The latest order for one scaler; each replaces the one before.
pub(crate) type Orders = watch::Sender<Arc<HostOrder>>;

/// What happens around scalers.
pub(crate) enum Event {
    /// A scaler wants in.
    Hello { offer: Box<Offer>, orders: Orders, reply: oneshot::Sender<Result<StreamKey, Refusal>> },
    /// A scaler tells how its host is.
    Report { host: HostId, key: StreamKey, report: Report },
    /// A scaler's stream has ended.
    Gone { host: HostId, key: StreamKey, in_order: bool },
    /// An operator looks.
    Status { reply: oneshot::Sender<lb_proto::v1::ScaleStatusResponse> },
    /// An operator sets the number of workers, or lets the demand decide.
    Set { mode: Mode, reply: oneshot::Sender<lb_proto::v1::ScaleStatusResponse> },
    /// The configuration has been read again.
    Settings(Box<ScaleSettings>),
}

impl From<Event> for owner::Event {
    fn from(event: Event) -> Self {
        Self::Scaling(Box::new(event))
    }
}

/// Why a scaler is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Another live scaler speaks for the host.
    #[error("host id {0} is taken by a live scaler: give this one another id")]
    Taken(HostId),
    /// No more are let in.
    #[error("this balancer already has {SCALER_LIMIT} scalers, its limit")]
    Full,
    /// Its workers offer something else.
    #[error(
        "hello.services does not name {0}, the service that this balancer scales (scale.service)"
    )]
    OtherService(ServiceName),
}

/// All hosts that can run workers, and the plan for them.
pub(super) struct Fleet {
    balancer: BalancerId,
    service: ServiceName,
    planner: Planner,
    manual: Manual,
    hosts: BTreeMap<HostId, Attended>,
    last_key: u64,
}

impl Fleet {
    /// Without any hosts.
    pub(super) fn new(balancer: BalancerId, settings: &ScaleSettings, now: Timestamp) -> Self {
        Self {
            balancer,
            service: settings.service.clone(),
            planner: Planner::new(settings.planner.clone(), now),
            manual: Manual::default(),
            hosts: BTreeMap::new(),
            last_key: 0,
        }
    }

    /// Takes in what has happened.
    pub(super) fn handle(&mut self, event: Event, registry: &Registry, now: Timestamp) {
        match event {
            // Whoever asked may have gone meanwhile; that is no error.
            Event::Hello { offer, orders, reply } => {
                drop(reply.send(self.hello(*offer, orders, now)));
            }
            Event::Report { host, key, report } => self.report(&host, key, report, now),
            Event::Gone { host, key, in_order } => self.gone(&host, key, in_order, now),
            Event::Status { reply } => drop(reply.send(self.status(registry, now))),
            Event::Set { mode, reply } => {
                self.manual = self.manual.changed(mode);
                info!(event = "scale_set", mode = %mode, "the number of workers was set by hand");
                self.turn(registry, now);
                self.tell();
                drop(reply.send(self.status(registry, now)));
            }
            Event::Settings(settings) => self.planner.change_settings(settings.planner),
        }
    }

    /// Lets the planner look, and tells scalers what follows. To be called a few times a second.
    pub(super) fn turn(&mut self, registry: &Registry, now: Timestamp) {
        // The last host that has gone is given time to come back, and then has no part in the plan any more.
        let is_planned = |plan: &Plan| !plan.hosts.is_empty();
        if self.hosts.is_empty() && !self.planner.latest().is_some_and(is_planned) {
            return;
        }
        let workers = self.workers(registry, now);
        self.planner.observe(now, Demand::of(workers.values().cloned()));
        self.hosts.retain(|_, host| host.stays(&workers, now));
        self.hosts.values_mut().for_each(|host| host.watch(&workers, now));
        let plan = self.planner.latest();
        let wanted =
            |id| plan.and_then(|plan| plan.host(id)).map_or(0, |host| host.instances.len());
        let seen = |(id, host): (_, &Attended)| host.seen(&workers, &self.balancer, wanted(id));
        let hosts: Vec<Host> = self.hosts.iter().filter_map(seen).collect();
        if let Some(plan) = self.planner.plan(now, time_of_day(), &hosts, self.manual) {
            let Plan { generation, before, desired, missing, reason, .. } = &plan;
            info!(
                event = "scale_planned", generation = generation.number(), before, desired, missing, %reason,
                "planned how many workers should run"
            );
            self.tell();
        }
    }

    fn workers(&self, registry: &Registry, now: Timestamp) -> BTreeMap<WorkerId, WorkerStatus> {
        let of_service = |worker: &WorkerStatus| worker.hello.services.contains(&self.service);
        let workers = registry.workers(now).filter(of_service);
        workers.map(|worker| (worker.hello.id.clone(), worker)).collect()
    }

    fn hello(
        &mut self,
        offer: Offer,
        orders: Orders,
        now: Timestamp,
    ) -> Result<StreamKey, Refusal> {
        let refusal = self.refusal(&offer);
        let host = offer.host.clone();
        if let Some(refusal) = refusal {
            warn!(event = "scaler_refused", %host, cause = %refusal, "scaler refused");
            return Err(refusal);
        }
        self.last_key += 1;
        let key = StreamKey(self.last_key);
        info!(
            event = "scaler_joined", %host, min = offer.bounds.min(), max = offer.bounds.max(),
            "scaler joined"
        );
        let before = self.hosts.remove(&host);
        self.hosts.insert(host.clone(), Attended::new(offer, key, orders, before, now));
        self.tell();
        Ok(key)
    }

    fn refusal(&self, offer: &Offer) -> Option<Refusal> {
        if !offer.services.contains(&self.service) {
            return Some(Refusal::OtherService(self.service.clone()));
        }
        match self.hosts.get(&offer.host) {
            Some(host) if host.is_anothers(offer) => Some(Refusal::Taken(offer.host.clone())),
            None if self.hosts.len() >= SCALER_LIMIT => Some(Refusal::Full),
            _ => None,
        }
    }

    fn report(&mut self, host: &HostId, key: StreamKey, report: Report, now: Timestamp) {
        let Some(host) = self.hosts.get_mut(host).filter(|host| host.is_on(key)) else { return };
        let newer = self.manual.newer(report.manual);
        host.report(report, now);
        if newer != self.manual {
            self.manual = newer;
            self.tell();
        }
    }

    fn gone(&mut self, host: &HostId, key: StreamKey, in_order: bool, now: Timestamp) {
        let Some(attended) = self.hosts.get_mut(host).filter(|host| host.is_on(key)) else {
            return;
        };
        if in_order {
            info!(event = "scaler_left", %host, "scaler left");
        } else {
            warn!(event = "scaler_lost", %host, "scaler lost");
        }
        attended.is_left(now);
    }

    /// Puts what each scaler should do into its stream.
    fn tell(&self) {
        for (id, host) in &self.hosts {
            host.tell(self.order(id));
        }
    }

    fn order(&self, host: &HostId) -> HostOrder {
        let manual = self.manual;
        let Some(plan) = self.planner.latest() else {
            return HostOrder { manual, ..HostOrder::default() };
        };
        let wanted = plan.host(host).into_iter().flat_map(|host| &host.instances);
        let instances = wanted.map(|wanted| (wanted.number, wanted.why.to_string()));
        HostOrder {
            // A host that the plan does not know yet is not to stop anything.
            generation: plan.host(host).map_or_else(Default::default, |_| plan.generation),
            manual,
            desired: plan.desired,
            reason: plan.reason.to_string(),
            instances: instances.collect(),
        }
    }
}
