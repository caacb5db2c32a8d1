//! The last list of workers, kept for as long as this client lives.
//!
//! The list outlives the balancer that sent it: whoever loses its balancer goes on with what it
//! has. For the same reason an empty list from another balancer than the one before is not believed
//! at once. A balancer that has just restarted knows nobody until the workers have found it again,
//! and believing it would fail every call in between.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use lb_core::id::BalancerId;
use lb_proto::v1::{self, WatchRequest, load_balancer_client::LoadBalancerClient};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Status, transport::Channel};

use crate::{local::Endpoint, state::State};

/// How long a balancer that is new to this client is not believed when it says that nobody takes
/// calls: twice the second that it needs at most to hear from its workers again.
pub(crate) const REBUILD_GRACE: Duration = Duration::from_secs(2);
/// Wait before the list is asked for again on a connection whose session is alive.
const RETRY: Duration = Duration::from_secs(1);
/// Largest list: 100,000 workers at about 120 bytes, with room to spare.
const MESSAGE_LIMIT: usize = 64 << 20;

/// The workers of a service at one moment.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) balancer: BalancerId,
    pub(crate) endpoints: Box<[Endpoint]>,
}

impl Assignment {
    fn parse(message: &v1::Assignment, state: &State) -> Result<Self, Status> {
        let balancer =
            message.balancer_id.parse().map_err(|error| Status::internal(format!("{error}")))?;
        let endpoints =
            message.endpoints.iter().filter_map(|endpoint| parse(endpoint, state)).collect();
        Ok(Self { balancer, endpoints })
    }
}

/// `None` for a worker whose name is not sound; the others are still good to call.
fn parse(endpoint: &v1::Endpoint, state: &State) -> Option<Endpoint> {
    let id = endpoint
        .worker_id
        .parse()
        .inspect_err(|error| tracing::warn!(%error, "worker left out of the list"))
        .ok()?;
    let slots = f64::from(endpoint.slots.max(1));
    let sound = endpoint.weight.is_finite() && endpoint.weight > 0.0;
    let weight = if sound { endpoint.weight } else { slots };
    Some(Endpoint { worker: state.workers.intern(&id, &endpoint.address), weight })
}

/// Holds the last list.
#[derive(Debug, Default)]
pub(crate) struct Assignments(ArcSwapOption<Assignment>);

impl Assignments {
    pub(crate) fn latest(&self) -> Option<Arc<Assignment>> {
        self.0.load_full()
    }

    /// Whether the list names somebody to call.
    pub(crate) fn has_workers(&self) -> bool {
        self.0.load().as_ref().is_some_and(|latest| !latest.endpoints.is_empty())
    }

    pub(crate) fn replace(&self, assignment: Assignment) {
        self.0.store(Some(Arc::new(assignment)));
    }

    /// Whether `new` is empty though another balancer knew workers.
    fn is_doubtful(&self, new: &Assignment) -> bool {
        let latest = self.0.load();
        let known = latest.as_ref().filter(|latest| !latest.endpoints.is_empty());
        new.endpoints.is_empty() && known.is_some_and(|known| known.balancer != new.balancer)
    }
}

/// Keeps the list in `state` up to date for as long as the channel lives.
pub(crate) async fn run(channel: Channel, state: &State) -> Status {
    loop {
        let reason = follow(channel.clone(), state).await;
        tracing::debug!(%reason, "watching the list of workers ended");
        sleep(RETRY).await;
    }
}

async fn follow(channel: Channel, state: &State) -> Status {
    let mut client = LoadBalancerClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    let request = WatchRequest { service: state.wanted.service.to_string() };
    let mut lists = match client.watch(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status,
    };
    let believed_from = Instant::now() + REBUILD_GRACE;
    let mut doubtful: Option<Assignment> = None;
    loop {
        tokio::select! {
            message = lists.message() => {
                let assignment = match message {
                    Ok(Some(message)) => Assignment::parse(&message, state),
                    Ok(None) => Err(Status::unavailable("the balancer ended the list")),
                    Err(status) => Err(status),
                };
                match assignment {
                    Ok(new) if state.assignments.is_doubtful(&new)
                        && Instant::now() < believed_from => doubtful = Some(new),
                    Ok(new) => {
                        doubtful = None;
                        state.assignments.replace(new);
                        state.notify();
                    }
                    Err(status) => return status,
                }
            }
            () = sleep_until(believed_from), if doubtful.is_some() => {
                if let Some(empty) = doubtful.take() {
                    state.assignments.replace(empty);
                    state.notify();
                }
            }
        }
    }
}
