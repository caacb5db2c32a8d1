//! The last list of workers, kept for as long as this client lives.
//!
//! The list outlives the balancer that sent it: whoever loses its balancer goes on with what it
//! has. For the same reason a much shorter list from another balancer than the one before is not believed
//! at once. A balancer that has just restarted knows nobody until the workers have found it again: believing it
//! would fail every call in between, or send all of them to the first worker that is back.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use lb_core::id::BalancerId;
use lb_proto::v1::{self, WatchRequest, load_balancer_client::LoadBalancerClient};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Status, transport::Channel};

use crate::{local::Endpoint, state::State};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

/// How long a balancer that is new to this client is not believed when it names less than half of the workers
/// known so far: longer than the pause after which a worker looks for its balancer again, 2 s at most.
pub(crate) const REBUILD_GRACE: Duration = Duration::from_secs(3);
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

    /// Whether the list names somebody to call and came from another balancer than this one.
    pub(crate) fn is_from_another(&self, balancer: &BalancerId) -> bool {
        let is_other =
            |latest: &Arc<Assignment>| !latest.endpoints.is_empty() && latest.balancer != *balancer;
        self.0.load().as_ref().is_some_and(is_other)
    }

    pub(crate) fn replace(&self, assignment: Assignment) {
        self.0.store(Some(Arc::new(assignment)));
    }

    /// Whether `new` names less than half of the workers that another balancer knew.
    fn is_doubtful(&self, new: &Assignment) -> bool {
        let much_shorter = |known: &Arc<Assignment>| {
            known.balancer != new.balancer && new.endpoints.len() * 2 < known.endpoints.len()
        };
        self.0.load().as_ref().is_some_and(much_shorter)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::Workers;

    fn list(balancer: &str, count: usize) -> Assignment {
        let workers = Workers::default();
        let endpoint = |place: usize| Endpoint {
            worker: workers.intern(&format!("w{place}").parse().unwrap(), "127.0.0.1:1"),
            weight: 1.0,
        };
        let endpoints = (0..count).map(endpoint).collect();
        Assignment { balancer: balancer.parse().unwrap(), endpoints }
    }

    #[test]
    fn a_new_balancer_is_believed_when_it_knows_half_of_the_fleet() {
        let assignments = Assignments::default();
        assert!(!assignments.is_doubtful(&list("new", 0)), "nothing is known yet");
        assignments.replace(list("old", 10));
        for (count, doubtful) in [(0, true), (1, true), (4, true), (5, false), (10, false)] {
            assert_eq!(assignments.is_doubtful(&list("new", count)), doubtful, "{count} workers");
        }
        assert!(!assignments.is_doubtful(&list("old", 0)), "its own word counts at once");
        assert!(assignments.is_from_another(&"new".parse().unwrap()));
        assert!(!assignments.is_from_another(&"old".parse().unwrap()));
    }
}
