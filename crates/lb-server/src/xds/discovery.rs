//! One client's stream of aggregated discovery.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tonic::{Status, Streaming};
use tracing::{debug, warn};

use lb_core::id::BalancerId;
use lb_tls::Peer;
use lb_xds::{
    Lists, Refused, Subscriptions,
    proto::{DiscoveryRequest, DiscoveryResponse},
};

/// Of refused lists a stream is told at most this often; a client can refuse each one.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// Answers until the client goes.
pub(super) async fn run(
    mut requests: Streaming<DiscoveryRequest>,
    mut lists: watch::Receiver<Option<Arc<Lists>>>,
    balancer: BalancerId,
    peer: Peer,
    answers: mpsc::Sender<Result<DiscoveryResponse, Status>>,
) {
    let mut subscriptions = Subscriptions::new(balancer);
    let mut told = None;
    loop {
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => {
                    if let Some(refused) = subscriptions.request(&request) {
                        tell(&refused, &peer, &mut told);
                    }
                }
                Ok(None) | Err(_) => return,
            },
            changed = lists.changed() => if changed.is_err() { return },
            () = answers.closed() => return,
        }
        let Some(current) = lists.borrow_and_update().clone() else { continue };
        for answer in subscriptions.answers(&current) {
            if answers.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    }
}

fn tell(Refused { kind, problem }: &Refused, peer: &Peer, told: &mut Option<Instant>) {
    let from = peer.address.map(|address| address.to_string()).unwrap_or_default();
    if told.is_some_and(|told| told.elapsed() < TELL_INTERVAL) {
        debug!(peer = from, ?kind, problem, "an xDS client refused a resource");
        return;
    }
    *told = Some(Instant::now());
    warn!(
        event = "xds_refused",
        peer = from,
        ?kind,
        problem,
        "an xDS client refused a resource and goes on with what it had"
    );
}
