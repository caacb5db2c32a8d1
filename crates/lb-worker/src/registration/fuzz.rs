//! What a worker does with a balancer's answers.

use tokio::time::Instant;

use lb_proto::v1;

use super::{
    board::DrainAnswer,
    pace::{Pace, Pending},
};

/// Reports as often as it is told, within bounds.
pub(crate) fn accepted(message: &v1::Accepted, now: Instant) {
    let mut pace = Pace::new(message, now, 1.0);
    let mut due = now;
    for pending in [Pending::State, Pending::News, Pending::News, Pending::Nothing] {
        due = due.max(pace.due(pending));
        pace.sent(due);
        assert!(pace.due(Pending::Nothing) > due, "a heartbeat takes time");
    }
}

/// When a drain need not wait any more.
pub(crate) fn drain_answer(ack: &v1::DrainAck, now: Instant) -> Instant {
    DrainAnswer::new(ack, now).lease_ends
}
