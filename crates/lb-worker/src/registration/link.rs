//! One registration stream, from hello to goodbye.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tracing::{debug, info, warn};

use super::{
    Registrar,
    board::{self, DrainAnswer, Entry, Shown},
    pace::{Pace, Pending},
};
use crate::{
    load::{LoadView, OpenTally, Tallies},
    state::State,
    usage::Usage,
};
use lb_core::id::{BalancerId, WorkerNumber};
use lb_link::{DialError, Refusal};
use lb_proto::v1::{
    self, registry_client::RegistryClient, registry_message::Kind as Incoming,
    worker_message::Kind as Outgoing,
};

/// A balancer answers a hello at once or not at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Messages waiting for the network: a hello or a report, and a goodbye. A queue would only make reports old.
const OUTBOX: usize = 2;
/// After its goodbye a worker waits this long for the balancer to close the stream, so that the
/// goodbye is read before the connection goes.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// Why there is no registration (any more).
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("balancer {address} does not take registrations")]
    Open { address: SocketAddr, source: Box<Status> },
    #[error("balancer {address} did not answer the hello within {} s", ANSWER_TIMEOUT.as_secs())]
    NoAnswer { address: SocketAddr },
    #[error("balancer {address} answered the hello with something else than Accepted or Refused")]
    Nonsense { address: SocketAddr },
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the stream to balancer {balancer} broke")]
    Broken { balancer: BalancerId, source: Box<Status> },
    #[error("balancer {balancer} closed the stream")]
    Closed { balancer: BalancerId },
}

/// An accepted registration.
#[derive(Debug)]
pub(super) struct Link {
    balancer: BalancerId,
    number: WorkerNumber,
    outbox: mpsc::Sender<v1::WorkerMessage>,
    inbox: Streaming<v1::RegistryMessage>,
    pace: Pace,
    tally: OpenTally,
    shown: Shown,
}

/// Says hello on a new stream and waits for the answer.
pub(super) async fn open(
    registrar: &Registrar,
    key: board::Key,
    channel: Channel,
    address: SocketAddr,
) -> Result<Link, LinkError> {
    let (outbox, messages) = mpsc::channel(OUTBOX);
    // Queued before anyone waits for the response headers: a server may send them only after the first message.
    let _ = outbox.try_send(message(Outgoing::Hello(registrar.hello.clone())));
    let answer = timeout(ANSWER_TIMEOUT, async {
        let mut client = RegistryClient::new(channel);
        let mut inbox = client.register(ReceiverStream::new(messages)).await?.into_inner();
        let first = inbox.message().await?;
        Ok((first, inbox))
    });
    let (first, inbox) = answer
        .await
        .map_err(|_| LinkError::NoAnswer { address })?
        .map_err(|status: Status| LinkError::Open { address, source: Box::new(status) })?;
    let accepted = match first.and_then(|message| message.kind) {
        Some(Incoming::Accepted(accepted)) => accepted,
        Some(Incoming::Refused(refused)) => return Err(refusal(refused)),
        _ => return Err(LinkError::Nonsense { address }),
    };
    let balancer: BalancerId =
        accepted.balancer_id.parse().map_err(|_| LinkError::Nonsense { address })?;
    let number = WorkerNumber(accepted.worker_number);
    let tally = registrar.load.open_tally(balancer.clone(), number);
    let entry = Entry { balancer: balancer.clone(), tally: tally.id(), drain: None };
    let shown = registrar.board.put_up(key, entry);
    let pace = Pace::new(&accepted, Instant::now(), fastrand::f64());
    Ok(Link { balancer, number, outbox, inbox, pace, tally, shown })
}

fn refusal(refused: v1::Refused) -> LinkError {
    LinkError::Refused(Refusal {
        code: Code::from_i32(refused.code),
        reason: refused.reason,
        retry_after: Duration::from_millis(refused.retry_after_ms.into()),
    })
}

impl LinkError {
    /// What the balancer has said, if it has said no.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        if let Self::Refused(refusal) = self { Some(refusal) } else { None }
    }
}

impl Link {
    pub(super) fn balancer(&self) -> &BalancerId {
        &self.balancer
    }

    pub(super) fn number(&self) -> WorkerNumber {
        self.number
    }

    /// Reports until the worker leaves (`Ok`) or the stream is lost.
    pub(super) async fn run(mut self, registrar: &Registrar) -> Result<(), LinkError> {
        let mut news = self.tally.news();
        let mut state = registrar.state.changes();
        let mut pending = Pending::State;
        loop {
            tokio::select! {
                biased;
                () = registrar.leave.cancelled() => return self.leave().await,
                incoming = self.inbox.message() => self.obey(incoming, registrar)?,
                Ok(()) = state.changed() => pending = Pending::State,
                () = sleep_until(self.pace.due(pending)) => {
                    pending = self.report(registrar, &mut news, &mut state);
                }
                Ok(()) = news.changed(), if pending == Pending::Nothing => {
                    pending = Pending::News;
                }
            }
        }
    }

    /// Sends what is true now, and returns what remains to be told.
    fn report(
        &mut self,
        registrar: &Registrar,
        news: &mut watch::Receiver<()>,
        states: &mut watch::Receiver<State>,
    ) -> Pending {
        // Marked as seen before they are read: what happens from here on is to be told.
        news.mark_unchanged();
        let state = *states.borrow_and_update();
        let now = Instant::now();
        if state == State::Serving {
            // What a balancer answered to an earlier drain is void.
            self.shown.set_drain(None);
        }
        let (load, tallies) = registrar.load.view_for(self.tally.id(), now);
        let usage = *registrar.usage.borrow();
        let report = report(state, registrar.load.slots(), &load, &tallies, usage);
        let sent = self.outbox.try_send(message(Outgoing::Report(report)));
        self.pace.sent(now);
        // With the outbox full, the network is slower than our reports; the next one is as good.
        if sent.is_err() { Pending::News } else { Pending::Nothing }
    }

    fn obey(
        &mut self,
        incoming: Result<Option<v1::RegistryMessage>, Status>,
        registrar: &Registrar,
    ) -> Result<(), LinkError> {
        let balancer = &self.balancer;
        let incoming = incoming
            .map_err(|source| LinkError::Broken {
                balancer: balancer.clone(),
                source: Box::new(source),
            })?
            .ok_or_else(|| LinkError::Closed { balancer: balancer.clone() })?;
        match incoming.kind {
            Some(Incoming::Order(order)) => obey_order(order.state(), balancer, registrar),
            Some(Incoming::DrainAck(ack)) => {
                debug!(
                    %balancer, picked = ack.picked_expected, session = ack.session_expected,
                    lease_ms = ack.lease_ms, "a balancer picks this worker no more"
                );
                self.shown.set_drain(Some(DrainAnswer::new(&ack, Instant::now())));
            }
            Some(Incoming::Refused(refused)) => return Err(refusal(refused)),
            Some(Incoming::Accepted(_)) | None => {
                warn!(%balancer, "a balancer sent a message that is not understood");
            }
        }
        Ok(())
    }

    async fn leave(mut self) -> Result<(), LinkError> {
        let goodbye = v1::Goodbye { reason: "stopped".into() };
        let farewell = async {
            let _ = self.outbox.send(message(Outgoing::Goodbye(goodbye))).await;
            drop(self.outbox);
            while let Ok(Some(_)) = self.inbox.message().await {}
        };
        if timeout(GOODBYE_TIMEOUT, farewell).await.is_err() {
            debug!(balancer = %self.balancer, "a balancer did not close the stream after the goodbye");
        }
        Ok(())
    }
}

fn obey_order(wanted: v1::WorkerState, balancer: &BalancerId, registrar: &Registrar) {
    let wanted = match wanted {
        v1::WorkerState::Serving => State::Serving,
        v1::WorkerState::Draining => State::Draining,
        v1::WorkerState::Unspecified => {
            warn!(%balancer, "a balancer ordered a state that is not known");
            return;
        }
    };
    if registrar.state.order(wanted) {
        info!(event = "state_ordered", %balancer, state = ?wanted, "an operator changed the state of this worker");
    }
}

fn message(kind: Outgoing) -> v1::WorkerMessage {
    v1::WorkerMessage { kind: Some(kind) }
}

fn report(
    state: State,
    slots: u16,
    load: &LoadView,
    tallies: &Tallies,
    usage: Usage,
) -> v1::LoadReport {
    v1::LoadReport {
        state: state.to_proto().into(),
        in_flight: load.in_flight,
        queued: load.queued,
        slots: slots.into(),
        picked: Some(v1::TokenCounts { seen: tallies.picked.seen, done: tallies.picked.done }),
        session: Some(v1::TokenCounts { seen: tallies.session.seen, done: tallies.session.done }),
        completed_total: load.completed_total,
        errors_total: load.errors_total,
        faults_total: load.faults_total,
        in_flight_integral: load.in_flight_time.as_secs_f64(),
        busy_seconds: load.busy_time.as_secs_f64(),
        cpu: usage.cpu,
        memory: usage.memory,
        measured: load.measured,
    }
}
