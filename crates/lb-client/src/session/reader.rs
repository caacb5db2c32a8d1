//! What the balancer says on a session: who it is, what its numbers mean, and the picks.

use std::{collections::HashMap, sync::Arc};

use lb_core::{
    id::{BalancerId, WorkerId, WorkerNumber},
    token::{Token, TokenClass},
};
use lb_proto::v1::{Introduction, Outcome, SessionChoice, SessionFailure, SessionResponse};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Code, Status};

use super::{
    PickError, Session,
    lane::{Answer, Lane, Waiting},
};
use crate::{
    pick::{Picked, Ticket},
    state::State,
    worker::{InFlight, Worker},
};

/// Most workers introduced on one session. Numbers are never taken back, so a session that outlives
/// this many registrations ends, and the next one starts with an empty table.
const INTRODUCTIONS: usize = 1_000_000;

/// The reading half of one session.
pub(super) struct Reader<'a> {
    state: &'a State,
    lane: Arc<Lane>,
    queue: mpsc::Sender<Waiting>,
    workers: HashMap<u32, Arc<Worker>>,
    /// How many were introduced, those under a number of another included.
    introduced: usize,
    session: Option<Arc<Session>>,
    answers: Vec<Option<Answer>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(state: &'a State, lane: Arc<Lane>, queue: mpsc::Sender<Waiting>) -> Self {
        Self {
            state,
            lane,
            queue,
            workers: HashMap::new(),
            introduced: 0,
            session: None,
            answers: Vec::new(),
        }
    }

    /// Whether a caller waits for an answer, sent or still queued.
    pub(super) fn is_waiting(&self) -> bool {
        self.lane.is_waiting() || self.queue.capacity() < self.queue.max_capacity()
    }

    pub(super) fn accept(&mut self, message: SessionResponse) -> Result<(), Status> {
        if let Some(opened) = message.opened {
            self.open(&opened.balancer_id)?;
        }
        for introduction in message.workers {
            self.introduce(&introduction)?;
        }
        if message.choices.is_empty() && message.failures.is_empty() {
            return Ok(());
        }
        let Some(session) = self.session.clone() else {
            return Err(Status::internal(
                "the balancer answered a pick before it opened the session",
            ));
        };
        self.answer_choices(&session.balancer, &message.choices);
        self.answer_failures(message.failures);
        Ok(())
    }

    pub(super) fn unpublish(&mut self) {
        if let Some(session) = self.session.take() {
            self.state.unpublish(&session);
        }
    }

    fn open(&mut self, balancer_id: &str) -> Result<(), Status> {
        let balancer: BalancerId =
            balancer_id.parse().map_err(|error| Status::internal(format!("{error}")))?;
        let queue = self.queue.clone();
        let session = Arc::new(Session { balancer, opened_at: Instant::now(), queue });
        self.state.publish(Arc::clone(&session));
        self.session = Some(session);
        Ok(())
    }

    fn introduce(&mut self, introduction: &Introduction) -> Result<(), Status> {
        if self.introduced >= INTRODUCTIONS {
            return Err(Status::resource_exhausted("this session has named a million workers"));
        }
        self.introduced += 1;
        let id: WorkerId =
            introduction.worker_id.parse().map_err(|error| Status::internal(format!("{error}")))?;
        let worker = self.state.introduce(&id, &introduction.address);
        self.workers.insert(introduction.worker_number, worker);
        Ok(())
    }

    fn answer_choices(&mut self, balancer: &BalancerId, choices: &[SessionChoice]) {
        self.find(choices.iter().map(|choice| choice.id));
        let mut answers = std::mem::take(&mut self.answers);
        for (answer, choice) in answers.drain(..).zip(choices) {
            // What nobody asked for is no pick. To report it would let a balancer fill the queue of outcomes.
            let Some(answer) = answer else { continue };
            // An answer that nobody takes is dropped here and thereby reported as not sent.
            drop(answer.send(self.picked(balancer, choice)));
        }
        self.answers = answers;
    }

    fn answer_failures(&mut self, failures: Vec<SessionFailure>) {
        self.find(failures.iter().map(|failure| failure.id));
        let mut answers = std::mem::take(&mut self.answers);
        for (answer, failure) in answers.drain(..).zip(failures) {
            let status = Status::new(Code::from_i32(failure.code), failure.message);
            if let Some(answer) = answer {
                drop(answer.send(Err(PickError::Refused(status))));
            }
        }
        self.answers = answers;
    }

    fn find(&mut self, ids: impl Iterator<Item = u64>) {
        let answers = &mut self.answers;
        self.lane.answered(ids, |answer| answers.push(answer));
    }

    fn picked(&self, balancer: &BalancerId, choice: &SessionChoice) -> Result<Picked, PickError> {
        let SessionChoice { worker_number, sequence, second, .. } = *choice;
        let Some(worker) = self.workers.get(&worker_number) else {
            self.lane.report(Outcome {
                worker_number,
                sequence,
                sent: false,
                code: i32::from(Code::Internal),
                latency_us: 0,
            });
            let text =
                format!("the balancer picked worker number {worker_number}, which it never named");
            return Err(PickError::Refused(Status::internal(text)));
        };
        let number = WorkerNumber(worker_number);
        let second =
            self.workers.get(&second).map(|worker| (WorkerNumber(second), Arc::clone(worker)));
        Ok(Picked {
            in_flight: InFlight::new(Arc::clone(worker)),
            balancer: balancer.clone(),
            token: Some(Token {
                balancer: balancer.clone(),
                worker: number,
                class: TokenClass::Session,
                sequence,
            }),
            ticket: Some(Ticket {
                lane: Arc::clone(&self.lane),
                worker: number,
                sequence,
                sent_at: None,
                deadline: None,
                code: None,
            }),
            second,
        })
    }
}
