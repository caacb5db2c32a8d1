//! What the client says on a session: a stream that is asked for a message whenever the connection
//! takes one.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use lb_proto::v1::{SessionOpen, SessionPick, SessionRequest};
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};

use super::lane::{Answer, BATCH, Lane, Outcomes, Waiting};

/// How long outcomes may gather when no pick takes them along. Short against any report interval,
/// long against the gap between two calls that end together.
const GATHER: Duration = Duration::from_millis(2);

/// The request stream of one session.
pub(super) struct Outgoing {
    open: Option<SessionOpen>,
    queue: mpsc::Receiver<Waiting>,
    batch: Vec<Waiting>,
    lane: Arc<Lane>,
    gathering: Option<Pin<Box<Sleep>>>,
}

impl Outgoing {
    pub(super) fn new(open: SessionOpen, queue: mpsc::Receiver<Waiting>, lane: Arc<Lane>) -> Self {
        Self { open: Some(open), queue, batch: Vec::new(), lane, gathering: None }
    }

    /// Takes what callers have queued, and notes where the answers go. Gives nothing only when the
    /// queue or the lane will wake the stream.
    fn take_picks(&mut self, context: &mut Context<'_>) -> Vec<SessionPick> {
        loop {
            let room = self.lane.room().min(BATCH);
            if room == 0 {
                return Vec::new();
            }
            match self.queue.poll_recv_many(context, &mut self.batch, room) {
                Poll::Pending | Poll::Ready(0) => return Vec::new(),
                Poll::Ready(_) => {
                    let picks = self.number();
                    if !picks.is_empty() || self.lane.is_closed() {
                        return picks;
                    }
                }
            }
        }
    }

    fn number(&mut self) -> Vec<SessionPick> {
        let mut picks = Vec::with_capacity(self.batch.len());
        let mut answers: Vec<Answer> = Vec::with_capacity(self.batch.len());
        for Waiting { exclude, affinity, answer } in self.batch.drain(..) {
            // A caller that has given up already does not cost a pick.
            if answer.is_closed() {
                continue;
            }
            let affinity_key = affinity.map(|key| key.to_string()).unwrap_or_default();
            picks.push(SessionPick { id: 0, exclude, affinity_key });
            answers.push(answer);
        }
        let Some(first) = self.lane.send(answers.into_iter()) else { return Vec::new() };
        picks.iter_mut().zip(first..).for_each(|(pick, id)| pick.id = id);
        picks
    }

    /// Nothing to say. The lane knows by now whom to wake, but may have changed before it did.
    fn rest(&self, context: &Context<'_>) -> Poll<Option<SessionRequest>> {
        if self.lane.is_closed() {
            return Poll::Ready(None);
        }
        if self.lane.room() > 0 && !self.queue.is_empty() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Whether outcomes have gathered long enough.
    fn has_gathered(&mut self, context: &mut Context<'_>) -> bool {
        let timer = self.gathering.get_or_insert_with(|| Box::pin(sleep(GATHER)));
        timer.as_mut().poll(context).is_ready()
    }
}

impl Stream for Outgoing {
    type Item = SessionRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<SessionRequest>> {
        let this = self.get_mut();
        if let Some(open) = this.open.take() {
            return Poll::Ready(Some(SessionRequest { open: Some(open), ..Default::default() }));
        }
        if this.lane.is_closed() {
            return Poll::Ready(None);
        }
        let picks = this.take_picks(context);
        let mut outcomes = this.lane.outcomes(!picks.is_empty(), context);
        if matches!(outcomes, Outcomes::Gathering) && this.has_gathered(context) {
            outcomes = this.lane.outcomes(true, context);
        }
        let outcomes = match outcomes {
            Outcomes::Batch(outcomes) => {
                this.gathering = None;
                outcomes
            }
            Outcomes::Gathering | Outcomes::None if picks.is_empty() => {
                return this.rest(context);
            }
            Outcomes::Gathering | Outcomes::None => Vec::new(),
        };
        Poll::Ready(Some(SessionRequest { open: None, picks, outcomes }))
    }
}
