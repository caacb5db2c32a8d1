//! One client session: picks answered in batches as they come, outcomes passed on to the owner.
//!
//! The answers are a [`Stream`] that gRPC polls whenever the connection takes a message, and polling it is what reads
//! the questions. So a pick passes through no queue and no other task on its way, and a session that does not read its
//! answers waits by itself. Outcomes are summed up per worker and handed over together every now and then, when the
//! owner has room: waking the owner costs as much as a pick, a busy owner never delays one, and no outcome is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use fastrand::Rng;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, Streaming};

use lb_core::{
    health::CallEnd,
    id::{BalancerId, ClientKey, WorkerNumber},
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
    limits::Place,
    owner::{Event, Handle, Outcomes},
    status::pick_status,
};

mod outcome;

use outcome::call_end;
pub(crate) use outcome::client_key;

/// Most picks, and most outcomes, in one message.
const BATCH_LIMIT: usize = 1024;

/// Least time between two accounts of outcomes to the owner: some ten picks that come one by one, and little against any
/// call that is worth balancing. Of those that come last, the owner hears after [`TELL_LAST`].
const TELL_INTERVAL: Duration = Duration::from_micros(250);

/// How long outcomes wait for another message of their session: the least that a timer counts.
const TELL_LAST: Duration = Duration::from_millis(1);

/// How long a new session may take to say what it is for.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The answers of one session, until either side ends it.
pub(crate) struct Answers {
    requests: Streaming<SessionRequest>,
    session: Session,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs until the session is opened, and then while outcomes wait.
    tell: Pin<Box<Sleep>>,
    telling: bool,
    /// The status has been given; nothing follows.
    ended: bool,
    _place: Place,
}

impl Answers {
    pub(crate) fn new(
        owner: Handle,
        balancer: BalancerId,
        client: ClientKey,
        requests: Streaming<SessionRequest>,
        stop: CancellationToken,
        place: Place,
    ) -> Self {
        let session = Session::new(owner, balancer, client);
        let stop = Box::pin(stop.cancelled_owned());
        let tell = Box::pin(sleep(OPEN_TIMEOUT));
        Self { requests, session, stop, tell, telling: false, ended: false, _place: place }
    }

    fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<SessionResponse, Status>>> {
        if self.stop.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Status::unavailable("the balancer is stopping"))));
        }
        loop {
            let request = match Pin::new(&mut self.requests).poll_next(context) {
                Poll::Ready(Some(Ok(request))) => request,
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(Err(status))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if self.session.opened => {
                    self.poll_tell(context);
                    return Poll::Pending;
                }
                Poll::Pending => {
                    ready!(self.tell.as_mut().poll(context));
                    let problem = format!("no open within {OPEN_TIMEOUT:?}");
                    return Poll::Ready(Some(Err(Status::deadline_exceeded(problem))));
                }
            };
            let answer = self.session.answer(&request).transpose();
            if answer.is_some() {
                return Poll::Ready(answer);
            }
        }
    }

    /// Sees to it that the owner hears of outcomes that no further message takes along.
    fn poll_tell(&mut self, context: &mut Context<'_>) {
        while !self.session.untold.is_empty() {
            if !self.telling {
                self.telling = true;
                self.tell.as_mut().reset(Instant::now() + TELL_LAST);
            }
            if self.tell.as_mut().poll(context).is_pending() {
                return;
            }
            self.telling = false;
            self.session.tell_owner();
        }
    }
}

impl Stream for Answers {
    type Item = Result<SessionResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let next = ready!(this.poll_answer(context));
        this.ended = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }
}

pub(crate) struct Session {
    owner: Handle,
    balancer: BalancerId,
    client: ClientKey,
    opened: bool,
    service: String,
    labels: BTreeMap<String, String>,
    introduced: BTreeSet<WorkerNumber>,
    open: OpenPicks,
    /// Ended calls that the owner has not been told of, by worker and by how they ended.
    untold: BTreeMap<(WorkerNumber, CallEnd), u64>,
    told_at: Instant,
    rng: Rng,
}

impl Session {
    pub(crate) fn new(owner: Handle, balancer: BalancerId, client: ClientKey) -> Self {
        Self {
            owner,
            balancer,
            client,
            opened: false,
            service: String::new(),
            labels: BTreeMap::new(),
            introduced: BTreeSet::new(),
            open: OpenPicks::default(),
            untold: BTreeMap::new(),
            told_at: Instant::now(),
            rng: Rng::new(),
        }
    }

    /// The answer to one message, if there is something to say.
    pub(crate) fn answer(
        &mut self,
        request: &SessionRequest,
    ) -> Result<Option<SessionResponse>, Status> {
        let mut response = SessionResponse::default();
        if let Some(open) = &request.open {
            if self.opened {
                return Err(Status::invalid_argument("open was already said on this session"));
            }
            self.open(&open.service, open.labels.clone())?;
            self.opened = true;
            response.opened = Some(SessionOpened { balancer_id: self.balancer.to_string() });
        }
        if !self.opened {
            return Err(Status::invalid_argument("expected open in the first message"));
        }
        check_batch(request)?;
        self.take_outcomes(request);
        self.pick(&request.picks, &mut response);
        if self.told_at.elapsed() >= TELL_INTERVAL {
            self.tell_owner();
        }
        Ok((response != SessionResponse::default()).then_some(response))
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
                *self.untold.entry((worker, call_end(outcome))).or_insert(0) += 1;
            }
        }
    }

    /// Tells the owner what has ended, if it has room now; else the next time.
    fn tell_owner(&mut self) {
        self.told_at = Instant::now();
        if let Some(event) = self.drain_untold()
            && let Err(Event::Outcomes { all, .. }) = self.owner.try_send(event)
        {
            self.untold =
                all.into_iter().map(|told| ((told.worker, told.end), told.count)).collect();
        }
    }

    fn drain_untold(&mut self) -> Option<Event> {
        let untold = std::mem::take(&mut self.untold);
        let outcomes =
            untold.into_iter().map(|((worker, end), count)| Outcomes { worker, end, count });
        let all: Vec<_> = outcomes.collect();
        (!all.is_empty()).then_some(Event::Outcomes { client: self.client, all })
    }
}

impl Drop for Session {
    /// Hands over what is known and what is left open. The calls may go on without the session: a client also
    /// drops one that is silent, or moves to another balancer.
    fn drop(&mut self) {
        let open: Vec<_> = self.open.open().collect();
        let told = self.drain_untold();
        let left = (!open.is_empty()).then_some(Event::Abandoned(open));
        let mut events = told.into_iter().chain(left);
        while let Some(event) = events.next() {
            if let Err(event) = self.owner.try_send(event) {
                let (owner, rest) = (self.owner.clone(), events.collect::<Vec<_>>());
                // The queue is full: wait for room, off this thread. If the owner has stopped, it counts nothing any more.
                tokio::spawn(async move {
                    for event in std::iter::once(event).chain(rest) {
                        drop(owner.send(event).await);
                    }
                });
                return;
            }
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
