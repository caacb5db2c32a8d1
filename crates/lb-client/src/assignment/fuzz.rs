//! A list of workers from bytes.

use prost::Message as _;

use lb_proto::v1;

use super::Assignment;
use crate::{local, state::State};

/// Reads a list and picks from it.
pub(crate) fn list(bytes: &[u8], state: &State) {
    let Ok(message) = v1::Assignment::decode(bytes) else { return };
    let Ok(assignment) = Assignment::parse(&message, state) else { return };
    let endpoints = &assignment.endpoints;
    assert!(endpoints.len() <= message.endpoints.len());
    assert!(endpoints.iter().all(|endpoint| endpoint.weight.is_finite() && endpoint.weight > 0.0));
    let picked = local::choose(endpoints, |_| true, 0, &mut fastrand::Rng::with_seed(1));
    assert_eq!(picked.is_none(), endpoints.is_empty(), "of some workers one is picked");
    state.assignments.replace(assignment);
    state.sweep();
}
