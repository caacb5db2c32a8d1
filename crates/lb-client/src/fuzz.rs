//! What a balancer says, as bytes: the body of a fuzz target (`fuzz/`), whose committed inputs a test runs again.

use std::{collections::BTreeMap, time::Duration};

use lb_tls::Tls;

use crate::{
    assignment::fuzz::list,
    session::fuzz::session,
    state::{State, Wanted},
};

/// One message of those that a client takes from a balancer, which may be anybody; the first byte says which.
pub fn message(data: &[u8]) {
    let Some((&kind, bytes)) = data.split_first() else { return };
    let state = State::new(Wanted {
        service: "a.B".parse().expect("a service name"),
        labels: BTreeMap::new(),
        local: false,
        wait: Duration::ZERO,
        tls: Tls::open(),
    });
    match kind {
        32 => list(bytes, &state),
        33 => session(bytes, &state),
        _ => {}
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn from_proto() {
        super::replay::replay("from_proto", super::message);
    }
}
