//! What the callers, the stream and the reader of a session share: picks on their way, and
//! outcomes to be sent.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use lb_proto::v1::Outcome;
use tokio::sync::oneshot;

use super::PickError;
use crate::pick::Picked;

/// Most picks, and most outcomes, in one message. The contract allows more, as long as the message has no more than 128 KiB; so many
/// have 80, whatever they exclude. And more in one save nothing.
pub(super) const BATCH: usize = 128;
/// Most picks sent and not answered. Only picks whose callers have gone away can fill this without
/// `QUEUE` stopping them first.
const UNANSWERED: usize = 64 * 1024;

/// Where an answer goes.
pub(super) type Answer = oneshot::Sender<Result<Picked, PickError>>;

/// A caller that wants a worker.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(super) exclude: Vec<u32>,
    pub(super) affinity: Option<Arc<str>>,
    pub(super) answer: Answer,
}

/// The shared part of one session.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pending: Mutex<Pending>,
    outbox: Mutex<Outbox>,
}

impl Lane {
    /// Queues an outcome. The queue needs no limit of its own: there is one outcome for each pick,
    /// and picks are limited.
    pub(crate) fn report(&self, outcome: Outcome) {
        let mut outbox = lock(&self.outbox);
        if outbox.closed {
            return;
        }
        outbox.outcomes.push_back(outcome);
        let waker = match outbox.outcomes.len() {
            1 | BATCH => outbox.waker.take(),
            _ => None,
        };
        drop(outbox);
        wake(waker);
    }

    /// Up to [`BATCH`] outcomes: at once when `now` says so, otherwise only a full batch. When it
    /// gives nothing, the next outcome wakes the stream.
    pub(super) fn outcomes(&self, now: bool, context: &Context<'_>) -> Outcomes {
        let mut outbox = lock(&self.outbox);
        let waiting = outbox.outcomes.len();
        if waiting > 0 && (now || waiting >= BATCH) {
            let batch = if waiting <= BATCH {
                Vec::from(mem::take(&mut outbox.outcomes))
            } else {
                outbox.outcomes.drain(..BATCH).collect()
            };
            return Outcomes::Batch(batch);
        }
        outbox.waker = Some(context.waker().clone());
        if waiting > 0 { Outcomes::Gathering } else { Outcomes::None }
    }

    /// How many more picks may be sent.
    pub(super) fn room(&self) -> usize {
        UNANSWERED.saturating_sub(lock(&self.pending).entries.len())
    }

    /// Notes that these picks are sent; gives the id of the first, the others follow. `None` when
    /// the session is over.
    pub(super) fn send(&self, answers: impl Iterator<Item = Answer>) -> Option<u64> {
        let mut pending = lock(&self.pending);
        if pending.closed {
            return None;
        }
        let first = pending.first + pending.entries.len() as u64;
        pending.entries.extend(answers.map(Some));
        Some(first)
    }

    /// Finds the callers of answered picks; calls `found` with each.
    pub(super) fn answered(
        &self,
        ids: impl Iterator<Item = u64>,
        mut found: impl FnMut(Option<Answer>),
    ) {
        let mut pending = lock(&self.pending);
        let was_full = pending.entries.len() >= UNANSWERED;
        ids.for_each(|id| found(pending.take(id)));
        drop(pending);
        if was_full {
            let waker = lock(&self.outbox).waker.take();
            wake(waker);
        }
    }

    /// Whether a pick was sent and not answered.
    pub(super) fn is_waiting(&self) -> bool {
        !lock(&self.pending).entries.is_empty()
    }

    /// Ends the session for everyone: waiting callers learn that it is lost, later outcomes have
    /// nowhere to go.
    pub(super) fn close(&self) {
        let entries = {
            let mut pending = lock(&self.pending);
            pending.closed = true;
            mem::take(&mut pending.entries)
        };
        drop(entries);
        let waker = {
            let mut outbox = lock(&self.outbox);
            outbox.closed = true;
            outbox.outcomes.clear();
            outbox.waker.take()
        };
        wake(waker);
    }

    /// Whether [`Lane::close`] was called.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.outbox).closed
    }
}

/// What the stream finds among the outcomes.
pub(super) enum Outcomes {
    /// To be sent now.
    Batch(Vec<Outcome>),
    /// Some, but they can wait a moment for more.
    Gathering,
    /// None.
    None,
}

/// Picks that were sent, in order of their ids. Answers come in nearly the same order, so the
/// entry is found by its distance from the first.
#[derive(Debug, Default)]
struct Pending {
    first: u64,
    entries: VecDeque<Option<Answer>>,
    closed: bool,
}

impl Pending {
    fn take(&mut self, id: u64) -> Option<Answer> {
        let index = usize::try_from(id.checked_sub(self.first)?).ok()?;
        let answer = self.entries.get_mut(index)?.take();
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
        answer
    }
}

#[derive(Debug, Default)]
struct Outbox {
    outcomes: VecDeque<Outcome>,
    waker: Option<Waker>,
    closed: bool,
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// No critical section here can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(lane: &Lane, count: usize) -> Vec<oneshot::Receiver<Result<Picked, PickError>>> {
        let (answers, answered): (Vec<_>, Vec<_>) = (0..count).map(|_| oneshot::channel()).unzip();
        lane.send(answers.into_iter()).unwrap();
        answered
    }

    /// Whether somebody waits for the answer `id`; takes it.
    fn takes(lane: &Lane, id: u64) -> bool {
        let mut found = false;
        lane.answered([id].into_iter(), |answer| found = answer.is_some());
        found
    }

    #[test]
    fn answers_find_their_callers_in_any_order_and_once() {
        let lane = Lane::default();
        let _callers = send(&lane, 3);
        let found = [1, 0, 7, 1, 2, 2].map(|id| takes(&lane, id));
        assert_eq!(found, [true, true, false, false, true, false]);
        assert!(!lane.is_waiting());
        let _another = send(&lane, 1);
        assert!(takes(&lane, 3));
    }

    #[test]
    fn closing_frees_every_caller() {
        let lane = Lane::default();
        let mut callers = send(&lane, 2);
        lane.close();
        for caller in &mut callers {
            assert!(matches!(caller.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        }
        assert!(lane.send(std::iter::empty()).is_none());
    }

    #[test]
    fn outcomes_leave_in_full_batches_or_when_asked() {
        let lane = Lane::default();
        let context = Context::from_waker(Waker::noop());
        assert!(matches!(lane.outcomes(true, &context), Outcomes::None));
        lane.report(Outcome::default());
        assert!(matches!(lane.outcomes(false, &context), Outcomes::Gathering));
        (0..BATCH).for_each(|_| lane.report(Outcome::default()));
        assert!(matches!(lane.outcomes(false, &context), Outcomes::Batch(b) if b.len() == BATCH));
        assert!(matches!(lane.outcomes(true, &context), Outcomes::Batch(b) if b.len() == 1));
    }
}
