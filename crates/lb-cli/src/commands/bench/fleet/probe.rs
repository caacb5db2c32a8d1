//! How long a pick takes, asked at a low rate: what is timed is the way to the balancer and back, not a queue of our own.

use std::{convert::Infallible, time::Duration};

use anyhow::Context as _;
use futures_util::stream;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, transport::Channel};

use lb_proto::v1::{
    Outcome, PickRequest, SessionOpen, SessionPick, SessionRequest, SessionResponse,
    load_balancer_client::LoadBalancerClient,
};

use crate::failure::Failure;

/// The service picked for. Nobody is called.
pub(super) const SERVICE: &str = "lb.v1.Compute";

/// Between two picks of a kind: a hundred a second cost the balancer below a hundredth of a core.
const SPACING: Duration = Duration::from_millis(10);

/// Longest latency told apart, in nanoseconds: a minute.
const LONGEST: u64 = 60_000_000_000;

/// Requests of a session on their way; there is never more than one.
const REQUEST_QUEUE: usize = 1;

/// Picks of one kind.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Latency {
    pub(super) picks: u64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// Picks of both kinds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Latencies {
    pub(super) unary: Latency,
    pub(super) session: Latency,
}

/// Times picks for a while, unary ones and those of a session in turn.
pub(super) async fn measure(
    channel: &Channel,
    time: Duration,
    stop: &CancellationToken,
) -> Result<Latencies, Failure> {
    let new = || Histogram::new_with_max(LONGEST, 3).context("cannot make a histogram");
    let mut times = Times { unary: new()?, session: new()? };
    let client = LoadBalancerClient::new(channel.clone());
    let picked = timeout(time, stop.run_until_cancelled(times.pick(client))).await;
    match picked {
        Ok(Some(Err(status))) => Err(Failure::Status(status)),
        Ok(None) | Err(_) => {
            Ok(Latencies { unary: latency(&times.unary), session: latency(&times.session) })
        }
    }
}

/// Latencies in nanoseconds, three digits.
struct Times {
    unary: Histogram<u64>,
    session: Histogram<u64>,
}

impl Times {
    async fn pick(
        &mut self,
        mut client: LoadBalancerClient<Channel>,
    ) -> Result<Infallible, Status> {
        let mut session = Session::open(client.clone()).await?;
        let mut ticks = interval(SPACING);
        loop {
            let since = start(ticks.tick().await);
            client.pick(PickRequest { service: SERVICE.into(), ..PickRequest::default() }).await?;
            record(&mut self.unary, since);
            let since = Instant::now();
            session.pick().await?;
            record(&mut self.session, since);
        }
    }
}

/// A pick starts when it was due, if an earlier one has kept it waiting, so that a long stall counts for all
/// it delayed; else now, since timers are coarse.
fn start(due: Instant) -> Instant {
    if due.elapsed() > SPACING { due } else { Instant::now() }
}

fn record(latencies: &mut Histogram<u64>, since: Instant) {
    latencies.saturating_record(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
}

fn latency(latencies: &Histogram<u64>) -> Latency {
    let quantile = |at| Duration::from_nanos(latencies.value_at_quantile(at)).as_secs_f64() * 1e6;
    Latency { picks: latencies.len(), p50_us: quantile(0.5), p99_us: quantile(0.99) }
}

/// A session with one pick at a time, whose calls are given back unsent.
struct Session {
    requests: mpsc::Sender<SessionRequest>,
    answers: Streaming<SessionResponse>,
    given_back: Option<Outcome>,
}

impl Session {
    async fn open(mut client: LoadBalancerClient<Channel>) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(REQUEST_QUEUE);
        let open = SessionOpen { service: SERVICE.into(), ..SessionOpen::default() };
        let first = SessionRequest { open: Some(open), ..SessionRequest::default() };
        requests.send(first).await.map_err(|_| ended())?;
        let said = stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|request| (request, receiver))
        });
        let answers = client.session(Box::pin(said)).await?.into_inner();
        Ok(Self { requests, answers, given_back: None })
    }

    async fn pick(&mut self) -> Result<(), Status> {
        let request = SessionRequest {
            picks: vec![SessionPick::default()],
            outcomes: self.given_back.take().into_iter().collect(),
            ..SessionRequest::default()
        };
        self.requests.send(request).await.map_err(|_| ended())?;
        loop {
            let answer = self.answers.message().await?.ok_or_else(ended)?;
            if let Some(failure) = answer.failures.first() {
                return Err(Status::new(failure.code.into(), failure.message.clone()));
            }
            if let Some(choice) = answer.choices.first() {
                let (worker_number, sequence) = (choice.worker_number, choice.sequence);
                self.given_back = Some(Outcome { worker_number, sequence, ..Outcome::default() });
                return Ok(());
            }
        }
    }
}

fn ended() -> Status {
    Status::unavailable("the balancer ended the session")
}
