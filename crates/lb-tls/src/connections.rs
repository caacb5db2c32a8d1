//! Connections, counted by the address that they come from.
//!
//! Whoever has an address can open connections, in every mode. So an address has a number of places and a pace, and all
//! together have a number of places. Addresses of IPv6 are not put together by prefix: on a LAN all hosts share one.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;

use crate::{
    frames::Shared,
    pace::{Pace, Rate},
    seldom::Seldom,
};

/// An address may open as many connections at once as it has places, and as many again in this time. Whoever opens one for each
/// call instead of keeping it gets 128 a second with the default of 1,024 places.
const REGAINED: Duration = Duration::from_secs(8);
/// Open files that are not connections: listening sockets, the log, connections that this process dials. Some thirty, and 64 for
/// the balancers of a worker.
const OTHER_FILES: usize = 128;
/// Addresses that are remembered before the first look for those that can be forgotten.
const FIRST_SWEEP: usize = 1024;
/// Places that there are at least, however few open files are allowed.
const LEAST: usize = 16;

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub in_all: usize,
    /// From one address.
    pub per_peer: usize,
    /// Whether requests are answered at once, so that many without an answer are a flood.
    pub prompt: bool,
}

impl Default for Bounds {
    /// What a process on a LAN never reaches in honest use: a connection costs some 30 KiB, and 40,000 are four for each of the ten
    /// thousand workers and clients that a balancer is made for; 1,024 are the processes of one host, or of many behind one address.
    fn default() -> Self {
        Self { in_all: 40_000, per_peer: 1024, prompt: false }
    }
}

impl Bounds {
    /// No more than there can be open files: it is better to close a newcomer than to be unable to accept it.
    #[must_use]
    pub fn within_descriptors(self) -> Self {
        let files = getrlimit(Resource::Nofile).current;
        let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
        let most = files.saturating_sub(OTHER_FILES).max(LEAST);
        Self { in_all: self.in_all.min(most), ..self }
    }
}

/// Everybody who is connected. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    bounds: Bounds,
    open: usize,
    /// Those with connections, and those whose allowance of frames has not grown back.
    peers: HashMap<IpAddr, Here>,
    sweep_at: usize,
    pace: Pace,
    slowed: Seldom,
}

/// An address.
#[derive(Debug, Default)]
struct Here {
    open: usize,
    requests: Arc<AtomicUsize>,
    frames: Arc<Shared>,
}

/// Why a connection is closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    InAll(usize),
    OfPeer(usize),
    TooFast(usize),
}

impl fmt::Display for Full {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InAll(limit) => write!(formatter, "there are {limit} connections, the limit"),
            Self::OfPeer(limit) => {
                write!(formatter, "this address has {limit} connections, the limit")
            }
            Self::TooFast(limit) => {
                write!(formatter, "this address opens more than {limit} in {REGAINED:?}")
            }
        }
    }
}

impl Connections {
    /// None yet.
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Mutex::new(Table { bounds, ..Table::default() })))
    }

    /// Sets new bounds. Nobody is sent away: newcomers are, until enough have left.
    pub fn resize(&self, bounds: Bounds) {
        self.lock().bounds = bounds;
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.lock().open
    }

    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> Result<Arc<Guest>, Full> {
        let address = address.to_canonical();
        let mut table = self.lock();
        let Bounds { in_all, per_peer, prompt } = table.bounds;
        if table.open >= in_all {
            return Err(Full::InAll(in_all));
        }
        if table.peers.get(&address).is_some_and(|here| here.open >= per_peer) {
            return Err(Full::OfPeer(per_peer));
        }
        let rate = Rate { burst: per_peer, regained: REGAINED };
        table.pace.take(address, rate, now).map_err(|_| Full::TooFast(per_peer))?;
        if table.peers.len() >= table.sweep_at.max(FIRST_SWEEP) {
            table.peers.retain(|_, here| here.open > 0 || !here.frames.is_whole(now));
            table.sweep_at = 2 * table.peers.len();
        }
        table.open += 1;
        let here = table.peers.entry(address).or_default();
        here.open += 1;
        let (requests, frames) = (Arc::clone(&here.requests), Arc::clone(&here.frames));
        let (connections, owed) = (self.clone(), AtomicU32::new(0));
        let requests_count = prompt;
        Ok(Arc::new(Guest { connections, address, owed, requests, frames, requests_count }))
    }

    /// Whether it is time to tell that a peer has been slowed down, and how often that was.
    pub(crate) fn slowed(&self, now: Instant) -> Option<u64> {
        self.lock().slowed.happened(now)
    }

    fn leave(&self, address: IpAddr) {
        let mut table = self.lock();
        table.open -= 1;
        let Some(here) = table.peers.get_mut(&address) else { return };
        here.open -= 1;
        if here.open == 0 && here.frames.is_whole(Instant::now()) {
            table.peers.remove(&address);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection. It is free again when the connection and all its requests are gone.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) connections: Connections,
    address: IpAddr,
    /// Frames that it has been charged for and that are not counted yet.
    owed: AtomicU32,
    /// Of all connections of its address.
    requests: Arc<AtomicUsize>,
    /// As well.
    pub(crate) frames: Arc<Shared>,
    pub(crate) requests_count: bool,
}

impl Guest {
    /// Counts so many frames more than it has sent.
    pub(crate) fn charge(&self, frames: u32) {
        self.owed.fetch_add(frames, Ordering::Relaxed);
    }

    /// What it has been charged for since the last time.
    pub(crate) fn charged(&self) -> u32 {
        // Nearly always nothing, and looking is cheaper than taking.
        if self.owed.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.owed.swap(0, Ordering::Relaxed)
    }

    /// Counts one more request of its address, if there are fewer than `most`.
    pub(crate) fn enter(&self, most: usize) -> Option<Entered> {
        if self.requests.fetch_add(1, Ordering::Relaxed) < most {
            return Some(Entered(Some(Arc::clone(&self.requests))));
        }
        self.requests.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.connections.leave(self.address);
    }
}

/// A request that is counted while this exists. Clones are not counted.
#[derive(Debug, Default)]
pub struct Entered(Option<Arc<AtomicUsize>>);

impl Clone for Entered {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(requests) = &self.0 {
            requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn bounds(in_all: usize, per_peer: usize) -> Bounds {
        Bounds { in_all, per_peer, ..Bounds::default() }
    }

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[test]
    fn each_address_has_its_places_and_all_together_have_theirs() {
        let now = Instant::now();
        let connections = Connections::new(bounds(3, 2));
        let first = connections.take(address(1), now).unwrap();
        // The same host by the other family.
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into();
        let second = connections.take(mapped, now).unwrap();
        assert_eq!(connections.take(address(1), now).unwrap_err(), Full::OfPeer(2));
        let third = connections.take(address(2), now).unwrap();
        assert_eq!(connections.take(address(3), now).unwrap_err(), Full::InAll(3));
        drop(first);
        assert_eq!(connections.take(address(1), now).unwrap_err(), Full::TooFast(2));
        let later = now + REGAINED;
        let fourth = connections.take(address(1), later).unwrap();
        connections.resize(bounds(1, 1));
        drop((second, third));
        assert_eq!(connections.take(address(3), later).unwrap_err(), Full::InAll(1));
        drop(fourth);
        assert_eq!(connections.open(), 0);
        assert!(connections.lock().peers.is_empty());
        assert!(connections.take(address(3), later).is_ok());
    }

    #[test]
    fn requests_are_counted_for_the_address() {
        let connections = Connections::new(bounds(9, 9));
        let now = Instant::now();
        let [one, two] = [1, 1].map(|last| connections.take(address(last), now).unwrap());
        let other = connections.take(address(2), now).unwrap();
        let entered = one.enter(2).unwrap();
        let copy = entered.clone();
        let second = two.enter(2).unwrap();
        assert!(one.enter(2).is_none() && two.enter(2).is_none());
        assert!(other.enter(2).is_some());
        drop(copy);
        assert!(one.enter(2).is_none());
        drop((entered, second));
        assert!(one.enter(1).is_some());
    }
}
