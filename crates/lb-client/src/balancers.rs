//! Which balancer to use: the first one that answers, for as long as it does.
//!
//! All known addresses are dialled at once, those found meanwhile included, and the first
//! connection wins. It carries the session and the list of workers. When it breaks, the other
//! balancers are dialled at once and the lost one only if there is no other; when all fail, again
//! and again with growing pauses.

use std::{collections::HashSet, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use lb_proto::v1::SessionOpen;
use lb_tls::{Connector, Expected, Tls};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tonic::transport::{Channel, Endpoint};

use crate::{
    assignment,
    backoff::Backoff,
    search::{ConnectError, FoundBalancer, Search},
    session,
    state::State,
};

/// How long one dial may take.
const DIAL_LIMIT: Duration = Duration::from_secs(1);
/// A balancer that is silent for this long is asked for a sign of life,
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// and given up when it sends none for this long: 2.5 s in all.
const PING_LIMIT: Duration = Duration::from_millis(1500);
/// A balancer that has no place for a session is asked again after this time.
const SESSION_RETRY: Duration = Duration::from_secs(5);
/// Most addresses dialled at once: several balancers with several interfaces each.
const DIALS: usize = 16;
/// A connection that lasted less than this counts as a failed attempt, lest a balancer that breaks
/// every session be dialled in a tight loop.
const SHORT_LIVED: Duration = Duration::from_secs(1);
/// How often unused connections to workers are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// Keeps `state` connected to one of the known balancers. Never ends.
pub(crate) async fn run(state: &State, mut known: watch::Receiver<Vec<FoundBalancer>>) {
    let mut backoff = Backoff::new(fastrand::Rng::new());
    let mut lost: Option<String> = None;
    loop {
        let connected_at =
            match dial_any(&mut known, lost.take().as_deref(), &state.wanted.tls).await {
                Ok((id, channel)) => {
                    let connected_at = Instant::now();
                    tracing::debug!(balancer = id, "connected");
                    let reason = follow(channel, state).await;
                    tracing::debug!(balancer = id, %reason, "connection to the balancer ended");
                    state.note_trouble(format!("{id}: {}", reason.message()));
                    lost = Some(id);
                    Some(connected_at)
                }
                Err(trouble) => {
                    state.note_trouble(trouble);
                    None
                }
            };
        if connected_at.is_some_and(|connected_at| connected_at.elapsed() >= SHORT_LIVED) {
            backoff.reset();
            continue;
        }
        tokio::select! {
            () = sleep(backoff.pause()) => {}
            Ok(()) = known.changed() => {}
        }
    }
}

/// Uses one connection until its session ends.
async fn follow(channel: Channel, state: &State) -> tonic::Status {
    let open = SessionOpen {
        service: state.wanted.service.to_string(),
        labels: state.wanted.labels.clone(),
    };
    tokio::select! {
        reason = keep_session(channel.clone(), open, state) => reason,
        reason = assignment::run(channel, state) => reason,
    }
}

/// Runs a session to its end. A balancer that has no place for one is asked again every now and then: until it has, this
/// client picks from the list.
async fn keep_session(channel: Channel, open: SessionOpen, state: &State) -> tonic::Status {
    loop {
        let reason = session::run(channel.clone(), open.clone(), state).await;
        let refused = reason.code() == tonic::Code::ResourceExhausted;
        state.note_session_refused(refused);
        if !refused {
            return reason;
        }
        tracing::debug!(%reason, "no session with the balancer");
        sleep(SESSION_RETRY).await;
    }
}

/// The first of the known balancers that takes a connection, with its id. The one just lost is
/// left out as long as there is another.
async fn dial_any(
    known: &mut watch::Receiver<Vec<FoundBalancer>>,
    lost: Option<&str>,
    tls: &Tls,
) -> Result<(String, Channel), String> {
    let mut dials = FuturesUnordered::new();
    let mut tried = HashSet::new();
    let mut trouble = None;
    loop {
        let balancers = known.borrow_and_update().clone();
        let only_one = balancers.len() == 1;
        for (balancer, address) in by_promise(&balancers, lost.filter(|_| !only_one)) {
            if tried.len() < DIALS && tried.insert(address.clone()) {
                dials.push(dial(balancer.clone(), address.clone(), tls));
            }
        }
        tokio::select! {
            Some(outcome) = dials.next() => match outcome {
                Ok(connected) => return Ok(connected),
                Err(error) => trouble = Some(error),
            },
            Ok(()) = known.changed() => continue,
            else => std::future::pending().await,
        }
        if let (true, Some(trouble)) = (dials.is_empty(), trouble.take()) {
            return Err(trouble);
        }
    }
}

/// The addresses of all balancers but `lost`, the most promising first: each one's best address before anyone's second,
/// and who was found last before those who may be gone already.
fn by_promise<'a>(
    balancers: &'a [FoundBalancer],
    lost: Option<&str>,
) -> Vec<(&'a FoundBalancer, &'a String)> {
    let live = || balancers.iter().rev().filter(|balancer| lost != Some(balancer.id.as_str()));
    let most = live().map(|balancer| balancer.addresses.len()).max().unwrap_or(0);
    let ranked =
        |rank| live().filter_map(move |balancer| Some((balancer, balancer.addresses.get(rank)?)));
    (0..most).flat_map(ranked).collect()
}

async fn dial(
    balancer: FoundBalancer,
    address: String,
    tls: &Tls,
) -> Result<(String, Channel), String> {
    if let Some(theirs) = balancer.mode.filter(|theirs| theirs != tls.mode().as_str()) {
        return Err(format!(
            "{address}: balancer {} announces the mode {theirs} and this client speaks {}: all of a cluster must speak \
             the same",
            balancer.id,
            tls.mode()
        ));
    }
    let connector = Connector::new(tls.clone(), Expected::Server, None);
    match endpoint(&address) {
        Ok(endpoint) => match endpoint.connect_with_connector(connector).await {
            Ok(channel) => Ok((balancer.id, channel)),
            Err(error) => Err(format!("{address}: {}", root(&error))),
        },
        Err(error) => Err(format!("{address}: {error}")),
    }
}

/// The innermost cause: "connection refused" instead of "transport error".
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(DIAL_LIMIT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_LIMIT)
        .keep_alive_while_idle(true))
}

/// Closes what is not used any more, every now and then. Never ends.
pub(crate) async fn sweep(state: &State) {
    loop {
        sleep(SWEEP).await;
        state.sweep();
    }
}

/// A plain connection to a balancer, for its other services.
#[derive(Debug, Clone)]
pub struct BalancerConnection {
    /// The id it announces; for one given by address, the address.
    pub id: String,
    /// For any tonic client of a service of the balancer.
    pub channel: Channel,
}

/// Connects to the first balancer that answers, for callers who want its `Admin` service or a
/// single `Pick` and no balanced channel.
///
/// # Errors
/// See [`ConnectError`]; [`ConnectError::NoBalancer`] after the time that `search` allows.
pub async fn connect_balancer(search: &Search) -> Result<BalancerConnection, ConnectError> {
    let found = search.start()?;
    let (publisher, mut known) = watch::channel(Vec::new());
    let trouble = std::sync::Mutex::new(None);
    let connect = async {
        let mut backoff = Backoff::new(fastrand::Rng::new());
        loop {
            match dial_any(&mut known, None, &search.tls).await {
                Ok((id, channel)) => return BalancerConnection { id, channel },
                Err(error) => {
                    *trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                        Some(error);
                }
            }
            sleep(backoff.pause()).await;
        }
    };
    tokio::select! {
        connection = connect => return Ok(connection),
        () = found.publish(publisher) => {}
        () = sleep(search.wait) => {}
    }
    let trouble = trouble.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Err(search.no_balancer(trouble))
}
