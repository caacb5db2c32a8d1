//! One call: pick a worker, reach it, send, and move on to the next choice as long as it is certain
//! that no worker has looked at it.
//!
//! A worker that is full says so before it looks at a call. Then the second choice is tried, and after
//! a pause, as long as the worker hints and some more, whoever is best by then: as far as the budget
//! goes ([`RetryBudget`](lb_core::budget::RetryBudget)), since retries are load as well.

use std::{fmt, sync::Arc, time::Duration};

use http::{
    HeaderValue, Request, Response, Uri, Version, header::USER_AGENT, request, uri::Scheme,
};
use hyper::body::Incoming;
use lb_core::{
    id::{BalancerId, WorkerId},
    token::METADATA_KEY,
};
use lb_proto::retry;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Status, body::Body};

use crate::{
    balanced::Shared,
    connection::{self, DialError, SendFailure, Sender},
    deadline,
    pick::{Picked, Source},
    replay::{Replay, ReplayBody},
    response::{self, Guard},
    state::Failed,
    worker::{Worker, now_ms},
};

/// How many workers a call may try. Each try may cost a dial of a second; whoever fails at three
/// workers in a row has a problem that a fourth does not solve.
const ATTEMPTS: u32 = 3;
const USER_AGENT_TEXT: &str = concat!("lb-client/", env!("CARGO_PKG_VERSION"));

/// How a call found its worker. [`Balanced`](crate::Balanced) leaves it in the extensions of the
/// response.
#[derive(Debug, Clone)]
pub struct CallInfo {
    /// The worker that answered.
    pub worker_id: WorkerId,
    /// Where it was called.
    pub address: Arc<str>,
    /// The balancer that chose it, or whose list it was chosen from.
    pub balancer_id: BalancerId,
    /// Who chose it.
    pub source: Source,
    /// Time spent waiting for picks, of all attempts.
    pub pick_duration: Duration,
    /// Time spent waiting for connections, of all attempts.
    pub connect_duration: Duration,
    /// Workers tried, this one included: 1 to 3.
    pub attempts: u32,
}

/// Runs one call to the head of its response, within the deadline that the request states.
pub(crate) async fn run(
    shared: Arc<Shared>,
    affinity: Option<Arc<str>>,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let deadline = deadline::parse(request.headers(), Instant::now());
    let (head, body) = request.into_parts();
    let mut call = Call {
        shared,
        affinity,
        head,
        body: Replay::new(body),
        deadline,
        failed: Vec::new(),
        stage: Stage::Picking,
        attempts: 0,
        pick_duration: Duration::ZERO,
        connect_duration: Duration::ZERO,
    };
    call.shared.state.earn_retry();
    let Some(deadline) = deadline else { return call.run().await };
    match timeout_at(deadline, call.run()).await {
        Ok(result) => result,
        Err(_) => Err(Status::deadline_exceeded(format!("deadline exceeded {}", call.stage))),
    }
}

struct Call {
    shared: Arc<Shared>,
    affinity: Option<Arc<str>>,
    head: request::Parts,
    body: Replay,
    deadline: Option<Instant>,
    failed: Vec<Failed>,
    stage: Stage,
    attempts: u32,
    pick_duration: Duration,
    connect_duration: Duration,
}

/// What the call is waiting for, for people.
enum Stage {
    Picking,
    Connecting(Arc<Worker>),
    Calling(Arc<Worker>),
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Picking => write!(formatter, "while waiting for a worker to be picked"),
            Self::Connecting(worker) => write!(formatter, "while connecting to {}", name(worker)),
            Self::Calling(worker) => write!(formatter, "while waiting for {}", name(worker)),
        }
    }
}

/// How an attempt ended.
enum Attempt {
    Done(Result<Response<Body>, Status>),
    /// The worker surely did not look at the call.
    Unsent(Picked, String),
    /// The worker is full: the call may be sent again after this time, or to another.
    Full(Picked, Response<Incoming>, Duration),
}

impl Call {
    async fn run(&mut self) -> Result<Response<Body>, Status> {
        let mut next: Option<Picked> = None;
        let mut trouble = None;
        while self.attempts < ATTEMPTS {
            let picked = match next.take() {
                Some(second) => second,
                None => self.pick().await.map_err(|status| exhausted(trouble.take(), status))?,
            };
            self.attempts += 1;
            match self.attempt(picked).await {
                Attempt::Done(result) => return result,
                Attempt::Full(picked, response, hint) => {
                    let Some(pause) = self.may_try_again(&picked, hint) else {
                        return Ok(self.answer(picked, response));
                    };
                    next = self.turned_away(picked);
                    if next.is_none() {
                        self.stage = Stage::Picking;
                        sleep(pause).await;
                    }
                }
                Attempt::Unsent(picked, error) => {
                    trouble = Some(format!("{}: {error}", name(picked.worker())));
                    next = self.give_up_on(picked);
                    if self.body.is_spent() {
                        let trouble = trouble.unwrap_or_default();
                        let text = format!("{trouble}; the request is too large to be sent again");
                        return Err(Status::unavailable(text));
                    }
                }
            }
        }
        let trouble = trouble.unwrap_or_default();
        Err(Status::unavailable(format!(
            "not sent after {} attempts; last: {trouble}",
            self.attempts
        )))
    }

    async fn pick(&mut self) -> Result<Picked, Status> {
        self.stage = Stage::Picking;
        let started = Instant::now();
        let result = self.shared.state.pick(&self.failed, self.affinity.as_ref()).await;
        self.pick_duration += started.elapsed();
        let mut picked = result?;
        // The balancer may not know yet what this client found out a moment ago.
        if picked.worker().is_ejected(now_ms())
            && let Some(second) = self.take_second(&mut picked)
        {
            // Not tried, so it says nothing new of the worker.
            give_back(picked, Code::Cancelled);
            return Ok(second);
        }
        Ok(picked)
    }

    /// Reports that the call did not go to the picked worker; gives the second choice.
    fn give_up_on(&mut self, mut picked: Picked) -> Option<Picked> {
        picked.worker().eject(now_ms());
        let worker = Arc::clone(picked.worker());
        self.failed.push(Failed { worker, number: picked.number() });
        let second = self.take_second(&mut picked);
        give_back(picked, Code::Unavailable);
        second
    }

    /// How long to wait before the next attempt, if a call that was turned away may make one and no second choice is left.
    fn may_try_again(&self, picked: &Picked, hint: Duration) -> Option<Duration> {
        // Up to twice the hint, so that those who were turned away together do not come back together.
        let pause = hint.mul_f64(1.0 + fastrand::f64());
        let in_time = picked.second.is_some()
            || self.deadline.is_none_or(|deadline| Instant::now() + pause < deadline);
        let may = self.attempts < ATTEMPTS && in_time && !self.body.is_spent();
        (may && self.shared.state.take_retry()).then_some(pause)
    }

    /// Reports that the worker is full; gives the second choice.
    fn turned_away(&mut self, mut picked: Picked) -> Option<Picked> {
        let second = self.take_second(&mut picked);
        give_back(picked, Code::ResourceExhausted);
        second
    }

    /// The second choice, unless it is known to be no better.
    fn take_second(&self, picked: &mut Picked) -> Option<Picked> {
        let (_, second) = picked.second.as_ref()?;
        let tried = self.failed.iter().any(|failed| Arc::ptr_eq(&failed.worker, second));
        if tried || second.is_ejected(now_ms()) { None } else { picked.take_second() }
    }

    async fn attempt(&mut self, mut picked: Picked) -> Attempt {
        if let Some(ticket) = &mut picked.ticket {
            ticket.deadline = self.deadline;
        }
        let Some(body) = self.body.reader() else {
            return Attempt::Unsent(picked, "the request is too large to be sent again".into());
        };
        let request = match self.request(&picked, body) {
            Ok(request) => request,
            Err(error) => return Attempt::Unsent(picked, error),
        };
        let sender = match self.connect(&picked).await {
            Ok(sender) => sender,
            Err(error) => return Attempt::Unsent(picked, error.to_string()),
        };
        match self.send(&mut picked, sender, request).await {
            Ok(response) => match retry::hint(response.headers()) {
                Some(hint) => Attempt::Full(picked, response, hint),
                None => Attempt::Done(Ok(self.answer(picked, response))),
            },
            Err(SendFailure::Stale(_)) => {
                Attempt::Unsent(picked, "the connection was closed".into())
            }
            Err(SendFailure::Refused(error)) => Attempt::Unsent(picked, error),
            Err(SendFailure::Broken(status)) => Attempt::Done(Err(broken(picked, &status))),
        }
    }

    async fn connect(&mut self, picked: &Picked) -> Result<Sender, DialError> {
        self.stage = Stage::Connecting(Arc::clone(picked.worker()));
        let started = Instant::now();
        let result = picked.worker().connection.sender().await;
        self.connect_duration += started.elapsed();
        result
    }

    /// Sends the request; once more over a new connection when the old one had ended unnoticed.
    async fn send(
        &mut self,
        picked: &mut Picked,
        mut sender: Sender,
        request: Request<ReplayBody>,
    ) -> Result<Response<Incoming>, SendFailure> {
        self.stage = Stage::Calling(Arc::clone(picked.worker()));
        mark_sent(picked, Some(Instant::now()));
        let mut result = connection::send(&mut sender, request).await;
        if let Err(SendFailure::Stale(request)) = result {
            mark_sent(picked, None);
            let mut sender = match self.connect(picked).await {
                Ok(sender) => sender,
                Err(error) => return Err(SendFailure::Refused(error.to_string())),
            };
            self.stage = Stage::Calling(Arc::clone(picked.worker()));
            mark_sent(picked, Some(Instant::now()));
            result = connection::send(&mut sender, *request).await;
        }
        if let Err(SendFailure::Stale(_) | SendFailure::Refused(_)) = result {
            mark_sent(picked, None);
        }
        result
    }

    fn request(&self, picked: &Picked, body: ReplayBody) -> Result<Request<ReplayBody>, String> {
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri(picked.worker())?;
        let headers = request.headers_mut();
        headers.clone_from(&self.head.headers);
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT_TEXT));
        if let Some(token) = picked.token() {
            let token =
                HeaderValue::try_from(token.to_string()).map_err(|error| error.to_string())?;
            headers.insert(METADATA_KEY, token);
        }
        if let Some(deadline) = self.deadline {
            deadline::write(headers, deadline, Instant::now());
        }
        Ok(request)
    }

    fn uri(&self, worker: &Worker) -> Result<Uri, String> {
        let authority = worker.authority.clone().ok_or("its address is not valid")?;
        let mut parts = self.head.uri.clone().into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(authority);
        Uri::from_parts(parts).map_err(|error| error.to_string())
    }

    fn answer(&self, picked: Picked, mut response: Response<Incoming>) -> Response<Body> {
        self.body.stop_keeping();
        picked.worker().reinstate();
        response.extensions_mut().insert(CallInfo {
            worker_id: picked.worker_id().clone(),
            address: Arc::clone(&picked.worker().address),
            balancer_id: picked.balancer.clone(),
            source: picked.source(),
            pick_duration: self.pick_duration,
            connect_duration: self.connect_duration,
            attempts: self.attempts,
        });
        let guard = Guard::new(Arc::clone(&self.shared), picked);
        response::guarded(response, guard, self.deadline)
    }
}

fn mark_sent(picked: &mut Picked, at: Option<Instant>) {
    if let Some(ticket) = &mut picked.ticket {
        ticket.sent_at = at;
    }
}

/// The call does not go to this worker: UNAVAILABLE if it failed, RESOURCE_EXHAUSTED if it was full, CANCELLED if it was not asked.
fn give_back(mut picked: Picked, code: Code) {
    if let Some(ticket) = picked.ticket.take() {
        ticket.settle(code);
    }
}

/// The connection broke under the call, which may have run: the caller decides what to do.
fn broken(mut picked: Picked, status: &Status) -> Status {
    if status.code() == Code::Unavailable {
        picked.worker().eject(now_ms());
    }
    if let Some(ticket) = picked.ticket.take() {
        ticket.settle(status.code());
    }
    response::at(picked.worker(), status)
}

/// The status when nobody is left to try: what went wrong before says more than that.
fn exhausted(trouble: Option<String>, status: Status) -> Status {
    match trouble {
        Some(trouble) => Status::unavailable(format!("{trouble}; then: {}", status.message())),
        None => status,
    }
}

/// A worker in messages.
pub(crate) fn name(worker: &Worker) -> String {
    format!("worker {} at {}", worker.id, worker.address)
}
