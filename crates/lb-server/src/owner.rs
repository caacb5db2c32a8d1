//! The one task that owns the registry.
//!
//! Events come in through a bounded channel; what follows from them goes out in a fixed order: first the new
//! snapshot for those who pick, then orders to workers, then notices to the log and to whoever watches.
//! Only this task changes anything, so nothing here needs a lock.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, sleep_until},
};
use tracing::{info, warn};

use lb_core::{
    estimator::Expected,
    health::{CallEnd, Hearsay},
    id::{BalancerId, ClientKey, WorkerId, WorkerNumber},
    load::{Hello, LoadReport, WorkerState},
    policy::PolicyKind,
    registry::{
        Departure, Notice, Output, Refusal, Registry, ReportError, TICK, UnknownWorker,
        WorkerStatus,
    },
    snapshot::Snapshot,
    time::Timestamp,
};

use crate::{ScaleSettings, scaling};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

/// Events waiting for the owner. When it is full, streams wait with their next message, so a flood slows
/// down those who send it and costs no memory.
const EVENT_QUEUE: usize = 4096;

/// Events handled between two snapshots: a thousand workers that join at once cost a few snapshots, not a thousand.
const EVENT_BATCH: usize = 256;

/// How long nothing is published after a snapshot, in times of what it took to make. At ten thousand workers
/// that is some milliseconds; when that many join, most of the time goes into letting them in and not into snapshots
/// that the next one replaces.
const REST: u32 = 3;

/// Orders waiting for one worker's stream. There are three kinds and each is rare; a stream that does not take
/// this many is stuck.
pub(crate) const ORDER_QUEUE: usize = 16;

/// Notices kept for a slow watcher; it learns how many it missed.
const NOTICE_QUEUE: usize = 256;

/// Something that happened, or that somebody wants to know.
pub(crate) enum Event {
    /// A worker wants in.
    Hello {
        hello: Box<Hello>,
        orders: OrderSender,
        reply: oneshot::Sender<Result<WorkerNumber, Refusal>>,
    },
    /// A worker reports its load.
    Report { worker: WorkerNumber, report: LoadReport },
    /// A worker's stream has ended.
    Closed { worker: WorkerNumber, cause: Departure },
    /// Calls that a client picked over a session have ended.
    Outcomes { client: ClientKey, all: Vec<Outcomes> },
    /// A client counts how calls ended that nobody picked here.
    Hearsay { client: ClientKey, all: Vec<(WorkerNumber, Hearsay)> },
    /// A session has ended with picks open, so many for each worker.
    Abandoned(Vec<(WorkerNumber, u64)>),
    /// An operator looks.
    ListWorkers { reply: oneshot::Sender<Fleet> },
    /// An operator changes the policy.
    SetPolicy { policy: PolicyKind, reply: oneshot::Sender<()> },
    /// An operator takes a worker out of rotation.
    Drain { worker: WorkerId, reply: oneshot::Sender<Result<u32, UnknownWorker>> },
    /// An operator takes a worker back.
    Undrain { worker: WorkerId, reply: oneshot::Sender<Result<(), UnknownWorker>> },
    /// Something about scalers.
    Scaling(Box<scaling::Event>),
}

/// `count` calls to one worker that ended alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcomes {
    pub(crate) worker: WorkerNumber,
    pub(crate) end: CallEnd,
    pub(crate) count: u64,
}

/// What a worker's stream must pass on.
#[derive(Debug)]
pub(crate) enum Order {
    /// Tell it to change its state.
    State(WorkerState),
    /// Tell it what can still come.
    DrainAck(Expected),
    /// End the stream: the worker has been replaced or is silent.
    End(Departure),
    /// End the stream: its report cannot be true.
    Reject(Box<ReportError>),
}

/// The owner's way to one worker's stream. This kind of channel takes next to no memory while it is empty, as it nearly
/// always is; tokio's has room for 32 orders from the start.
pub(crate) type OrderSender = futures_channel::mpsc::Sender<Order>;

/// All workers, for an operator.
pub(crate) struct Fleet {
    pub(crate) policy: PolicyKind,
    pub(crate) workers: Vec<WorkerStatus>,
}

/// The owner has stopped, because the daemon stops.
#[derive(Debug, thiserror::Error)]
#[error("the balancer is stopping")]
pub(crate) struct Stopping;

/// Everyone else's way to the owner and to what it publishes.
#[derive(Clone)]
pub(crate) struct Handle {
    events: mpsc::Sender<Event>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    changes: watch::Receiver<Arc<Snapshot>>,
    notices: broadcast::Sender<Notice>,
    origin: Instant,
}

impl Handle {
    /// This moment, by the owner's clock.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::at(self.origin.elapsed())
    }

    /// Gives the owner an event; waits while its queue is full.
    pub(crate) async fn send(&self, event: Event) -> Result<(), Stopping> {
        self.events.send(event).await.map_err(|_| Stopping)
    }

    /// Gives the owner an event if its queue has room, else gives it back.
    pub(crate) fn try_send(&self, event: Event) -> Result<(), Event> {
        self.events.try_send(event).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Gives the owner a question and waits for the answer.
    pub(crate) async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Event,
    ) -> Result<T, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.send(question(reply)).await?;
        answer.await.map_err(|_| Stopping)
    }

    /// The snapshot of this moment; never waits.
    pub(crate) fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Each new snapshot.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.changes.clone()
    }

    /// What happens from now on.
    pub(crate) fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
}

/// The owner task's state.
pub(crate) struct Owner {
    registry: Registry,
    scaling: scaling::Fleet,
    events: mpsc::Receiver<Event>,
    streams: BTreeMap<WorkerNumber, OrderSender>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    changes: watch::Sender<Arc<Snapshot>>,
    notices: broadcast::Sender<Notice>,
    origin: Instant,
    /// Nothing is published earlier.
    rest_until: Instant,
}

impl Owner {
    /// An owner with no workers, for this balancer, and the handle to it.
    pub(crate) fn new(
        policy: PolicyKind,
        balancer: BalancerId,
        scale: &ScaleSettings,
    ) -> (Self, Handle) {
        let origin = Instant::now();
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let (notices, _) = broadcast::channel(NOTICE_QUEUE);
        let mut registry = Registry::new(policy);
        let first = registry.publish().unwrap_or_default();
        let (changes, watcher) = watch::channel(Arc::clone(&first));
        let snapshot = Arc::new(ArcSwap::new(first));
        let handle = Handle {
            events: sender,
            snapshot: Arc::clone(&snapshot),
            changes: watcher,
            notices: notices.clone(),
            origin,
        };
        let streams = BTreeMap::new();
        let owner = Self {
            registry,
            scaling: scaling::Fleet::new(balancer, scale, Timestamp::default()),
            events,
            streams,
            snapshot,
            changes,
            notices,
            origin,
            rest_until: origin,
        };
        (owner, handle)
    }

    /// Runs until every [`Handle`] is gone. `alive` is called at the end of a turn, at most once in a [`TICK`]: whom it
    /// tells costs system calls, and with many workers a turn is one report.
    pub(crate) async fn run(mut self, mut alive: impl FnMut()) {
        let mut batch = Vec::with_capacity(EVENT_BATCH);
        let mut alive_due = self.origin;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut resting = false;
        loop {
            tokio::select! {
                // Events first: after a pause, the reports that wait tell who is well before the tick asks.
                biased;
                taken = self.events.recv_many(&mut batch, EVENT_BATCH) => {
                    if taken == 0 {
                        return;
                    }
                    let now = self.now();
                    batch.drain(..).for_each(|event| self.handle(event, now));
                }
                _ = ticks.tick() => self.tick(self.now()),
                () = sleep_until(self.rest_until), if resting => {}
            }
            let now = Instant::now();
            resting = now < self.rest_until;
            if !resting {
                self.publish();
                self.carry_out();
            }
            if now >= alive_due {
                alive();
                alive_due = now + TICK;
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::at(self.origin.elapsed())
    }

    fn tick(&mut self, now: Timestamp) {
        self.registry.handle_timeout(now);
        self.scaling.turn(&self.registry, now);
    }

    fn handle(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Hello { hello, orders, reply } => {
                let admitted = self.registry.hello(*hello, now);
                if let Ok(number) = admitted {
                    self.streams.insert(number, orders);
                }
                answer(reply, admitted);
            }
            Event::Report { worker, report } => self.report(worker, report, now),
            Event::Closed { worker, cause } => {
                self.streams.remove(&worker);
                self.registry.closed(worker, cause);
            }
            Event::Outcomes { client, all } => {
                for Outcomes { worker, end, count } in all {
                    self.registry.outcomes(worker, end, count, client, now);
                }
            }
            Event::Hearsay { client, all } => {
                for (worker, ends) in all {
                    self.registry.hearsay(worker, ends, client, now);
                }
            }
            Event::Abandoned(all) => {
                for (worker, count) in all {
                    self.registry.abandoned(worker, count, now);
                }
            }
            Event::ListWorkers { reply } => {
                let workers = self.registry.workers(now).collect();
                answer(reply, Fleet { policy: self.registry.policy(), workers });
            }
            Event::SetPolicy { policy, reply } => {
                self.registry.set_policy(policy);
                // The answer means: in force. So the snapshot comes first.
                self.publish();
                answer(reply, ());
            }
            Event::Drain { worker, reply } => {
                let drained = self.registry.drain(&worker);
                self.publish();
                answer(reply, drained);
            }
            Event::Undrain { worker, reply } => answer(reply, self.registry.undrain(&worker)),
            Event::Scaling(event) => self.scaling.handle(*event, &self.registry, now),
        }
    }

    fn report(&mut self, worker: WorkerNumber, report: LoadReport, now: Timestamp) {
        let Err(error) = self.registry.report(worker, report, now) else { return };
        warn!(worker = %worker, %error, "a load report was refused and its stream ended");
        self.order(worker, Order::Reject(Box::new(error)));
    }

    fn publish(&mut self) {
        let begun = Instant::now();
        if let Some(snapshot) = self.registry.publish() {
            self.snapshot.store(Arc::clone(&snapshot));
            // The one before is freed here, if nobody reads it any more, which takes as long as making one.
            drop(self.changes.send_replace(snapshot));
            self.rest_until = Instant::now() + begun.elapsed() * REST;
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.registry.poll_output() {
            match output {
                Output::Order { worker, state } => self.order(worker, Order::State(state)),
                Output::DrainAck { worker, expected } => {
                    self.order(worker, Order::DrainAck(expected));
                }
                Output::Disconnect { worker, cause } => {
                    self.order(worker, Order::End(cause));
                    self.streams.remove(&worker);
                }
                Output::Notice(notice) => {
                    log(&notice);
                    // Nobody watching is fine.
                    drop(self.notices.send(notice));
                }
            }
        }
    }

    fn order(&mut self, worker: WorkerNumber, order: Order) {
        let Some(stream) = self.streams.get_mut(&worker) else { return };
        if stream.try_send(order).is_err() {
            // Dropping the sender ends the stream, which reports itself closed.
            self.streams.remove(&worker);
        }
    }
}

/// Whoever asked may have gone meanwhile; that is no error.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    drop(reply.send(value));
}

fn log(notice: &Notice) {
    match notice {
        Notice::Joined { worker, address, slots } => {
            info!(event = "worker_joined", %worker, %address, slots, "worker joined");
        }
        Notice::Left { worker, cause: Departure::Goodbye } => {
            info!(event = "worker_left", %worker, "worker left");
        }
        Notice::Left { worker, cause } => {
            warn!(event = "worker_lost", %worker, %cause, "worker lost");
        }
        Notice::Refused { worker, cause } => {
            warn!(event = "worker_refused", %worker, %cause, "worker refused");
        }
        Notice::Changed { worker, state: WorkerState::Serving } => {
            info!(event = "worker_serving", %worker, "worker takes calls");
        }
        Notice::Changed { worker, state: WorkerState::Draining } => {
            info!(event = "worker_draining", %worker, "worker takes no more calls");
        }
        Notice::Ejected { worker, cause, lasts } => {
            let seconds = lasts.as_secs_f64();
            warn!(
                event = "worker_ejected", %worker, %cause, seconds,
                "worker out of rotation, it fails"
            );
        }
        Notice::Recovered { worker } => {
            info!(event = "worker_recovered", %worker, "worker well again");
        }
        Notice::Policy(policy) => info!(event = "policy_changed", %policy, "policy in force"),
    }
}
