//! Picks from the balancer, pipelined over one stream.
//!
//! Callers put what they want into a bounded queue. The stream takes from it whenever the
//! connection takes a message, so that one message carries whatever has gathered since the last
//! one: alone on the wire a pick leaves at once, under load a thousand share a frame. Answers are
//! matched by id. Outcomes travel back the same way.
//!
//! A session ends for good when its stream ends, or when it leaves picks unanswered in silence.
//! Its waiting callers then learn that it is lost, and choose from the list they have.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod lane;
mod outgoing;
mod reader;

use std::{sync::Arc, time::Duration};

use lb_core::id::BalancerId;
use lb_proto::v1::{SessionOpen, SessionResponse, load_balancer_client::LoadBalancerClient};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tonic::{Status, Streaming, transport::Channel};

pub(crate) use lane::Lane;
use lane::Waiting;
use outgoing::Outgoing;
use reader::Reader;

use crate::{pick::Picked, state::State};

/// Picks that may wait to be taken by the stream. A full queue makes callers wait, which is all
/// that can be done about a balancer that is slower than its clients.
const QUEUE: usize = 4096;
/// How long the balancer may take to open a session, once there is a connection. Short, because a
/// stopped process still takes connections, and another balancer may be waiting to be tried.
const OPEN_LIMIT: Duration = Duration::from_secs(1);
/// How often unanswered picks are looked for.
const SILENCE_TICK: Duration = Duration::from_millis(250);
/// After so many ticks with picks waiting and not a word from the balancer it counts as lost: at
/// most 0.75 s. A busy one says something; a dead machine is only noticed by the ping after 2.5 s,
/// too long for a call to hang.
const SILENCE_TICKS: u32 = 3;
/// Largest message from the balancer: introductions of 100,000 workers.
const MESSAGE_LIMIT: usize = 32 << 20;

/// An open session, ready to be asked.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) balancer: BalancerId,
    pub(crate) opened_at: Instant,
    queue: mpsc::Sender<Waiting>,
}

/// Why a session gave no worker.
#[derive(Debug)]
pub(crate) enum PickError {
    /// The session ended; another way may be open.
    Lost,
    /// The balancer has nobody to offer, or does not like the question.
    Refused(Status),
}

impl Session {
    /// Asks for a worker that is none of `exclude`.
    pub(crate) async fn pick(
        &self,
        exclude: Vec<u32>,
        affinity: Option<Arc<str>>,
    ) -> Result<Picked, PickError> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { exclude, affinity, answer };
        self.queue.send(waiting).await.map_err(|_| PickError::Lost)?;
        answered.await.unwrap_or(Err(PickError::Lost))
    }
}

/// Opens a session and serves it until it ends; says why it ended. While it lives it is published
/// in `state`.
pub(crate) async fn run(channel: Channel, open: SessionOpen, state: &State) -> Status {
    let (queue, taken) = mpsc::channel(QUEUE);
    let lane = Arc::new(Lane::default());
    let outgoing = Outgoing::new(open, taken, Arc::clone(&lane));
    let mut client = LoadBalancerClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    // The stream already holds the first message, so this does not depend on the balancer sending
    // its headers before it has read something.
    let opening = timeout(OPEN_LIMIT, client.session(outgoing)).await;
    let incoming = match opening {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return status,
        Err(_) => return Status::unavailable(format!("no session within {OPEN_LIMIT:?}")),
    };
    let mut reader = Reader::new(state, Arc::clone(&lane), queue);
    let reason = serve(incoming, &mut reader).await;
    reader.unpublish();
    lane.close();
    reason
}

async fn serve(mut incoming: Streaming<SessionResponse>, reader: &mut Reader<'_>) -> Status {
    let mut tick = interval(SILENCE_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent_ticks = 0;
    loop {
        tokio::select! {
            message = incoming.message() => match message {
                Ok(Some(message)) => {
                    silent_ticks = 0;
                    if let Err(status) = reader.accept(message) {
                        return status;
                    }
                }
                Ok(None) => return Status::unavailable("the balancer ended the session"),
                Err(status) => return status,
            },
            _ = tick.tick() => {
                silent_ticks = if reader.is_waiting() { silent_ticks + 1 } else { 0 };
                if silent_ticks >= SILENCE_TICKS {
                    return Status::unavailable("the balancer does not answer");
                }
            }
        }
    }
}
