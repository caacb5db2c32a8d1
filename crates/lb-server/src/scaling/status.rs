//! What an operator sees.

use std::{collections::BTreeSet, time::Duration};

use lb_core::{
    id::HostId,
    registry::Registry,
    scale::{Action, HostPlan, InstanceState, Mode, Plan},
    time::Timestamp,
};
use lb_proto::{
    parse::scaler::{wire_mode, wire_taken_plan},
    v1::{ScaleDemand, ScaleHost, ScaleInstance, ScaleStatusResponse},
};

use super::{
    Fleet,
    clock::time_of_day,
    host::{Attended, UNREGISTERED, Workers, worker_of},
};

impl Fleet {
    /// How the service is scaled.
    pub(super) fn status(&self, registry: &Registry, now: Timestamp) -> ScaleStatusResponse {
        let workers = self.workers(registry, now);
        let (status, plan) = (self.planner.status(), self.planner.latest());
        let (bounds, _) = self.planner.settings().bounds(time_of_day());
        let hosts = self.hosts.iter().map(|(id, host)| scale_host(id, host, plan, &workers));
        let hosts: Vec<ScaleHost> = hosts.collect();
        let instances = hosts.iter().flat_map(|host| &host.instances);
        let ready = instances.filter(|instance| instance.state == REGISTERED).count();
        let (mode, set_to) = wire_mode(self.manual.mode);
        ScaleStatusResponse {
            balancer_id: self.balancer.to_string(),
            // Who answers the call knows it.
            cluster: String::new(),
            service: self.service.to_string(),
            mode: mode.into(),
            set_to,
            desired: status.desired,
            missing: plan.map_or(0, |plan| plan.missing),
            ready: u32::try_from(ready).unwrap_or(u32::MAX),
            min: bounds.min(),
            max: bounds.max(),
            target: self.planner.settings().target,
            demand: status.demand.map(|demand| ScaleDemand {
                outstanding: demand.outstanding,
                slots: demand.slots,
                workers: demand.workers,
            }),
            state: self.state_in_words(status.held.to_string()),
            last_decision: plan.map(|plan| plan.explain(now)).unwrap_or_default(),
            generation: plan.map_or(0, |plan| plan.generation.number()),
            next_judgement_ms: milliseconds(status.next_judgement.since(now)),
            not_down_ms: milliseconds(status.not_down_before.since(now)),
            hosts,
        }
    }

    fn state_in_words(&self, held: String) -> String {
        if self.hosts.is_empty() {
            return "no scaler is registered, so nothing is scaled".into();
        }
        // It says so only from its next turn on.
        if self.manual.mode == Mode::Paused { "paused by hand".into() } else { held }
    }
}

const REGISTERED: &str = "registered";

fn scale_host(id: &HostId, host: &Attended, plan: Option<&Plan>, workers: &Workers) -> ScaleHost {
    let (offer, report) = (&host.offer, &host.report);
    let plan = plan.and_then(|plan| plan.host(id));
    let wanted = plan.into_iter().flat_map(|plan| &plan.instances).map(|wanted| wanted.number);
    let numbers = report.instances.keys().copied().chain(wanted).chain(host.unregistered());
    let numbers: BTreeSet<u32> = numbers.collect();
    ScaleHost {
        host_id: id.to_string(),
        connected: host.is_connected(),
        min: offer.bounds.min(),
        max: offer.bounds.max(),
        free_millicores: report.free_millicores,
        free_memory: report.free_memory,
        obeyed: report.obeyed.as_ref().map(wire_taken_plan),
        problem: report.problem.clone(),
        instances: numbers
            .into_iter()
            .map(|number| instance(number, host, plan, workers))
            .collect(),
        executor: offer.executor.clone(),
        version: offer.version.clone(),
    }
}

fn instance(
    number: u32,
    host: &Attended,
    plan: Option<&HostPlan>,
    workers: &Workers,
) -> ScaleInstance {
    let reported = host.report.instances.get(&number);
    let worker = reported.and_then(|reported| worker_of(reported, workers));
    let wanted = plan.and_then(|plan| plan.instances.iter().find(|wanted| wanted.number == number));
    let is_late = host.unregistered().any(|late| late == number);
    let state = match reported.map(|reported| host.state(number, reported, worker)) {
        None if is_late && wanted.is_none() => "failed",
        None => "wanted",
        Some(InstanceState::Starting) => "starting",
        Some(InstanceState::Registered) => REGISTERED,
        Some(InstanceState::Draining | InstanceState::Stopping) => "draining",
        Some(InstanceState::Failed { .. }) => "failed",
    };
    let stopped = plan.and_then(|plan| {
        let is_it = |change: &&lb_core::scale::Change| {
            change.number == number && change.action == Action::Stop
        };
        plan.changes.iter().find(is_it)
    });
    let why = wanted.map(|wanted| &wanted.why).or(stopped.map(|change| &change.why));
    ScaleInstance {
        number,
        worker_id: reported
            .and_then(|reported| reported.worker.as_ref())
            .map(ToString::to_string)
            .unwrap_or_default(),
        state: state.into(),
        reason: match reported.map(|reported| reported.reason.as_str()) {
            Some(reason) if !reason.is_empty() => reason.to_owned(),
            _ if is_late => UNREGISTERED.into(),
            _ => String::new(),
        },
        wanted: wanted.is_some(),
        why: why.map(ToString::to_string).unwrap_or_default(),
        outstanding: worker.map(|worker| worker.estimate),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
