//! Offers this host to every balancer, and hears their plans.
//!
//! One task per balancer runs [`keep`]: dial, say hello, report, and when the stream is lost dial again, as workers do (`lb-link`). While a
//! balancer is registered with, what it wants stands in [`Orders`]; when the stream ends it is taken out.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval_at, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming, transport::Channel};
use tracing::{debug, info, warn};

use lb_core::id::{BalancerId, ClusterName, HostId, ServiceName};
use lb_link::{DialError, Place, Refusal, Source, Trouble, dial};
use lb_proto::{
    parse::scaler::{Report, host_plan, wire_host_report},
    v1::{
        Goodbye, Refused, ScalerHello, ScalerMessage, ScalerOrder,
        scaler_message::Kind as Outgoing, scaler_order::Kind as Incoming,
        scaling_client::ScalingClient,
    },
};
use lb_tls::Tls;

use crate::{daemon::Capacity, plans::Orders};

/// A balancer answers a hello at once or not at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Messages waiting for the network: a queue would only make reports old.
const OUTBOX: usize = 2;
/// Least time between two reports: instances that come together cost a few.
const SPACING: Duration = Duration::from_millis(50);
/// No balancer may ask for more reports than this.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);
/// After its goodbye a scaler waits this long for the balancer to close the stream.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// What every registration of this scaler shares.
pub(crate) struct Registrar {
    pub(crate) host: HostId,
    pub(crate) cluster: ClusterName,
    pub(crate) services: Vec<ServiceName>,
    pub(crate) executor: &'static str,
    /// Drawn at the start: tells this process on a new connection from a second one.
    pub(crate) instance: u64,
    pub(crate) tls: Tls,
    /// Another one is offered on another stream.
    pub(crate) capacity: watch::Receiver<Capacity>,
    pub(crate) reports: watch::Receiver<Report>,
    pub(crate) orders: watch::Sender<Orders>,
    /// Say goodbye.
    pub(crate) leave: CancellationToken,
}

/// Registers with everyone in `source` until the scaler leaves; then says goodbye to all.
pub(crate) async fn follow(registrar: Arc<Registrar>, source: Source) {
    let leave = registrar.leave.clone();
    lb_link::follow(source, leave, |place| keep(Arc::clone(&registrar), place)).await;
}

/// Why there is no registration (any more).
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the balancer does not take scalers")]
    Open(#[source] Box<Status>),
    #[error("the balancer did not answer the hello within {} s", ANSWER_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("the balancer said something that is not understood")]
    Nonsense,
    #[error("balancer {0} says something that cannot be")]
    Unsound(BalancerId, #[source] lb_proto::parse::ParseError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the stream to balancer {0} broke")]
    Broken(BalancerId, #[source] Box<Status>),
    #[error("balancer {0} closed the stream")]
    Closed(BalancerId),
}

/// How a stream ended in order.
enum End {
    /// The scaler leaves.
    Left,
    /// Another capacity is to be offered.
    Changed,
}

async fn keep(registrar: Arc<Registrar>, mut place: watch::Receiver<Place>) {
    let mut trouble = Trouble::default();
    loop {
        if registrar.leave.is_cancelled() || place.borrow_and_update().is_forgotten(Instant::now())
        {
            return;
        }
        let here = place.borrow().clone();
        let error = match attempt(&registrar, &here, &mut trouble).await {
            Ok(End::Left) => return,
            Ok(End::Changed) => continue,
            Err(error) => error,
        };
        let refusal = if let LinkError::Refused(refusal) = &error { Some(refusal) } else { None };
        let pause = trouble.pause(&error, refusal);
        tokio::select! {
            () = sleep(pause) => {}
            changed = place.changed() => if changed.is_err() { return },
            () = registrar.leave.cancelled() => return,
        }
    }
}

async fn attempt(
    registrar: &Registrar,
    place: &Place,
    trouble: &mut Trouble,
) -> Result<End, LinkError> {
    let (channel, address) = dial(place, None, &registrar.tls).await?;
    let link = open(registrar, channel).await?;
    info!(event = "offered", balancer = %link.balancer, %address, "offered to a balancer");
    trouble.is_over();
    link.run(registrar).await
}

/// An accepted registration.
struct Link {
    balancer: BalancerId,
    heartbeat: Duration,
    outbox: mpsc::Sender<ScalerMessage>,
    inbox: Streaming<ScalerOrder>,
    capacity: watch::Receiver<Capacity>,
    shown: Shown,
}

/// Says hello on a new stream and waits for the answer.
async fn open(registrar: &Registrar, channel: Channel) -> Result<Link, LinkError> {
    let (outbox, messages) = mpsc::channel(OUTBOX);
    let mut capacity = registrar.capacity.clone();
    let hello = hello(registrar, *capacity.borrow_and_update());
    // Queued before anyone waits for the response headers: a server may send them only after the first message.
    let _ = outbox.try_send(message(Outgoing::Hello(hello)));
    let answer = timeout(ANSWER_TIMEOUT, async {
        let mut client = ScalingClient::new(channel);
        let mut inbox = client.offer(ReceiverStream::new(messages)).await?.into_inner();
        let first = inbox.message().await?;
        Ok((first, inbox))
    });
    let (first, inbox) = answer
        .await
        .map_err(|_| LinkError::NoAnswer)?
        .map_err(|status: Status| LinkError::Open(Box::new(status)))?;
    let accepted = match first.and_then(|message| message.kind) {
        Some(Incoming::Accepted(accepted)) => accepted,
        Some(Incoming::Refused(refused)) => return Err(refusal(refused)),
        _ => return Err(LinkError::Nonsense),
    };
    let balancer: BalancerId = accepted.balancer_id.parse().map_err(|_| LinkError::Nonsense)?;
    let shown = Shown::put_up(registrar.orders.clone(), balancer.clone());
    // Half of it, so that one that is late is still in time.
    let heartbeat = Duration::from_millis(accepted.heartbeat_ms.into()) / 2;
    let heartbeat = heartbeat.max(SHORTEST_HEARTBEAT);
    Ok(Link { balancer, heartbeat, outbox, inbox, capacity, shown })
}

fn hello(registrar: &Registrar, capacity: Capacity) -> ScalerHello {
    let Capacity { bounds, needs } = capacity;
    ScalerHello {
        host_id: registrar.host.to_string(),
        instance: registrar.instance,
        cluster: registrar.cluster.to_string(),
        services: registrar.services.iter().map(ToString::to_string).collect(),
        min: bounds.min(),
        max: bounds.max(),
        instance_millicores: needs.millicores,
        instance_memory: needs.memory,
        executor: registrar.executor.into(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

fn refusal(refused: Refused) -> LinkError {
    LinkError::Refused(Refusal {
        code: Code::from_i32(refused.code),
        reason: refused.reason,
        retry_after: Duration::from_millis(refused.retry_after_ms.into()),
    })
}

impl Link {
    /// Reports until the scaler leaves or the stream is lost.
    async fn run(mut self, registrar: &Registrar) -> Result<End, LinkError> {
        let mut reports = registrar.reports.clone();
        let mut beats = interval_at(Instant::now() + self.heartbeat, self.heartbeat);
        self.report(&mut reports);
        loop {
            tokio::select! {
                biased;
                () = registrar.leave.cancelled() => return Ok(self.leave().await),
                changed = self.capacity.changed() => if changed.is_ok() { return Ok(End::Changed) },
                incoming = self.inbox.message() => self.hear(incoming)?,
                Ok(()) = reports.changed() => {
                    sleep(SPACING).await;
                    self.report(&mut reports);
                    beats.reset();
                }
                _ = beats.tick() => self.report(&mut reports),
            }
        }
    }

    fn report(&self, reports: &mut watch::Receiver<Report>) {
        let report = wire_host_report(&reports.borrow_and_update());
        // With the outbox full, the network is slower than our reports; the next one is as good.
        let _ = self.outbox.try_send(message(Outgoing::Report(report)));
    }

    fn hear(&mut self, incoming: Result<Option<ScalerOrder>, Status>) -> Result<(), LinkError> {
        let balancer = &self.balancer;
        let incoming = incoming
            .map_err(|source| LinkError::Broken(balancer.clone(), Box::new(source)))?
            .ok_or_else(|| LinkError::Closed(balancer.clone()))?;
        match incoming.kind {
            Some(Incoming::Plan(plan)) => {
                let order =
                    host_plan(plan).map_err(|error| LinkError::Unsound(balancer.clone(), error))?;
                self.shown.set(order);
            }
            Some(Incoming::Refused(refused)) => return Err(refusal(refused)),
            Some(Incoming::Accepted(_)) | None => {
                warn!(%balancer, "a balancer sent a message that is not understood");
            }
        }
        Ok(())
    }

    async fn leave(mut self) -> End {
        let goodbye = Goodbye { reason: "stopped".into() };
        let farewell = async {
            let _ = self.outbox.send(message(Outgoing::Goodbye(goodbye))).await;
            drop(self.outbox);
            while let Ok(Some(_)) = self.inbox.message().await {}
        };
        if timeout(GOODBYE_TIMEOUT, farewell).await.is_err() {
            debug!(balancer = %self.balancer, "a balancer did not close the stream after the goodbye");
        }
        End::Left
    }
}

fn message(kind: Outgoing) -> ScalerMessage {
    ScalerMessage { kind: Some(kind) }
}

/// What a balancer wants, shown until this is dropped.
struct Shown {
    orders: watch::Sender<Orders>,
    balancer: BalancerId,
}

impl Shown {
    fn put_up(orders: watch::Sender<Orders>, balancer: BalancerId) -> Self {
        orders.send_modify(|orders| {
            orders.insert(balancer.clone(), None);
        });
        Self { orders, balancer }
    }

    fn set(&self, order: lb_proto::parse::scaler::HostOrder) {
        self.orders.send_modify(|orders| {
            orders.insert(self.balancer.clone(), Some(Arc::new(order)));
        });
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.orders.send_modify(|orders| {
            orders.remove(&self.balancer);
        });
    }
}
