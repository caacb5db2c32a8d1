//! What will happen, in order of time; at one moment, in the order it was planned.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use lb_core::{
    health::CallEnd, id::WorkerNumber, load::LoadReport, registry::Departure, time::Timestamp,
};

use crate::{worker::CallKey, world::End};

/// Something that happens at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A client wants to call.
    Arrival { client: u32 },
    /// A call reaches its worker.
    Reach { call: CallKey },
    /// A call ends in a worker; void if the worker's epoch is another by then.
    Finish { worker: u32, epoch: u32, call: CallKey },
    /// An answer, or the news of a failure, reaches the client.
    Answer { call: CallKey, end: End },
    /// A client that was turned away asks for another worker.
    Again { call: CallKey },
    /// A client's outcome reaches its balancer.
    Outcome { balancer: u32, incarnation: u32, number: u32, end: CallEnd, client: u32 },
    /// A worker's next report to a balancer is due, unless it has sent one meanwhile.
    ReportDue { worker: u32, balancer: u32 },
    /// The oldest message on its way to a balancer arrives.
    Mail,
    /// Workers notice that a balancer is back.
    Reconnect { balancer: u32 },
    /// A balancer's tick.
    Tick { balancer: u32 },
    /// The oldest order on its way to a worker arrives.
    Order,
    /// A worker that was ordered is there, unless the order is void.
    Started { worker: u32, order: u32 },
    /// The n-th fault of the scenario begins, or ends.
    Fault { place: u32, begins: bool },
}

/// A worker's message to a balancer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mail {
    Hello { worker: u32 },
    Report { number: WorkerNumber, report: LoadReport },
    Closed { number: WorkerNumber, cause: Departure },
}

/// Events to come.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    events: BinaryHeap<Reverse<(Timestamp, u64, Event)>>,
    planned: u64,
}

impl Agenda {
    pub(crate) fn plan(&mut self, at: Timestamp, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((at, self.planned, event)));
    }

    pub(crate) fn next(&mut self) -> Option<(Timestamp, Event)> {
        self.events.pop().map(|Reverse((at, _, event))| (at, event))
    }
}

/// Things on their way that all travel equally long, and so arrive in the order they left.
pub(crate) type Pipe<T> = VecDeque<T>;
