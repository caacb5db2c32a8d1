//! Places for long-lived streams, counted. Their number can be changed while they are taken.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tonic::Status;

use lb_core::registry::WORKER_LIMIT;
use lb_proto::retry;
use lb_tls::{Bounds, Bucket, Connections, Pace, Peer, Rate};

use crate::{config::Limits, scaling::SCALER_LIMIT};

/// When a client that found no place should ask again: places become free when others leave, which is seldom.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Registrations in all: twice the ten thousand workers that may come back at once, which takes two seconds. Later ones wait a
/// moment.
const ARRIVALS: Rate = Rate { burst: 20_000, regained: Duration::from_secs(10) };

/// An address may register a quarter as many workers at once as it has places, and as many again in this time: with 1,024
/// places, 256 workers of a host that starts, and 64 a second of one whose workers fail one after the other.
const ARRIVALS_REGAINED: Duration = Duration::from_secs(4);
const ARRIVALS_SHARE: usize = 4;

/// An address may have so many times fewer scalers than other streams: with 1,024 places, 16. A host has one, and each may name hundreds
/// of instances, which are walked several times a second.
const SCALERS_SHARE: usize = 64;

/// The places of a balancer.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(crate) connections: Connections,
    pub(crate) sessions: Places,
    pub(crate) watchers: Places,
    pub(crate) event_watchers: Places,
    pub(crate) registrations: Places,
    pub(crate) scalers: Places,
    pub(crate) arrivals: Arrivals,
}

impl Streams {
    pub(crate) fn new(limits: Limits) -> Self {
        let Limits { sessions, watchers, per_peer, .. } = limits;
        Self {
            connections: Connections::new(limits.bounds()),
            sessions: Places::new("sessions", Some("limits.sessions"), sessions, per_peer),
            watchers: Places::new("watchers", Some("limits.watchers"), watchers, per_peer),
            event_watchers: Places::new("watchers", Some("limits.watchers"), watchers, per_peer),
            registrations: Places::new("registrations", None, WORKER_LIMIT, per_peer),
            scalers: Places::new(
                "scalers",
                None,
                2 * SCALER_LIMIT,
                per_peer.div_ceil(SCALERS_SHARE),
            ),
            arrivals: Arrivals::new(per_peer),
        }
    }

    /// Sets new limits. Nobody is sent away: with more streams than places, new ones wait until enough have ended.
    pub(crate) fn resize(&self, limits: Limits) {
        let Limits { sessions, watchers, per_peer, .. } = limits;
        self.connections.resize(limits.bounds());
        self.sessions.resize(sessions, per_peer);
        self.watchers.resize(watchers, per_peer);
        self.event_watchers.resize(watchers, per_peer);
        self.registrations.resize(WORKER_LIMIT, per_peer);
        self.scalers.resize(2 * SCALER_LIMIT, per_peer.div_ceil(SCALERS_SHARE));
        self.arrivals.lock().per_peer = per_peer;
    }
}

impl Limits {
    fn bounds(self) -> Bounds {
        let Self { connections: in_all, per_peer, .. } = self;
        Bounds { in_all, per_peer, prompt: true }.within_descriptors()
    }
}

/// A bounded number of places, and of those that one address may have.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    count: Arc<Mutex<Count>>,
    what: &'static str,
    key: Option<&'static str>,
}

#[derive(Debug)]
struct Count {
    taken: usize,
    limit: usize,
    per_peer: usize,
    peers: HashMap<IpAddr, usize>,
}

/// A place, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    count: Arc<Mutex<Count>>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut count = lock(&self.count);
        count.taken -= 1;
        if let Some(of_peer) = count.peers.get_mut(&self.address) {
            *of_peer -= 1;
            if *of_peer == 0 {
                count.peers.remove(&self.address);
            }
        }
    }
}

impl Places {
    fn new(what: &'static str, key: Option<&'static str>, limit: usize, per_peer: usize) -> Self {
        let count = Count { taken: 0, limit, per_peer, peers: HashMap::new() };
        Self { count: Arc::new(Mutex::new(count)), what, key }
    }

    fn resize(&self, limit: usize, per_peer: usize) {
        let mut count = lock(&self.count);
        (count.limit, count.per_peer) = (limit, per_peer);
    }

    /// Takes a place for a peer; all whose address is not known are one.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED, naming the limit, and when to try again.
    pub(crate) fn take(&self, peer: &Peer) -> Result<Place, Status> {
        let address = peer.ip().unwrap_or(Ipv6Addr::UNSPECIFIED.into());
        let mut count = lock(&self.count);
        let of_peer = count.peers.get(&address).copied().unwrap_or(0);
        let (taken, whose, limit, key) = if of_peer >= count.per_peer {
            (of_peer, "for this address", count.per_peer, Some("limits.per_peer"))
        } else {
            (count.taken, "in all", count.limit, self.key)
        };
        if taken < limit {
            count.taken += 1;
            *count.peers.entry(address).or_default() += 1;
            return Ok(Place { count: Arc::clone(&self.count), address });
        }
        drop(count);
        peer.in_vain();
        let what = self.what;
        let key = key.map_or_else(String::new, |key| format!(" ({key})"));
        let message = format!("this balancer already has {limit} {what} {whose}, its limit{key}");
        Err(retry::exhausted(message, RETRY_AFTER))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How fast workers may register.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals(Arc<Mutex<Paces>>);

#[derive(Debug)]
struct Paces {
    per_peer: usize,
    in_all: Bucket,
    peers: Pace,
}

impl Arrivals {
    fn new(per_peer: usize) -> Self {
        let (in_all, peers) = (Bucket::default(), Pace::default());
        Self(Arc::new(Mutex::new(Paces { per_peer, in_all, peers })))
    }

    /// One more.
    ///
    /// # Errors
    /// When it is one too many: how long to wait.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let Paces { per_peer, in_all, peers } = &mut *self.lock();
        let burst = per_peer.div_ceil(ARRIVALS_SHARE);
        let rate = Rate { burst, regained: ARRIVALS_REGAINED };
        peers.take(address.to_canonical(), rate, now)?;
        in_all.take(ARRIVALS, now)
    }

    fn lock(&self) -> MutexGuard<'_, Paces> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        let mut peer = Peer::default();
        peer.address = Some(([10, 0, 0, last], 1).into());
        peer
    }

    #[test]
    fn fewer_places_send_nobody_away() {
        let places = Places::new("sessions", Some("limits.sessions"), 2, 2);
        let (first, second) = (places.take(&peer(1)).unwrap(), places.take(&peer(2)).unwrap());
        let status = places.take(&peer(1)).unwrap_err();
        assert_eq!(
            status.message(),
            "this balancer already has 2 sessions in all, its limit (limits.sessions)"
        );
        assert!(status.metadata().contains_key(retry::PUSHBACK_KEY));
        places.resize(1, 1);
        drop(first);
        assert!(places.take(&peer(1)).is_err());
        drop(second);
        let _one = places.take(&peer(1)).unwrap();
        assert!(places.take(&peer(2)).is_err());
        places.resize(2, 1);
        assert!(places.take(&peer(2)).is_ok());
    }

    #[test]
    fn an_address_has_its_own_limit() {
        let places = Places::new("registrations", None, 9, 2);
        let [first, _second] = [1, 1].map(|last| places.take(&peer(last)).unwrap());
        let status = places.take(&peer(1)).unwrap_err();
        assert_eq!(
            status.message(),
            "this balancer already has 2 registrations for this address, its limit (limits.per_peer)"
        );
        assert!(places.take(&peer(2)).is_ok());
        drop(first);
        assert!(places.take(&peer(1)).is_ok());
        assert_eq!(lock(&places.count).peers.len(), 1, "who has nothing is forgotten");
    }

    #[test]
    fn registrations_have_a_pace() {
        let (now, arrivals) = (Instant::now(), Arrivals::new(8));
        let address = |last| IpAddr::from([10, 0, 0, last]);
        assert!((0..2).all(|_| arrivals.take(address(1), now).is_ok()));
        assert_eq!(arrivals.take(address(1), now), Err(ARRIVALS_REGAINED / 2));
        assert!(arrivals.take(address(2), now).is_ok());
        assert!(arrivals.take(address(1), now + ARRIVALS_REGAINED / 2).is_ok());
    }
}
