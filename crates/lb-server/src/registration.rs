//! `Registry.Register`: a worker's stream, from its hello to its end.
//!
//! There may be ten thousand, and nearly all of their time they wait for the next report. So there is no task and no queue
//! of answers for each: the answers are a [`Stream`] that gRPC polls, and polling it is what hears the worker, passes its
//! reports up and takes orders down. When the connection goes, gRPC drops the stream, and the owner hears of it from
//! the guard inside ([`Registered`]).

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_channel::mpsc;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};

use lb_core::{
    id::{BalancerId, ClusterName, WorkerNumber},
    registry::{HEARTBEAT, REPORT_INTERVAL, Refusal},
};
use lb_proto::{
    parse::{self, ParseError},
    v1::{
        self, Accepted, Refused, RegistryMessage, WorkerMessage, registry_message::Kind as Answer,
        registry_server::Registry, worker_message::Kind as Said,
    },
};

use lb_tls::{Peer, Seldom, rights::may_register};

use crate::{
    balancer::peer,
    limits::{Arrivals, Place, Places},
    owner::{Event, Handle, ORDER_QUEUE, OrderSender},
    status::IntoStatus as _,
};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod member;

use member::{Member, Next, Registered};

/// How long a new stream may take to say who it is.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// When a worker whose id is taken should ask again: the holder may be dead and not yet missed.
const RETRY_TAKEN: Duration = HEARTBEAT;

/// When a worker should ask a full balancer again.
const RETRY_FULL: Duration = Duration::from_secs(10);

/// The registration service.
pub(crate) struct Registration {
    pub(crate) owner: Handle,
    pub(crate) balancer: BalancerId,
    pub(crate) cluster: ClusterName,
    /// Whether this balancer serves its own machine only.
    pub(crate) local: bool,
    /// Whether workers prove who they are.
    pub(crate) identified: bool,
    pub(crate) places: Places,
    pub(crate) arrivals: Arrivals,
    pub(crate) refused: Arc<Mutex<Seldom>>,
    pub(crate) stop: CancellationToken,
}

type Answers = Pin<Box<dyn Stream<Item = Result<RegistryMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Registry for Registration {
    type RegisterStream = Answers;

    async fn register(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Answers>, Status> {
        let peer = peer(&request);
        let Some(address) = peer.address else {
            return Err(Status::internal("the connection has no peer address"));
        };
        let place = self.places.take(&peer)?;
        let newcomer = Newcomer {
            owner: self.owner.clone(),
            balancer: self.balancer.clone(),
            cluster: self.cluster.clone(),
            local: self.local,
            identified: self.identified,
            arrivals: self.arrivals.clone(),
            refused: Arc::clone(&self.refused),
            address: address.ip(),
            peer,
            said: request.into_inner(),
            stop: self.stop.clone(),
            place,
        };
        let answers = stream::unfold(Stage::New(Box::new(newcomer)), Stage::next);
        let stop = self.stop.clone().cancelled_owned();
        Ok(Response::new(Box::pin(answers.take_until(Box::pin(stop)))))
    }
}

/// Where a stream stands between two answers. What is large is boxed, since [`stream::unfold`] and its future keep room
/// for several.
enum Stage {
    /// Nothing has been heard. What happens in it is boxed too: it is over soon, and should not take up room later.
    New(Box<Newcomer>),
    /// The worker is in.
    In(Box<Member>),
    /// The last message has been sent; what remains is the status.
    Ending(Status),
    /// All has been said.
    Over,
}

impl Stage {
    /// The next answer, and where the stream stands after it; `None` ends the stream.
    async fn next(self) -> Option<(Result<RegistryMessage, Status>, Self)> {
        match self {
            Self::New(newcomer) => match Box::pin(newcomer.admit()).await {
                Ok((accepted, member)) => {
                    Some((Ok(message(Answer::Accepted(accepted))), Self::In(Box::new(member))))
                }
                // Says why, both as a message and as the status the stream ends with.
                Err(refused) => {
                    let status = Status::new(refused.code.into(), refused.reason.clone());
                    Some((Ok(message(Answer::Refused(refused))), Self::Ending(status)))
                }
            },
            Self::In(mut member) => match member.next().await {
                Next::Answer(answer) => Some((Ok(message(answer)), Self::In(member))),
                Next::Status(status) => Some((Err(status), Self::Over)),
                Next::End => None,
            },
            Self::Ending(status) => Some((Err(status), Self::Over)),
            Self::Over => None,
        }
    }
}

fn message(kind: Answer) -> RegistryMessage {
    RegistryMessage { kind: Some(kind) }
}

/// A stream that has yet to say whose it is.
struct Newcomer {
    owner: Handle,
    balancer: BalancerId,
    cluster: ClusterName,
    local: bool,
    identified: bool,
    arrivals: Arrivals,
    refused: Arc<Mutex<Seldom>>,
    address: IpAddr,
    peer: Peer,
    said: Streaming<WorkerMessage>,
    stop: CancellationToken,
    place: Place,
}

impl Newcomer {
    /// From the first message to a member, or to the reason why not.
    async fn admit(mut self: Box<Self>) -> Result<(Accepted, Member), Refused> {
        let (sender, orders) = mpsc::channel(ORDER_QUEUE);
        let number = self.register(sender).await.inspect_err(|refused| self.tell(refused))?;
        let registered = Registered::new(self.owner, number, self.stop, self.place);
        let accepted = Accepted {
            balancer_id: self.balancer.to_string(),
            worker_number: number.0,
            report_interval_ms: milliseconds(REPORT_INTERVAL),
            heartbeat_ms: milliseconds(HEARTBEAT),
        };
        Ok((accepted, Member::new(registered, self.said, orders)))
    }

    async fn register(&mut self, orders: OrderSender) -> Result<WorkerNumber, Refused> {
        let hello = self.hello().await.map_err(|status| refused(&status, Duration::ZERO))?;
        self.arrivals.take(self.address, Instant::now()).map_err(|wait| {
            let text = "registrations of this address come too fast: a quarter of limits.per_peer at once, and as many in 4 seconds";
            refused(&Status::resource_exhausted(text), wait.max(HEARTBEAT))
        })?;
        let parsed = parse::hello(hello, self.address)
            .map_err(|error| refused(&error.into_status(), Duration::ZERO))?;
        if parsed.cluster != self.cluster {
            let reason = format!(
                "hello.cluster is {}: this balancer serves cluster {}",
                parsed.cluster, self.cluster
            );
            return Err(refused(&Status::failed_precondition(reason), Duration::ZERO));
        }
        let ip = parsed.hello.address.ip();
        if ip.is_loopback() && !self.local {
            let reason = ParseError::Unreachable(ip).to_string();
            return Err(refused(&Status::failed_precondition(reason), Duration::ZERO));
        }
        if !self.identified && !is_private(ip) {
            let reason = ParseError::Public(ip).to_string();
            return Err(refused(&Status::permission_denied(reason), Duration::ZERO));
        }
        may_register(self.peer.identity.as_deref(), &parsed.hello.id, &parsed.hello.services)
            .map_err(|status| refused(&status, Duration::ZERO))?;
        let ask = |reply| Event::Hello { hello: Box::new(parsed.hello), orders, reply };
        let admitted = self.owner.ask(ask).await;
        let admitted = admitted.map_err(|stopping| refused(&stopping.into_status(), HEARTBEAT))?;
        admitted.map_err(|refusal| {
            let retry = match refusal {
                Refusal::Taken { .. } => RETRY_TAKEN,
                Refusal::Full => RETRY_FULL,
            };
            refused(&refusal.into_status(), retry)
        })
    }

    /// A refusal costs its peer something, and the log is not theirs to fill.
    fn tell(&self, Refused { reason, .. }: &Refused) {
        self.peer.in_vain();
        let mut seldom = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = seldom.happened(Instant::now()) {
            warn!(peer = %self.address, %reason, times, "a registration was refused");
        } else {
            debug!(peer = %self.address, %reason, "a registration was refused");
        }
    }

    async fn hello(&mut self) -> Result<v1::Hello, Status> {
        let expected = || Status::invalid_argument("expected a hello as the first message");
        let first = timeout(HELLO_TIMEOUT, self.said.message()).await;
        match first.map_err(|_| Status::deadline_exceeded("no hello within 5 seconds"))?? {
            Some(WorkerMessage { kind: Some(Said::Hello(hello)) }) => Ok(hello),
            _ => Err(expected()),
        }
    }
}

/// Addresses that are not routed over the Internet (RFC 1918, 3927, 4193, 4291).
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_private() || address.is_link_local() || address.is_loopback()
        }
        IpAddr::V6(address) => {
            address.is_unique_local() || address.is_unicast_link_local() || address.is_loopback()
        }
    }
}

pub(crate) fn refused(status: &Status, retry_after: Duration) -> Refused {
    Refused {
        code: status.code().into(),
        reason: status.message().to_owned(),
        retry_after_ms: milliseconds(retry_after),
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_stay_at_home_are_private() {
        for (address, private) in [
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("169.254.1.1", true),
            ("127.0.0.1", true),
            ("192.0.2.1", false),
            ("100.64.0.1", false),
            ("8.8.8.8", false),
            ("::ffff:10.1.2.3", true),
            ("::ffff:8.8.8.8", false),
            ("fd00::1", true),
            ("fe80::1", true),
            ("::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), private, "{address}");
        }
    }
}
