//! A registered worker: its reports go up to the owner, orders come down.

use futures_channel::mpsc;
use futures_util::StreamExt as _;
use tokio::task::coop::consume_budget;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, warn};

use lb_core::{estimator::LEASE, id::WorkerNumber, registry::Departure};
use lb_proto::{
    parse,
    v1::{
        DrainAck, LoadReport, StateOrder, WorkerMessage, registry_message::Kind as Answer,
        worker_message::Kind as Said,
    },
};

use super::milliseconds;
use crate::{
    limits::Place,
    owner::{Event, Handle, Order},
    status::IntoStatus as _,
};

/// What a worker's stream says next.
pub(super) enum Next {
    Answer(Answer),
    /// The last word.
    Status(Status),
    /// Nothing more.
    End,
}

/// A registered worker's stream.
pub(super) struct Member {
    registered: Registered,
    said: Streaming<WorkerMessage>,
    orders: mpsc::Receiver<Order>,
}

impl Member {
    pub(super) fn new(
        registered: Registered,
        said: Streaming<WorkerMessage>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        Self { registered, said, orders }
    }

    /// Passes reports up until there is something to say.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            // Nothing else here gives way to other tasks while messages wait that have been received already.
            consume_budget().await;
            let heard = tokio::select! {
                said = self.said.message() => self.hear(said),
                order = self.orders.next() => Err(self.obey(order)),
            };
            let report = match heard {
                Ok(report) => report,
                Err(next) => return next,
            };
            let owner = &self.registered.owner;
            // Nearly always the owner's queue has room. To wait for it is boxed: every stream would keep the space for it.
            if let Err(report) = owner.try_send(report)
                && Box::pin(owner.send(report)).await.is_err()
            {
                return Next::End;
            }
        }
    }

    /// A report for the owner, or what it makes the stream say.
    fn hear(&mut self, said: Result<Option<WorkerMessage>, Status>) -> Result<Event, Next> {
        let kind = match said {
            Ok(Some(WorkerMessage { kind })) => kind,
            Ok(None) => return Err(Next::End),
            Err(error) => {
                debug!(worker = %self.registered.number, %error, "a worker's stream broke");
                return Err(Next::End);
            }
        };
        match kind {
            Some(Said::Report(report)) => self.report(&report),
            Some(Said::Goodbye(_)) => {
                self.registered.departure = Some(Departure::Goodbye);
                Err(Next::End)
            }
            Some(Said::Hello(_)) => {
                Err(Next::Status(Status::invalid_argument("hello was already said on this stream")))
            }
            None => Err(Next::Status(Status::invalid_argument(
                "kind is not set: expected hello, report or goodbye",
            ))),
        }
    }

    fn report(&self, message: &LoadReport) -> Result<Event, Next> {
        let worker = self.registered.number;
        match parse::load_report(message) {
            Ok(report) => Ok(Event::Report { worker, report }),
            Err(error) => {
                warn!(%worker, %error, "a load report was refused and its stream ended");
                Err(Next::Status(error.into_status()))
            }
        }
    }

    fn obey(&mut self, order: Option<Order>) -> Next {
        match order {
            Some(Order::State(state)) => {
                Next::Answer(Answer::Order(StateOrder { state: parse::wire_state(state).into() }))
            }
            Some(Order::DrainAck(expected)) => Next::Answer(Answer::DrainAck(DrainAck {
                picked_expected: expected.picked,
                session_expected: expected.session,
                lease_ms: milliseconds(LEASE),
            })),
            Some(Order::End(cause)) => {
                self.registered.departure = None;
                Next::Status(Status::aborted(format!("this worker is out: {cause}")))
            }
            Some(Order::Reject(error)) => Next::Status(error.into_status()),
            None => Next::Status(Status::resource_exhausted("orders were not taken in time")),
        }
    }
}

/// Tells the owner that a worker is out, however its stream ends, also when its connection is dropped.
///
/// Not when the balancer stops: the workers are well, and the last list that clients hold must name them.
pub(super) struct Registered {
    owner: Handle,
    number: WorkerNumber,
    /// `None`: the owner knows.
    departure: Option<Departure>,
    stop: CancellationToken,
    _place: Place,
}

impl Registered {
    /// A departure without a word is a broken stream.
    pub(super) fn new(
        owner: Handle,
        number: WorkerNumber,
        stop: CancellationToken,
        place: Place,
    ) -> Self {
        Self { owner, number, departure: Some(Departure::Broken), stop, _place: place }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Some(cause) = self.departure.filter(|_| !self.stop.is_cancelled()) else { return };
        let event = Event::Closed { worker: self.number, cause };
        if let Err(event) = self.owner.try_send(event) {
            let owner = self.owner.clone();
            // The queue is full: wait for room, off this thread. If the owner has stopped, there is nothing to tell.
            tokio::spawn(async move { drop(owner.send(event).await) });
        }
    }
}
