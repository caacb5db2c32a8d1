//! What follows from a change: orders to workers, news for operators, reasons.

use std::{fmt, net::SocketAddr, time::Duration};

use super::WORKER_LIMIT;
use crate::{
    estimator::Expected,
    health::Cause,
    id::{WorkerId, WorkerNumber},
    load::WorkerState,
    policy::PolicyKind,
};

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a worker this order.
    Order {
        /// To whom.
        worker: WorkerNumber,
        /// The state it should take.
        state: WorkerState,
    },
    /// Tell a draining worker how many calls can still reach it.
    DrainAck {
        /// To whom.
        worker: WorkerNumber,
        /// How many calls in all.
        expected: Expected,
    },
    /// End a worker's stream: it has been replaced or is silent.
    Disconnect {
        /// Whose.
        worker: WorkerNumber,
        /// Why.
        cause: Departure,
    },
    /// Something an operator wants to know.
    Notice(Notice),
}

/// Why a worker is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It said goodbye.
    Goodbye,
    /// Its stream broke.
    Broken,
    /// It was silent for too long.
    Silent,
    /// A new process with its id and address took its place.
    Replaced,
}

impl fmt::Display for Departure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Goodbye => "it said goodbye",
            Self::Broken => "its connection broke",
            Self::Silent => "it was silent for more than a heartbeat",
            Self::Replaced => "a new process with its id and address took its place",
        })
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A worker registered.
    Joined {
        /// Who.
        worker: WorkerId,
        /// Where clients call it.
        address: SocketAddr,
        /// Calls it runs at once.
        slots: u16,
    },
    /// A worker left.
    Left {
        /// Who.
        worker: WorkerId,
        /// How.
        cause: Departure,
    },
    /// A worker was not let in.
    Refused {
        /// Who.
        worker: WorkerId,
        /// Why.
        cause: Refusal,
    },
    /// A worker went into or out of rotation.
    Changed {
        /// Who.
        worker: WorkerId,
        /// What it does now.
        state: WorkerState,
    },
    /// A worker is out of rotation for a while, since it fails.
    Ejected {
        /// Who.
        worker: WorkerId,
        /// For what.
        cause: Cause,
        /// For how long.
        lasts: Duration,
    },
    /// A worker that was out is well again.
    Recovered {
        /// Who.
        worker: WorkerId,
    },
    /// Another policy is in force.
    Policy(PolicyKind),
}

/// Why a worker is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another live worker has the id.
    #[error("worker id {id} is taken by a live worker at {holder}: give this one another id")]
    Taken {
        /// The id.
        id: WorkerId,
        /// Where its holder is.
        holder: SocketAddr,
    },
    /// The registry is full.
    #[error("this balancer already has {WORKER_LIMIT} workers, its limit")]
    Full,
}
