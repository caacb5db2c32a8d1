//! What outcomes mean, and who tells them.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
};

use tonic::Code;

use lb_core::{
    health::{CallEnd, Failure},
    id::ClientKey,
};
use lb_proto::v1::Outcome;

/// What the end of a call says of its worker. What the service itself answers, errors included, is an answer; so is the
/// RESOURCE_EXHAUSTED of a worker that is full.
pub(super) fn call_end(outcome: &Outcome) -> CallEnd {
    match (outcome.sent, Code::from_i32(outcome.code)) {
        (false, Code::Unavailable | Code::DeadlineExceeded) => {
            CallEnd::Failed(Failure::Unreachable)
        }
        (false, _) => CallEnd::Unsent,
        (true, Code::Unavailable) => CallEnd::Failed(Failure::Unavailable),
        (true, Code::DeadlineExceeded) => CallEnd::Failed(Failure::Overdue),
        (true, Code::Cancelled) => CallEnd::Abandoned,
        (true, _) => CallEnd::Answered,
    }
}

/// Who speaks on a session. All clients of one machine are one, since what is wrong with its network is wrong for all of them, and
/// since nobody should get a second voice by a second connection. On the balancer's own machine each session is one: there the
/// network is not what fails.
pub(crate) fn client_key(peer: Option<SocketAddr>) -> ClientKey {
    match peer.map(|peer| peer.ip().to_canonical()).filter(|ip| !ip.is_loopback()) {
        Some(ip) => {
            let mut hasher = DefaultHasher::new();
            ip.hash(&mut hasher);
            ClientKey(hasher.finish())
        }
        None => ClientKey(fastrand::u64(..)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_of_the_worker_speak_against_it() {
        let end =
            |sent, code| call_end(&Outcome { sent, code: i32::from(code), ..Outcome::default() });
        assert_eq!(end(true, Code::Ok), CallEnd::Answered);
        assert_eq!(end(true, Code::InvalidArgument), CallEnd::Answered);
        assert_eq!(end(true, Code::ResourceExhausted), CallEnd::Answered);
        assert_eq!(end(true, Code::Unavailable), CallEnd::Failed(Failure::Unavailable));
        assert_eq!(end(true, Code::DeadlineExceeded), CallEnd::Failed(Failure::Overdue));
        assert_eq!(end(true, Code::Cancelled), CallEnd::Abandoned);
        assert_eq!(end(false, Code::Unavailable), CallEnd::Failed(Failure::Unreachable));
        assert_eq!(end(false, Code::Cancelled), CallEnd::Unsent);
    }

    #[test]
    fn one_machine_has_one_voice() {
        let key = |text: &str| client_key(Some(text.parse().unwrap()));
        assert_eq!(key("192.168.7.5:1000"), key("192.168.7.5:2000"));
        assert_eq!(key("192.168.7.5:1000"), key("[::ffff:192.168.7.5]:1000"));
        assert_ne!(key("192.168.7.5:1000"), key("192.168.7.6:1000"));
        assert_ne!(key("127.0.0.1:1000"), key("127.0.0.1:1000"));
    }
}
