//! A pick, and the two things that hang on it: one call counted at its worker, and one outcome
//! owed to the balancer. Both are paid by dropping it, so that no path can forget them.

use std::sync::Arc;

use lb_core::{
    id::{BalancerId, WorkerId, WorkerNumber},
    token::{Token, TokenClass},
};
use lb_proto::v1::Outcome;
use tokio::time::Instant;
use tonic::Code;

use crate::{
    session::Lane,
    worker::{InFlight, Worker},
};

/// Who chose a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The balancer, over the session.
    Session,
    /// This client, from the last list of workers it was sent.
    Local,
}

/// A worker chosen for one call.
///
/// Dropping it unused tells the balancer that the call was never sent.
#[derive(Debug)]
pub struct Picked {
    pub(crate) in_flight: InFlight,
    pub(crate) balancer: BalancerId,
    /// Absent for a local pick: no balancer counted it, so none may expect it.
    pub(crate) token: Option<Token>,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) second: Option<(WorkerNumber, Arc<Worker>)>,
}

impl Picked {
    /// The worker's id.
    pub fn worker_id(&self) -> &WorkerId {
        &self.worker().id
    }

    /// Where to call it, `ip:port` or `[ip]:port`.
    pub fn address(&self) -> &str {
        &self.worker().address
    }

    /// The balancer that chose, or whose list was chosen from.
    pub fn balancer_id(&self) -> &BalancerId {
        &self.balancer
    }

    /// Who chose.
    pub fn source(&self) -> Source {
        if self.token.is_some() { Source::Session } else { Source::Local }
    }

    /// What to send as `lb-token`; `None` for a local pick.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    pub(crate) fn worker(&self) -> &Arc<Worker> {
        self.in_flight.worker()
    }

    /// The number of the picked worker and the balancer that gave it, to exclude it next time.
    pub(crate) fn number(&self) -> Option<(BalancerId, WorkerNumber)> {
        self.token.as_ref().map(|token| (token.balancer.clone(), token.worker))
    }

    /// Gives up the first choice for the second one, if there is one. The balancer has not counted
    /// the second one; the worker's next report tells of it, by the class of the token.
    pub(crate) fn take_second(&mut self) -> Option<Self> {
        let (number, worker) = self.second.take()?;
        let first = self.token.as_ref()?;
        let token = Token {
            balancer: first.balancer.clone(),
            worker: number,
            class: TokenClass::Second,
            sequence: first.sequence,
        };
        Some(Self {
            in_flight: InFlight::new(worker),
            balancer: self.balancer.clone(),
            token: Some(token),
            ticket: None,
            second: None,
        })
    }
}

/// The outcome owed for one pick of a session. Reported when dropped: exactly once.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) lane: Arc<Lane>,
    pub(crate) worker: WorkerNumber,
    pub(crate) sequence: u64,
    /// When the call left; `None` while it has not.
    pub(crate) sent_at: Option<Instant>,
    /// When the caller's patience ends; tells a timeout from a cancellation.
    pub(crate) deadline: Option<Instant>,
    pub(crate) code: Option<Code>,
}

impl Ticket {
    /// Reports how the call ended.
    pub(crate) fn settle(mut self, code: Code) {
        self.code = Some(code);
    }

    /// The code of a call that nobody waits for any more.
    fn abandoned(&self, now: Instant) -> Code {
        match self.deadline {
            Some(deadline) if deadline <= now => Code::DeadlineExceeded,
            _ => Code::Cancelled,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let now = Instant::now();
        let latency = self.sent_at.map(|sent_at| now.saturating_duration_since(sent_at));
        let code = self.code.unwrap_or_else(|| self.abandoned(now));
        self.lane.report(Outcome {
            worker_number: self.worker.0,
            sequence: self.sequence,
            sent: self.sent_at.is_some(),
            code: i32::from(code),
            latency_us: latency
                .map_or(0, |latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)),
        });
    }
}
