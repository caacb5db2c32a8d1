//! What comes from outside, as bytes: the bodies of fuzz targets (`fuzz/`), whose committed inputs tests run again.

pub use crate::daemon::fuzz::config;

use std::time::Duration;

use prost::Message;
use tokio::time::Instant;

use lb_core::{
    id::BalancerId,
    token::{Token, TokenView},
};
use lb_proto::v1::{self, RegistryMessage, registry_message::Kind as Told};

use crate::{
    compute::{Cancel, Task},
    registration::fuzz::{accepted, drain_answer},
};

/// A number up to which a task is run: larger ones only take longer.
const SMALL: u64 = 2000;

/// One message of those that a worker takes, from a client or from a balancer; the first byte says which.
pub fn message(data: &[u8]) {
    let Some((&kind, bytes)) = data.split_first() else { return };
    match kind {
        16 => task(bytes),
        17 => token(bytes),
        18 => told(bytes),
        _ => {}
    }
}

fn task(bytes: &[u8]) {
    let Ok(message) = v1::Task::decode(bytes) else { return };
    match Task::parse(message) {
        Ok(task) if is_short(&task) => {
            task.run(&Cancel::default()).expect("nobody cancels it");
        }
        Ok(_) => {}
        Err(error) => assert!(error.to_string().len() < 1000, "a long error"),
    }
}

fn is_short(task: &Task) -> bool {
    match task {
        Task::Sleep(time) | Task::Burn(time) => time.is_zero(),
        Task::Sum(n) => *n <= SMALL,
        Task::Factorial(n) | Task::Primes(n) => u64::from(*n) <= SMALL,
        Task::Reverse(_) | Task::Echo(_) => true,
    }
}

/// A token in a call's metadata: whatever is taken is written as it was read, leading zeros aside.
fn token(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Some(view) = TokenView::parse(text) else { return };
    let Ok(balancer) = view.balancer.parse::<BalancerId>() else { return };
    let token = Token { balancer, worker: view.worker, class: view.class, sequence: view.sequence };
    assert_eq!(token.to_string().parse(), Ok(token));
}

/// What a balancer says, which may be anybody.
fn told(bytes: &[u8]) {
    let now = Instant::now();
    match RegistryMessage::decode(bytes).ok().and_then(|message| message.kind) {
        Some(Told::Accepted(message)) => {
            drop(message.balancer_id.parse::<BalancerId>());
            accepted(&message, now);
        }
        Some(Told::DrainAck(ack)) => {
            assert!(drain_answer(&ack, now) <= now + Duration::from_secs(60), "a stop must end");
        }
        Some(Told::Refused(_) | Told::Order(_)) | None => {}
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::{replay::replay, *};

    #[test]
    fn from_proto() {
        replay("from_proto", message);
    }

    #[test]
    fn configuration() {
        replay("config", config);
    }
}
