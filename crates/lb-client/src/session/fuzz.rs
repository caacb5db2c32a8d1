//! A balancer's side of a session from bytes.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use lb_proto::v1::SessionResponse;

use super::{
    lane::{Lane, Outcomes},
    reader::Reader,
};
use crate::state::State;

/// Picks that are asked for.
const PICKS: usize = 4;

/// Reads an answer to some picks, twice. There are no more outcomes than picks, whatever it says.
pub(crate) fn session(bytes: &[u8], state: &State) {
    let Ok(message) = SessionResponse::decode(bytes) else { return };
    let lane = Arc::new(Lane::default());
    let (queue, _taken) = mpsc::channel(1);
    let mut reader = Reader::new(state, Arc::clone(&lane), queue);
    let (answers, mut callers): (Vec<_>, Vec<_>) = (0..PICKS).map(|_| oneshot::channel()).unzip();
    lane.send(answers.into_iter());
    // One caller has gone.
    callers.pop();
    for _ in 0..2 {
        if reader.accept(message.clone()).is_err() {
            break;
        }
    }
    for mut caller in callers {
        if let Ok(Ok(picked)) = caller.try_recv() {
            assert!(picked.token.is_some(), "a session's pick has a token");
        }
    }
    reader.unpublish();
    let outcomes = match lane.outcomes(true, &Context::from_waker(Waker::noop())) {
        Outcomes::Batch(outcomes) => outcomes.len(),
        Outcomes::Gathering | Outcomes::None => 0,
    };
    assert!(outcomes <= PICKS, "{outcomes} outcomes of {PICKS} picks");
}
