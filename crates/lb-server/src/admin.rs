//! `Admin`: what an operator sees and orders.

use std::{collections::BTreeMap, pin::Pin};

use futures_util::{Stream, StreamExt as _};
use tokio::sync::oneshot;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use lb_core::{
    id::{BalancerId, ClusterName, WorkerId, WorkerNumber},
    load::WorkerState,
    policy::PolicyKind,
    registry::{Departure, Notice, UnknownWorker, WorkerStatus},
    snapshot::Snapshot,
};
use lb_proto::{
    parse::scaler,
    v1::{
        self, DrainRequest, DrainResponse, GetPolicyRequest, ListWorkersRequest,
        ListWorkersResponse, PolicyResponse, ScaleStatusRequest, ScaleStatusResponse,
        SetPolicyRequest, SetScaleRequest, UndrainRequest, UndrainResponse, WatchEventsRequest,
        WorkerInfo, admin_server::Admin,
    },
};

use crate::{
    balancer::peer,
    limits::Places,
    owner::{Event, Handle, Stopping},
    scaling,
    status::IntoStatus as _,
};

/// The operator's service.
pub(crate) struct Administration {
    pub(crate) owner: Handle,
    pub(crate) balancer: BalancerId,
    pub(crate) cluster: ClusterName,
    pub(crate) watchers: Places,
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl Admin for Administration {
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

    async fn list_workers(
        &self,
        _request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let fleet = self.owner.ask(|reply| Event::ListWorkers { reply }).await;
        let fleet = fleet.map_err(Stopping::into_status)?;
        let shares = shares(&self.owner.snapshot());
        Ok(Response::new(ListWorkersResponse {
            workers: fleet.workers.into_iter().map(|status| worker_info(status, &shares)).collect(),
            balancer_id: self.balancer.to_string(),
            cluster: self.cluster.to_string(),
            policy: fleet.policy.to_string(),
        }))
    }

    async fn get_policy(
        &self,
        _request: Request<GetPolicyRequest>,
    ) -> Result<Response<PolicyResponse>, Status> {
        Ok(Response::new(policy_response(self.owner.snapshot().policy)))
    }

    async fn set_policy(
        &self,
        request: Request<SetPolicyRequest>,
    ) -> Result<Response<PolicyResponse>, Status> {
        let policy: PolicyKind = request
            .into_inner()
            .policy
            .parse()
            .map_err(|error| Status::invalid_argument(format!("policy: {error}")))?;
        let set = self.owner.ask(|reply| Event::SetPolicy { policy, reply }).await;
        set.map_err(Stopping::into_status)?;
        Ok(Response::new(policy_response(policy)))
    }

    async fn drain(
        &self,
        request: Request<DrainRequest>,
    ) -> Result<Response<DrainResponse>, Status> {
        let worker = worker_id(&request.into_inner().worker_id)?;
        let drained = self.owner.ask(|reply| Event::Drain { worker, reply }).await;
        let drained = drained.map_err(Stopping::into_status)?;
        let outstanding = drained.map_err(UnknownWorker::into_status)?;
        Ok(Response::new(DrainResponse { outstanding }))
    }

    async fn undrain(
        &self,
        request: Request<UndrainRequest>,
    ) -> Result<Response<UndrainResponse>, Status> {
        let worker = worker_id(&request.into_inner().worker_id)?;
        let undrained = self.owner.ask(|reply| Event::Undrain { worker, reply }).await;
        undrained.map_err(Stopping::into_status)?.map_err(UnknownWorker::into_status)?;
        Ok(Response::new(UndrainResponse {}))
    }

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let place = self.watchers.take(&peer(&request))?;
        let stop = self.stop.clone().cancelled_owned();
        let events =
            BroadcastStream::new(self.owner.notices()).take_until(stop).map(move |notice| {
                let _held = &place;
                notice.map(event).map_err(|missed| lagged(&missed))
            });
        Ok(Response::new(Box::pin(events)))
    }

    async fn scale_status(
        &self,
        _request: Request<ScaleStatusRequest>,
    ) -> Result<Response<ScaleStatusResponse>, Status> {
        self.scale(|reply| scaling::Event::Status { reply }).await
    }

    async fn set_scale(
        &self,
        request: Request<SetScaleRequest>,
    ) -> Result<Response<ScaleStatusResponse>, Status> {
        let request = request.into_inner();
        let mode = scaler::mode("mode", request.mode(), request.count)
            .map_err(crate::status::IntoStatus::into_status)?;
        self.scale(|reply| scaling::Event::Set { mode, reply }).await
    }
}

impl Administration {
    async fn scale(
        &self,
        ask: impl FnOnce(oneshot::Sender<ScaleStatusResponse>) -> scaling::Event,
    ) -> Result<Response<ScaleStatusResponse>, Status> {
        let status = self.owner.ask(|reply| ask(reply).into()).await;
        let mut status = status.map_err(Stopping::into_status)?;
        status.cluster = self.cluster.to_string();
        Ok(Response::new(status))
    }
}

fn worker_id(text: &str) -> Result<WorkerId, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("worker_id: {error}")))
}

fn policy_response(policy: PolicyKind) -> PolicyResponse {
    PolicyResponse {
        policy: policy.to_string(),
        available: PolicyKind::ALL.iter().map(ToString::to_string).collect(),
    }
}

/// The greatest share that each worker has of the capacity of a service.
fn shares(snapshot: &Snapshot) -> BTreeMap<WorkerNumber, f64> {
    let mut shares = BTreeMap::new();
    for (_, view) in snapshot.services() {
        let all: f64 = view.workers().iter().map(|worker| worker.weight).sum();
        for worker in view.workers() {
            let share = shares.entry(worker.number).or_insert(0.0_f64);
            *share = share.max(worker.weight / all);
        }
    }
    shares
}

fn worker_info(status: WorkerStatus, shares: &BTreeMap<WorkerNumber, f64>) -> WorkerInfo {
    let (report, why) = (status.report, status.why());
    WorkerInfo {
        share: shares.get(&status.number).copied().unwrap_or(0.0),
        worker_id: status.hello.id.to_string(),
        worker_number: status.number.0,
        address: status.hello.address.to_string(),
        services: status.hello.services.iter().map(ToString::to_string).collect(),
        slots: status.slots.into(),
        state: status.standing.name().into(),
        in_flight: report.map_or(0, |report| report.in_flight),
        estimate: status.estimate,
        issued: status.issued,
        completed_total: report.map_or(0, |report| report.completed_total),
        errors_total: report.map_or(0, |report| report.errors_total),
        cpu: report.map_or(0.0, |report| report.cpu),
        memory: report.map_or(0.0, |report| report.memory),
        report_age_ms: u64::try_from(status.silent_for.as_millis()).unwrap_or(u64::MAX),
        zone: status.hello.zone,
        labels: status.hello.labels,
        version: status.hello.version,
        queued: report.map_or(0, |report| report.queued),
        busy_seconds: report.map_or(0.0, |report| report.busy_seconds),
        why,
        ejections: status.ejections,
        faults_total: report.map_or(0, |report| report.faults_total),
    }
}

fn lagged(missed: &BroadcastStreamRecvError) -> Status {
    let BroadcastStreamRecvError::Lagged(count) = missed;
    Status::data_loss(format!("{count} events were missed: this watcher reads too slowly"))
}

fn event(notice: Notice) -> v1::Event {
    let (kind, worker, message) = match notice {
        Notice::Joined { worker, address, slots } => {
            ("worker_joined", Some(worker), format!("at {address} with {slots} slots"))
        }
        Notice::Left { worker, cause: Departure::Goodbye } => {
            ("worker_left", Some(worker), "said goodbye".into())
        }
        Notice::Left { worker, cause } => ("worker_lost", Some(worker), cause.to_string()),
        Notice::Refused { worker, cause } => ("worker_refused", Some(worker), cause.to_string()),
        Notice::Changed { worker, state: WorkerState::Serving } => {
            ("worker_serving", Some(worker), "takes calls".into())
        }
        Notice::Changed { worker, state: WorkerState::Draining } => {
            ("worker_draining", Some(worker), "takes no more calls".into())
        }
        Notice::Ejected { worker, cause, lasts } => {
            let message = format!("out for {:.0} s: {cause}", lasts.as_secs_f64());
            ("worker_ejected", Some(worker), message)
        }
        Notice::Recovered { worker } => ("worker_recovered", Some(worker), "well again".into()),
        Notice::Policy(policy) => ("policy_changed", None, policy.to_string()),
    };
    let worker_id = worker.map(|worker| worker.to_string()).unwrap_or_default();
    v1::Event { kind: kind.into(), worker_id, message }
}
