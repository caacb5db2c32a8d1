//! `Scaling.Offer`: a scaler's stream, from its hello to its end. There are few, so each has a task.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};

use lb_core::{
    id::{BalancerId, ClusterName, HostId},
    registry::HEARTBEAT,
};
use lb_proto::{
    parse::scaler::{self, HostOrder, Offer},
    v1::{
        HostReport, Refused, ScalerAccepted, ScalerHello, ScalerMessage, ScalerOrder,
        scaler_message::Kind as Said, scaler_order::Kind as Answer, scaling_server::Scaling,
    },
};
use lb_tls::{Identity, rights::may_offer};

use super::{Event, Refusal, StreamKey};
use crate::{
    balancer::peer,
    limits::{Place, Places},
    owner::{Handle, Stopping},
    registration::{HELLO_TIMEOUT, is_private, milliseconds, refused},
    status::IntoStatus,
};

/// A scaler that has been silent for so long is gone: three heartbeats. It decides nothing about its workers, whose own streams
/// tell sooner, so there is no hurry.
const SILENCE: Duration = HEARTBEAT.saturating_mul(3);
/// Answers waiting for the network.
const OUTBOX: usize = 2;
/// When a scaler whose host is taken should ask again: the holder may be dead and not yet missed.
const RETRY_TAKEN: Duration = HEARTBEAT;
/// When it should ask a full balancer again.
const RETRY_FULL: Duration = Duration::from_secs(10);

/// The service for scalers.
pub(crate) struct Offering {
    pub(crate) owner: Handle,
    pub(crate) balancer: BalancerId,
    pub(crate) cluster: ClusterName,
    /// Whether scalers prove who they are.
    pub(crate) identified: bool,
    pub(crate) places: Places,
    pub(crate) stop: CancellationToken,
}

type Outbox = mpsc::Sender<Result<ScalerOrder, Status>>;

#[tonic::async_trait]
impl Scaling for Offering {
    type OfferStream = ReceiverStream<Result<ScalerOrder, Status>>;

    async fn offer(
        &self,
        request: Request<Streaming<ScalerMessage>>,
    ) -> Result<Response<Self::OfferStream>, Status> {
        let peer = peer(&request);
        let Some(address) = peer.address else {
            return Err(Status::internal("the connection has no peer address"));
        };
        if !self.identified && !is_private(address.ip()) {
            let text = "without certificates (mode mtls) only scalers in private and link-local networks may register";
            return Err(Status::permission_denied(text));
        }
        let place = self.places.take(&peer)?;
        let newcomer = Newcomer {
            owner: self.owner.clone(),
            balancer: self.balancer.clone(),
            cluster: self.cluster.clone(),
            identity: peer.identity,
            said: request.into_inner(),
            _place: place,
        };
        let (outbox, answers) = mpsc::channel(OUTBOX);
        let stop = self.stop.clone();
        tokio::spawn(stop.run_until_cancelled_owned(newcomer.serve(outbox)));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// A stream that has yet to say whose it is.
struct Newcomer {
    owner: Handle,
    balancer: BalancerId,
    cluster: ClusterName,
    identity: Option<Arc<Identity>>,
    said: Streaming<ScalerMessage>,
    _place: Place,
}

impl Newcomer {
    async fn serve(mut self, outbox: Outbox) {
        let (sender, orders) = watch::channel(Arc::default());
        let admitted = self.admit(sender).await;
        let (host, key) = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => {
                warn!(reason = %refused.reason, "a scaler was refused");
                let status = Status::new(refused.code.into(), refused.reason.clone());
                // Says why, both as a message and as the status the stream ends with.
                let _ = outbox.send(Ok(answer(Answer::Refused(refused)))).await;
                let _ = outbox.send(Err(status)).await;
                return;
            }
        };
        let accepted = ScalerAccepted {
            balancer_id: self.balancer.to_string(),
            heartbeat_ms: milliseconds(HEARTBEAT),
        };
        let mut member =
            Member { owner: self.owner, host, key, said: self.said, orders, leaves: false };
        if outbox.send(Ok(answer(Answer::Accepted(accepted)))).await.is_ok() {
            let ended = member.serve(&outbox).await;
            if let Err(status) = ended {
                let _ = outbox.send(Err(status)).await;
            }
        }
    }

    async fn admit(&mut self, orders: super::Orders) -> Result<(HostId, StreamKey), Refused> {
        let offer = self.offer().await.map_err(|status| refused(&status, Duration::ZERO))?;
        let host = offer.host.clone();
        let ask = |reply| Event::Hello { offer: Box::new(offer), orders, reply }.into();
        let admitted = self.owner.ask(ask).await;
        let admitted =
            admitted.map_err(|stopping: Stopping| refused(&stopping.into_status(), HEARTBEAT))?;
        let key = admitted.map_err(|refusal| {
            let retry = match refusal {
                Refusal::Taken(_) => RETRY_TAKEN,
                Refusal::Full => RETRY_FULL,
                Refusal::OtherService(_) => Duration::ZERO,
            };
            refused(&refusal.into_status(), retry)
        })?;
        Ok((host, key))
    }

    /// What is offered, if it may be.
    async fn offer(&mut self) -> Result<Offer, Status> {
        let offer = scaler::offer(self.hello().await?).map_err(IntoStatus::into_status)?;
        if offer.cluster != self.cluster {
            let (theirs, ours) = (&offer.cluster, &self.cluster);
            let text = format!("hello.cluster is {theirs}: this balancer serves cluster {ours}");
            return Err(Status::failed_precondition(text));
        }
        may_offer(self.identity.as_deref(), &offer.host)?;
        Ok(offer)
    }

    async fn hello(&mut self) -> Result<ScalerHello, Status> {
        let first = timeout(HELLO_TIMEOUT, self.said.message()).await;
        match first.map_err(|_| Status::deadline_exceeded("no hello within 5 seconds"))?? {
            Some(ScalerMessage { kind: Some(Said::Hello(hello)) }) => Ok(hello),
            _ => Err(Status::invalid_argument("expected a hello as the first message")),
        }
    }
}

/// A scaler that is in: reports go up, orders come down. The owner hears of its end however it ends.
struct Member {
    owner: Handle,
    host: HostId,
    key: StreamKey,
    said: Streaming<ScalerMessage>,
    orders: watch::Receiver<Arc<HostOrder>>,
    /// It has said goodbye.
    leaves: bool,
}

/// What a scaler says after its hello.
enum Heard {
    Report(HostReport),
    Goodbye,
    /// Nothing more, without a word.
    End,
}

impl Member {
    /// Until the stream ends; an error is its last word.
    async fn serve(&mut self, outbox: &Outbox) -> Result<(), Status> {
        // What was set before this stream listened is an order as well.
        self.orders.mark_changed();
        loop {
            tokio::select! {
                said = timeout(SILENCE, self.said.message()) => {
                    let silent = |_| Status::aborted("this scaler was silent for three heartbeats");
                    match heard(said.map_err(silent)?)? {
                        Heard::Report(report) => self.report(report).await?,
                        Heard::Goodbye => {
                            self.leaves = true;
                            return Ok(());
                        }
                        Heard::End => return Ok(()),
                    }
                }
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        return Err(Status::aborted("another stream of this scaler took its place"));
                    }
                    let order = Arc::clone(&self.orders.borrow_and_update());
                    let plan = answer(Answer::Plan(scaler::wire_host_plan(&order)));
                    // Whoever takes nothing for so long is gone.
                    match timeout(SILENCE, outbox.send(Ok(plan))).await {
                        Ok(Ok(())) => {}
                        _ => return Ok(()),
                    }
                }
                () = outbox.closed() => return Ok(()),
            }
        }
    }

    async fn report(&self, message: HostReport) -> Result<(), Status> {
        let report = scaler::host_report(message).map_err(IntoStatus::into_status).inspect_err(
            |status| warn!(host = %self.host, error = status.message(), "a report of a scaler was refused"),
        )?;
        let event = Event::Report { host: self.host.clone(), key: self.key, report };
        self.owner.send(event.into()).await.map_err(Stopping::into_status)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let (host, key, in_order) = (self.host.clone(), self.key, self.leaves);
        let event = Event::Gone { host, key, in_order };
        if let Err(event) = self.owner.try_send(event.into()) {
            let owner = self.owner.clone();
            // The queue is full: wait for room, off this thread. If the owner has stopped, there is nothing to tell.
            tokio::spawn(async move { drop(owner.send(event).await) });
        }
    }
}

fn heard(said: Result<Option<ScalerMessage>, Status>) -> Result<Heard, Status> {
    match said {
        Ok(Some(ScalerMessage { kind: Some(Said::Report(report)) })) => Ok(Heard::Report(report)),
        Ok(Some(ScalerMessage { kind: Some(Said::Hello(_)) })) => {
            Err(Status::invalid_argument("hello was already said on this stream"))
        }
        Ok(Some(ScalerMessage { kind: None })) => {
            Err(Status::invalid_argument("kind is not set: expected report or goodbye"))
        }
        Ok(Some(ScalerMessage { kind: Some(Said::Goodbye(_)) })) => Ok(Heard::Goodbye),
        Ok(None) => Ok(Heard::End),
        Err(error) => {
            debug!(%error, "a scaler's stream broke");
            Ok(Heard::End)
        }
    }
}

fn answer(kind: Answer) -> ScalerOrder {
    ScalerOrder { kind: Some(kind) }
}
