//! One client session: picks answered in batches as they come, outcomes passed on to the owner.
//!
//! Picks are answered from the snapshot of the moment by this task alone; a session that does not read its
//! answers waits by itself. Outcomes are summed up per worker and handed over when the owner has room, so
//! that a busy owner never delays a pick and no outcome is lost.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use lb_core::{
    id::{BalancerId, WorkerNumber},
    session::OpenPicks,
    snapshot::{ServiceView, Snapshot, Wish, Worker},
    time::Timestamp,
    token::TokenClass,
};
use lb_proto::{
    parse,
    v1::{
        Introduction, SessionChoice, SessionFailure, SessionOpened, SessionPick, SessionRequest,
        SessionResponse,
    },
};

use crate::{
    balancer::{affinity, check_affinity_key, check_exclude, has_labels},
    owner::{Event, Handle, Outcomes},
    status::pick_status,
};

/// Most picks, and most outcomes, in one message.
const BATCH_LIMIT: usize = 1024;

type Answers = mpsc::Sender<Result<SessionResponse, Status>>;

/// Serves one session until either side ends it.
pub(crate) async fn run(
    owner: Handle,
    balancer: BalancerId,
    mut requests: Streaming<SessionRequest>,
    answers: Answers,
    stop: CancellationToken,
) {
    let mut session = Session::new(owner);
    let served = session.serve(&balancer, &mut requests, &answers);
    let end = stop
        .run_until_cancelled(served)
        .await
        .unwrap_or_else(|| Err(Status::unavailable("the balancer is stopping")));
    if let Err(status) = end {
        // If the client is gone, nobody is left to tell.
        drop(answers.send(Err(status)).await);
    }
    session.close().await;
}

struct Session {
    owner: Handle,
    service: String,
    labels: BTreeMap<String, String>,
    introduced: BTreeSet<WorkerNumber>,
    open: OpenPicks,
    /// Ended calls that the owner has not been told of, by worker and by whether they were sent.
    untold: BTreeMap<(WorkerNumber, bool), u64>,
    rng: Rng,
}

impl Session {
    fn new(owner: Handle) -> Self {
        Self {
            owner,
            service: String::new(),
            labels: BTreeMap::new(),
            introduced: BTreeSet::new(),
            open: OpenPicks::default(),
            untold: BTreeMap::new(),
            rng: Rng::new(),
        }
    }

    async fn serve(
        &mut self,
        balancer: &BalancerId,
        requests: &mut Streaming<SessionRequest>,
        answers: &Answers,
    ) -> Result<(), Status> {
        let mut opened = false;
        while let Some(request) = requests.message().await? {
            let mut response = SessionResponse::default();
            if let Some(open) = &request.open {
                if opened {
                    return Err(Status::invalid_argument("open was already said on this session"));
                }
                self.open(&open.service, open.labels.clone())?;
                opened = true;
                response.opened = Some(SessionOpened { balancer_id: balancer.to_string() });
            }
            if !opened {
                return Err(Status::invalid_argument("expected open in the first message"));
            }
            check_batch(&request)?;
            self.take_outcomes(&request);
            self.pick(&request.picks, &mut response);
            self.tell_owner();
            let silent = response == SessionResponse::default();
            if !silent && answers.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn open(&mut self, service: &str, labels: BTreeMap<String, String>) -> Result<(), Status> {
        let name: lb_core::id::ServiceName = service
            .parse()
            .map_err(|error| Status::invalid_argument(format!("open.service: {error}")))?;
        name.as_str().clone_into(&mut self.service);
        self.labels =
            parse::labels("open.labels", labels).map_err(crate::status::IntoStatus::into_status)?;
        Ok(())
    }

    fn pick(&mut self, picks: &[SessionPick], response: &mut SessionResponse) {
        if picks.is_empty() {
            return;
        }
        response.choices.reserve(picks.len());
        let owner = self.owner.clone();
        let (snapshot, now) = (owner.snapshot(), owner.now());
        for pick in picks {
            if let Err(status) = self.pick_one(&snapshot, pick, now, response) {
                response.failures.push(SessionFailure {
                    id: pick.id,
                    code: status.code().into(),
                    message: status.message().to_owned(),
                });
            }
        }
    }

    fn pick_one(
        &mut self,
        snapshot: &Snapshot,
        wanted: &SessionPick,
        now: Timestamp,
        response: &mut SessionResponse,
    ) -> Result<(), Status> {
        check_exclude(wanted.exclude.len())?;
        check_affinity_key(&wanted.affinity_key)?;
        let picked = snapshot
            .service(&self.service)
            .and_then(|view| pick_in(view, &self.labels, wanted, now, &mut self.rng));
        let Picked { first, sequence, second } =
            picked.map_err(|error| pick_status(error, &self.service))?;
        self.open.picked(first.number);
        for worker in std::iter::once(first).chain(second) {
            if self.introduced.insert(worker.number) {
                response.workers.push(introduction(worker));
            }
        }
        response.choices.push(SessionChoice {
            id: wanted.id,
            worker_number: first.number.0,
            sequence,
            second: second.map_or(0, |worker| worker.number.0),
        });
        Ok(())
    }

    /// Believes outcomes of this session's own picks only.
    fn take_outcomes(&mut self, request: &SessionRequest) {
        for outcome in &request.outcomes {
            let worker = WorkerNumber(outcome.worker_number);
            if self.open.ended(worker) {
                *self.untold.entry((worker, outcome.sent)).or_insert(0) += 1;
            }
        }
    }

    /// Tells the owner what has ended, if it has room now; else with the next message.
    fn tell_owner(&mut self) {
        if let Some(event) = self.drain_untold()
            && let Err(Event::Outcomes(all)) = self.owner.try_send(event)
        {
            self.untold =
                all.into_iter().map(|told| ((told.worker, told.sent), told.count)).collect();
        }
    }

    fn drain_untold(&mut self) -> Option<Event> {
        let untold = std::mem::take(&mut self.untold);
        let outcomes =
            untold.into_iter().map(|((worker, sent), count)| Outcomes { worker, sent, count });
        let all: Vec<_> = outcomes.collect();
        (!all.is_empty()).then_some(Event::Outcomes(all))
    }

    /// Hands over what is known and what is left open. The calls may go on without the session: a client also
    /// drops one that is silent, or moves to another balancer.
    async fn close(mut self) {
        let open: Vec<_> = self.open.open().collect();
        let told = self.drain_untold().into_iter();
        let left = (!open.is_empty()).then_some(Event::Abandoned(open));
        for event in told.chain(left) {
            // A stopped owner counts nothing any more.
            drop(self.owner.send(event).await);
        }
    }
}

struct Picked<'a> {
    first: &'a Worker,
    sequence: u64,
    second: Option<&'a Worker>,
}

fn pick_in<'a>(
    view: &'a ServiceView,
    labels: &BTreeMap<String, String>,
    wanted: &SessionPick,
    now: Timestamp,
    rng: &mut Rng,
) -> Result<Picked<'a>, lb_core::snapshot::PickError> {
    let eligible =
        |worker: &Worker| has_labels(worker, labels) && !wanted.exclude.contains(&worker.number.0);
    let unrestricted = labels.is_empty() && wanted.exclude.is_empty();
    let wish = Wish {
        eligible: (!unrestricted).then_some(&eligible),
        affinity: affinity(&wanted.affinity_key),
        now,
    };
    let first = view.pick(wish, TokenClass::Session, rng)?;
    let second = view.second(&first, wish, rng);
    Ok(Picked { first: first.worker, sequence: first.sequence, second })
}

fn introduction(worker: &Worker) -> Introduction {
    Introduction {
        worker_number: worker.number.0,
        worker_id: worker.id.to_string(),
        address: worker.address.to_string(),
    }
}

fn check_batch(request: &SessionRequest) -> Result<(), Status> {
    let batches = [("picks", request.picks.len()), ("outcomes", request.outcomes.len())];
    match batches.into_iter().find(|(_, count)| *count > BATCH_LIMIT) {
        None => Ok(()),
        Some((field, count)) => Err(Status::invalid_argument(format!(
            "{field} is a list of {count}: expected at most {BATCH_LIMIT} in one message"
        ))),
    }
}
