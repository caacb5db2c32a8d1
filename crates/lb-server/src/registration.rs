//! `Registry.Register`: one task per worker's stream, which passes on what it hears and is told.

use std::{net::IpAddr, pin::Pin, time::Duration};

use futures_util::Stream;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};

use lb_core::{
    estimator::LEASE,
    id::{BalancerId, ClusterName, WorkerNumber},
    registry::{Departure, HEARTBEAT, Refusal},
};
use lb_proto::{
    parse,
    v1::{
        self, Accepted, DrainAck, Refused, RegistryMessage, StateOrder, WorkerMessage,
        registry_message::Kind as Answer, registry_server::Registry, worker_message::Kind as Said,
    },
};

use crate::{
    owner::{Event, Handle, ORDER_QUEUE, Order},
    status::IntoStatus as _,
};

/// Least time between two reports of a worker. At most fifty a second keep an estimate that is corrected by the
/// balancer's own counts as good as exact, and cost a worker nothing.
const REPORT_INTERVAL: Duration = Duration::from_millis(20);

/// How long a new stream may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers waiting for a worker's connection.
const ANSWER_QUEUE: usize = ORDER_QUEUE;

/// When a worker whose id is taken should ask again: the holder may be dead and not yet missed.
const RETRY_TAKEN: Duration = HEARTBEAT;

/// When a worker should ask a full balancer again.
const RETRY_FULL: Duration = Duration::from_secs(10);

/// The registration service.
pub(crate) struct Registration {
    pub(crate) owner: Handle,
    pub(crate) balancer: BalancerId,
    pub(crate) cluster: ClusterName,
    pub(crate) stop: CancellationToken,
}

type Answers = Pin<Box<dyn Stream<Item = Result<RegistryMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Registry for Registration {
    type RegisterStream = Answers;

    async fn register(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Answers>, Status> {
        let peer = request.remote_addr().map(|address| address.ip());
        let peer = peer.ok_or_else(|| Status::internal("the connection has no peer address"))?;
        let (answers, receiver) = mpsc::channel(ANSWER_QUEUE);
        let stream = WorkerStream {
            owner: self.owner.clone(),
            balancer: self.balancer.clone(),
            cluster: self.cluster.clone(),
            peer,
            said: request.into_inner(),
            answers,
        };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            // Dropping the stream ends it; the owner hears of it from the guard inside.
            stop.run_until_cancelled_owned(stream.run()).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

struct WorkerStream {
    owner: Handle,
    balancer: BalancerId,
    cluster: ClusterName,
    peer: IpAddr,
    said: Streaming<WorkerMessage>,
    answers: mpsc::Sender<Result<RegistryMessage, Status>>,
}

/// How a stream came to its end.
enum End {
    /// The worker went, or its connection did.
    Departed(Departure),
    /// The owner has already put the worker out.
    PutOut,
    /// The worker said something that cannot be.
    Rejected(Status),
}

impl WorkerStream {
    async fn run(mut self) {
        let (order_sender, orders) = mpsc::channel(ORDER_QUEUE);
        let number = match self.admit(order_sender).await {
            Ok(number) => number,
            Err(refused) => return self.refuse(refused).await,
        };
        let mut registered =
            Registered { owner: self.owner.clone(), number, departure: Some(Departure::Broken) };
        match self.follow(number, orders).await {
            End::Departed(cause) => registered.departure = Some(cause),
            End::PutOut => registered.departure = None,
            End::Rejected(status) => self.reject(status).await,
        }
    }

    /// From the first message to a number, or to the reason why not.
    async fn admit(&mut self, orders: mpsc::Sender<Order>) -> Result<WorkerNumber, Refused> {
        let hello = self.hello().await.map_err(|status| refused(&status, Duration::ZERO))?;
        let parsed = parse::hello(hello, self.peer)
            .map_err(|error| refused(&error.into_status(), Duration::ZERO))?;
        if parsed.cluster != self.cluster {
            let reason = format!(
                "hello.cluster is {}: this balancer serves cluster {}",
                parsed.cluster, self.cluster
            );
            return Err(refused(&Status::failed_precondition(reason), Duration::ZERO));
        }
        let ask = |reply| Event::Hello { hello: Box::new(parsed.hello), orders, reply };
        let admitted = self.owner.ask(ask).await;
        let admitted = admitted.map_err(|stopping| refused(&stopping.into_status(), HEARTBEAT))?;
        admitted.map_err(|refusal| {
            let retry = match refusal {
                Refusal::Taken { .. } => RETRY_TAKEN,
                Refusal::Full => RETRY_FULL,
            };
            refused(&refusal.into_status(), retry)
        })
    }

    async fn hello(&mut self) -> Result<v1::Hello, Status> {
        let expected = || Status::invalid_argument("expected a hello as the first message");
        let first = timeout(HELLO_TIMEOUT, self.said.message()).await;
        match first.map_err(|_| Status::deadline_exceeded("no hello within 5 seconds"))?? {
            Some(WorkerMessage { kind: Some(Said::Hello(hello)) }) => Ok(hello),
            _ => Err(expected()),
        }
    }

    /// Passes reports up and orders down until one side has enough.
    async fn follow(&mut self, number: WorkerNumber, mut orders: mpsc::Receiver<Order>) -> End {
        if !self.answer(Answer::Accepted(self.accepted(number))).await {
            return End::Departed(Departure::Broken);
        }
        loop {
            let end = tokio::select! {
                said = self.said.message() => self.hear(number, said).await,
                order = orders.recv() => self.obey(order).await,
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    async fn hear(
        &mut self,
        number: WorkerNumber,
        said: Result<Option<WorkerMessage>, Status>,
    ) -> Option<End> {
        let kind = match said {
            Ok(Some(WorkerMessage { kind })) => kind,
            Ok(None) => return Some(End::Departed(Departure::Broken)),
            Err(error) => {
                debug!(worker = %number, %error, "a worker's stream broke");
                return Some(End::Departed(Departure::Broken));
            }
        };
        match kind {
            Some(Said::Report(message)) => match parse::load_report(&message) {
                Ok(report) => {
                    let sent = self.owner.send(Event::Report { worker: number, report }).await;
                    sent.is_err().then_some(End::PutOut)
                }
                Err(error) => {
                    warn!(worker = %number, %error, "a load report was refused and its stream ended");
                    Some(End::Rejected(error.into_status()))
                }
            },
            Some(Said::Goodbye(_)) => Some(End::Departed(Departure::Goodbye)),
            Some(Said::Hello(_)) => Some(End::Rejected(Status::invalid_argument(
                "hello was already said on this stream",
            ))),
            None => Some(End::Rejected(Status::invalid_argument(
                "kind is not set: expected hello, report or goodbye",
            ))),
        }
    }

    async fn obey(&mut self, order: Option<Order>) -> Option<End> {
        let answer = match order? {
            Order::State(state) => {
                Answer::Order(StateOrder { state: parse::wire_state(state).into() })
            }
            Order::DrainAck(expected) => Answer::DrainAck(DrainAck {
                picked_expected: expected.picked,
                session_expected: expected.session,
                lease_ms: milliseconds(LEASE),
            }),
            Order::End(cause) => {
                let status = Status::aborted(format!("this worker is out: {cause}"));
                self.reject(status).await;
                return Some(End::PutOut);
            }
            Order::Reject(error) => return Some(End::Rejected(error.into_status())),
        };
        let told = self.answer(answer).await;
        (!told).then_some(End::Departed(Departure::Broken))
    }

    fn accepted(&self, number: WorkerNumber) -> Accepted {
        Accepted {
            balancer_id: self.balancer.to_string(),
            worker_number: number.0,
            report_interval_ms: milliseconds(REPORT_INTERVAL),
            heartbeat_ms: milliseconds(HEARTBEAT),
        }
    }

    async fn answer(&self, kind: Answer) -> bool {
        self.answers.send(Ok(RegistryMessage { kind: Some(kind) })).await.is_ok()
    }

    async fn reject(&self, status: Status) {
        // If the worker is gone already, nobody is left to tell.
        drop(self.answers.send(Err(status)).await);
    }

    /// Says why, both as a message and as the status the stream ends with.
    async fn refuse(&self, refused: Refused) {
        warn!(peer = %self.peer, reason = %refused.reason, "a registration was refused");
        let status = Status::new(refused.code.into(), refused.reason.clone());
        if self.answer(Answer::Refused(refused)).await {
            self.reject(status).await;
        }
    }
}

fn refused(status: &Status, retry_after: Duration) -> Refused {
    Refused {
        code: status.code().into(),
        reason: status.message().to_owned(),
        retry_after_ms: milliseconds(retry_after),
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Tells the owner that a worker is out, however its stream ends, also when its task is cancelled.
struct Registered {
    owner: Handle,
    number: WorkerNumber,
    /// `None`: the owner knows.
    departure: Option<Departure>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Some(cause) = self.departure else { return };
        let event = Event::Closed { worker: self.number, cause };
        if let Err(event) = self.owner.try_send(event) {
            let owner = self.owner.clone();
            // The queue is full: wait for room, off this thread. If the owner has stopped, there is nothing to tell.
            tokio::spawn(async move { drop(owner.send(event).await) });
        }
    }
}
