//! How a worker leaves without failing a call.
//!
//! 1. Every balancer is told DRAINING at once. Each picks this worker no more, and answers how many calls may still come.
//! 2. The worker waits for those calls, or until the lease of their tokens is over. A client that picks by itself
//!    from a list needs a moment to learn the new list: it gets [`LINGER`].
//! 3. It waits until no call is inside.
//!
//! What comes after (goodbye, stopping the server) is up to the caller. The listener stays open all the time: a call that was
//! picked before may need a new connection.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, info};

use crate::{
    load::Load,
    registration::{
        Registrar,
        board::{Board, Entry, Key},
    },
};

/// A live balancer answers within a round trip. One that does not must not hold up the stop.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// A balancer sends the changed list to its clients when it answers us; this is ample for the list to
/// cross a LAN and be put in place, and short for somebody who waits for `systemctl stop`.
const LINGER: Duration = Duration::from_millis(200);

/// Drains until nothing is left or `deadline`. Returns how many calls are left.
pub(crate) async fn drain(registrar: &Registrar, deadline: Instant) -> u32 {
    let in_flight = || registrar.load.view(Instant::now()).in_flight;
    let asked: Vec<Key> = registrar.board.watch().borrow().keys().copied().collect();
    info!(event = "draining", in_flight = in_flight(), balancers = asked.len(), "draining");
    registrar.state.stop();
    let finished = timeout_at(deadline, async {
        if !asked.is_empty() {
            if timeout(ANSWER_TIMEOUT, answers(&registrar.board, &asked)).await.is_err() {
                info!("a balancer did not answer that this worker drains, going on without");
            }
            sleep(LINGER).await;
            expected_calls(&registrar.board, &registrar.load, &asked).await;
        }
        idle(&registrar.load).await;
    });
    let _ = finished.await;
    in_flight()
}

/// Returns when every balancer that was asked has answered or is gone.
async fn answers(board: &Board, asked: &[Key]) {
    let answered = |entries: &BTreeMap<Key, Entry>| {
        asked.iter().filter_map(|key| entries.get(key)).all(|entry| entry.drain.is_some())
    };
    let _ = board.watch().wait_for(answered).await;
}

/// Returns when all calls that may still come have come, or cannot come any more.
async fn expected_calls(board: &Board, load: &Load, asked: &[Key]) {
    let mut entries = board.watch();
    let mut changes = load.changes();
    loop {
        changes.mark_unchanged();
        let now = Instant::now();
        let longest_wait = {
            let entries = entries.borrow_and_update();
            let waits = asked.iter().filter_map(|key| still_expected(entries.get(key)?, load, now));
            waits.max()
        };
        let Some(until) = longest_wait else { return };
        tokio::select! {
            () = sleep_until(until) => {}
            _ = changes.changed() => {}
            _ = entries.changed() => {}
        }
    }
}

/// Until when calls of this registration may still come; `None` when none can.
fn still_expected(entry: &Entry, load: &Load, now: Instant) -> Option<Instant> {
    let answer = entry.drain?;
    let seen = load.tallies(entry.tally);
    let missing = answer.picked_expected.saturating_sub(seen.picked.seen)
        + answer.session_expected.saturating_sub(seen.session.seen);
    if missing == 0 || answer.lease_ends <= now {
        return None;
    }
    debug!(balancer = %entry.balancer, missing, "waiting for calls that were picked before");
    Some(answer.lease_ends)
}

/// Returns when no call is inside.
pub(crate) async fn idle(load: &Load) {
    let mut changes = load.changes();
    while load.view(Instant::now()).in_flight > 0 {
        // The counters live as long as `load`: waiting cannot fail.
        let _ = changes.changed().await;
    }
}
