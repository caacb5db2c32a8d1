//! What xDS clients say, as bytes: a request for resources, or a count of ended calls.

use prost::Message as _;

use lb_core::snapshot::Snapshot;
use lb_xds::{
    Lists, Subscriptions,
    proto::{DiscoveryRequest, LoadStatsRequest},
};

use super::reports::heard;

/// A request, twice, and what is answered to it.
pub fn discovery_request(bytes: &[u8]) {
    let Ok(request) = DiscoveryRequest::decode(bytes) else { return };
    let mut subscriptions = Subscriptions::new("b-1".parse().expect("a sound name"));
    for _ in 0..2 {
        subscriptions.request(&request);
        subscriptions.answers(&Lists::default());
    }
}

/// A count.
pub fn load_report(bytes: &[u8]) {
    if let Ok(report) = LoadStatsRequest::decode(bytes) {
        heard(&Snapshot::default(), &report);
    }
}
