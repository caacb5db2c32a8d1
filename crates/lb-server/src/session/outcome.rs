//! What outcomes mean, and who tells them.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use tonic::Code;

use lb_core::{
    health::{CallEnd, Failure},
    id::ClientKey,
};
use lb_proto::v1::Outcome;
use lb_tls::Peer;

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

/// Who speaks on a session. With a certificate it is the name in it, from wherever it speaks.
///
/// Without one, all clients of one machine are one, since what is wrong with its network is wrong for all of them, and since nobody
/// should get a second voice by a second connection. On the balancer's own machine each session is one: there the network is not
/// what fails.
pub(crate) fn client_key(peer: &Peer) -> ClientKey {
    if let Some(identity) = &peer.identity {
        return key_of((identity.role.as_str(), &identity.name));
    }
    match peer.ip().filter(|ip| !ip.is_loopback()) {
        Some(ip) => key_of(ip),
        None => ClientKey(fastrand::u64(..)),
    }
}

fn key_of(name: impl Hash) -> ClientKey {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    ClientKey(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lb_tls::{Identity, Role};

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

    /// The key of who comes from an address, with the name of a client or an administrator.
    fn key(address: &str, name: Option<(Role, &str)>) -> ClientKey {
        let identity = name.map(|(role, name)| {
            let (cluster, name) = ("lab".parse().unwrap(), name.parse().unwrap());
            Arc::new(Identity { cluster, role, name, services: Vec::new(), instances: 0 })
        });
        let mut peer = Peer::default();
        (peer.address, peer.identity) = (Some(address.parse().unwrap()), identity);
        client_key(&peer)
    }

    #[test]
    fn one_machine_has_one_voice() {
        let key = |address| key(address, None);
        assert_eq!(key("192.168.7.5:1000"), key("192.168.7.5:2000"));
        assert_eq!(key("192.168.7.5:1000"), key("[::ffff:192.168.7.5]:1000"));
        assert_ne!(key("192.168.7.5:1000"), key("192.168.7.6:1000"));
        assert_ne!(key("127.0.0.1:1000"), key("127.0.0.1:1000"));
    }

    #[test]
    fn one_certificate_has_one_voice() {
        let (alice, bob) = ((Role::Client, "alice"), (Role::Client, "bob"));
        assert_eq!(key("192.168.7.5:1000", Some(alice)), key("192.168.7.6:1000", Some(alice)));
        assert_eq!(key("127.0.0.1:1000", Some(alice)), key("127.0.0.1:1000", Some(alice)));
        assert_ne!(key("192.168.7.5:1000", Some(alice)), key("192.168.7.5:1000", Some(bob)));
        let namesake = (Role::Admin, "alice");
        assert_ne!(key("192.168.7.5:1000", Some(alice)), key("192.168.7.5:1000", Some(namesake)));
    }
}
