//! `LoadBalancer`: whom to call.

use std::{collections::BTreeMap, pin::Pin};

use fastrand::Rng;
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use lb_core::{
    id::BalancerId,
    snapshot::{Pick, ServiceView, Snapshot, Wish, Worker},
    token::{Token, TokenClass},
};
use lb_proto::{
    parse,
    v1::{
        Assignment, Choice, PickRequest, PickResponse, SessionRequest, WatchRequest,
        load_balancer_server::LoadBalancer,
    },
};
use lb_tls::Peer;

use crate::{limits::Places, owner::Handle, session, status::pick_status, watch};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

/// Most workers named in one answer.
const CHOICES_LIMIT: u32 = 8;
/// Workers named when the client does not say how many: the best one and one to fall back on.
const CHOICES_DEFAULT: u32 = 2;
/// Most excluded workers in one pick: beyond that the client's view of the fleet is of no use.
pub(crate) const EXCLUDE_LIMIT: usize = 64;
/// Longest affinity key, in bytes.
pub(crate) const AFFINITY_KEY_LIMIT: usize = 256;

/// The picking service.
pub(crate) struct Balancer {
    pub(crate) owner: Handle,
    pub(crate) id: BalancerId,
    pub(crate) sessions: Places,
    pub(crate) watchers: Places,
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl LoadBalancer for Balancer {
    type SessionStream = session::Answers;
    type WatchStream = Pin<Box<dyn Stream<Item = Result<Assignment, Status>> + Send>>;

    async fn pick(&self, request: Request<PickRequest>) -> Result<Response<PickResponse>, Status> {
        let request = request.into_inner();
        let labels = check(&request)?;
        let snapshot = self.owner.snapshot();
        let service = &request.service;
        let view = snapshot.service(service).map_err(|error| pick_status(error, service))?;
        let eligible = |worker: &Worker| {
            has_labels(worker, &labels)
                && !request.exclude.iter().any(|id| id == worker.id.as_str())
        };
        let unrestricted = labels.is_empty() && request.exclude.is_empty();
        let wish = Wish {
            eligible: (!unrestricted).then_some(&eligible),
            affinity: affinity(&request.affinity_key),
            now: self.owner.now(),
        };
        let mut rng = Rng::new();
        let first = view
            .pick(wish, TokenClass::Picked, &mut rng)
            .map_err(|error| pick_status(error, service))?;
        let wanted = if request.choices == 0 { CHOICES_DEFAULT } else { request.choices };
        let seconds = seconds(view, &first, wish, wanted - 1, &mut rng);
        Ok(Response::new(self.response(&snapshot, &first, &seconds)))
    }

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = peer(&request);
        let place = self.sessions.take(&peer)?;
        let client = session::client_key(&peer);
        let (owner, id, stop) = (self.owner.clone(), self.id.clone(), self.stop.clone());
        let requests = request.into_inner();
        Ok(Response::new(session::Answers::new(owner, id, client, requests, stop, place)))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let place = self.watchers.take(&peer(&request))?;
        let service =
            request.into_inner().service.parse().map_err(|error: lb_core::id::NameError| {
                Status::invalid_argument(format!("service: {error}"))
            })?;
        let (answers, receiver) = mpsc::channel(1);
        let watch = watch::run(self.owner.changes(), self.id.clone(), service, answers);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            stop.run_until_cancelled_owned(watch).await;
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Balancer {
    fn response(&self, snapshot: &Snapshot, first: &Pick<'_>, seconds: &[&Worker]) -> PickResponse {
        let choice = |worker: &Worker, class, sequence| {
            let token = Token { balancer: self.id.clone(), worker: worker.number, class, sequence };
            Choice {
                worker_id: worker.id.to_string(),
                address: worker.address.to_string(),
                token: token.to_string(),
            }
        };
        let best = choice(first.worker, TokenClass::Picked, first.sequence);
        let others =
            seconds.iter().map(|worker| choice(worker, TokenClass::Second, first.sequence));
        PickResponse {
            choices: std::iter::once(best).chain(others).collect(),
            balancer_id: self.id.to_string(),
            policy: snapshot.policy.to_string(),
            reason: first.reason.to_string(),
        }
    }
}

/// Who asks.
pub(crate) fn peer<T>(request: &Request<T>) -> Peer {
    request.extensions().get().cloned().unwrap_or_default()
}

/// Up to `wanted` further workers, each once.
fn seconds<'a>(
    view: &'a ServiceView,
    first: &Pick<'_>,
    wish: Wish<'_>,
    wanted: u32,
    rng: &mut Rng,
) -> Vec<&'a Worker> {
    let mut chosen: Vec<&Worker> = Vec::new();
    for _ in 0..wanted {
        let next = {
            let fresh = |worker: &Worker| {
                wish.eligible.is_none_or(|eligible| eligible(worker))
                    && !chosen.iter().any(|other| other.number == worker.number)
            };
            view.second(first, Wish { eligible: Some(&fresh), ..wish }, rng)
        };
        match next {
            Some(worker) => chosen.push(worker),
            None => break,
        }
    }
    chosen
}

/// Whether a worker has every label asked for.
pub(crate) fn has_labels(worker: &Worker, labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(key, value)| worker.labels.get(key) == Some(value))
}

/// Refuses what is out of range, and returns the labels asked for.
fn check(request: &PickRequest) -> Result<BTreeMap<String, String>, Status> {
    let range = |field: &str, found: String, expected: String| {
        Status::invalid_argument(format!("{field} is {found}: expected {expected}"))
    };
    if request.service.is_empty() {
        return Err(Status::invalid_argument("service is not set: expected a gRPC service name"));
    }
    if request.choices > CHOICES_LIMIT {
        return Err(range(
            "choices",
            request.choices.to_string(),
            format!("at most {CHOICES_LIMIT}"),
        ));
    }
    check_exclude(request.exclude.len())?;
    check_affinity_key(&request.affinity_key)?;
    parse::labels("labels", request.labels.clone()).map_err(crate::status::IntoStatus::into_status)
}

/// Refuses an exclude list that is too long.
pub(crate) fn check_exclude(count: usize) -> Result<(), Status> {
    if count <= EXCLUDE_LIMIT {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "exclude is a list of {count}: expected at most {EXCLUDE_LIMIT}"
    )))
}

/// The key of a request, if it has one.
pub(crate) fn affinity(key: &str) -> Option<&str> {
    (!key.is_empty()).then_some(key)
}

/// Refuses an affinity key that is too long.
pub(crate) fn check_affinity_key(key: &str) -> Result<(), Status> {
    if key.len() <= AFFINITY_KEY_LIMIT {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "affinity_key has {} bytes: expected at most {AFFINITY_KEY_LIMIT}",
        key.len()
    )))
}
