//! Which balancers there are, and one task for each that keeps this daemon registered with it.
//!
//! A worker registers with every balancer it finds: they share no state, and each must see the whole load. A scaler does so
//! because any of them may be the next whose plan counts.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use lb_discovery::{Browse, Change, Peer};

use crate::Place;

/// More balancers than this on one network are a mistake or an attack; each costs a connection.
const BALANCERS_LIMIT: usize = 64;
/// How long the goodbyes may take together. Each has its own, shorter limit.
const GOODBYES_TIMEOUT: Duration = Duration::from_secs(1);

/// Where balancers come from.
#[derive(Debug)]
pub enum Source {
    /// `host:port`, given by hand.
    Static(Vec<String>),
    /// DNS-SD.
    Browse(Browse),
}

/// Runs `keep` for everyone in `source` until `leave`, then waits for those tasks, which say goodbye. Each is told where its
/// balancer is, and of changes; it ends by itself when the balancer is forgotten.
pub async fn follow<K, F>(source: Source, leave: CancellationToken, keep: K)
where
    K: Fn(watch::Receiver<Place>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut balancers = Balancers { keep, places: BTreeMap::new(), tasks: JoinSet::new() };
    match source {
        Source::Static(addresses) => {
            for address in addresses {
                balancers.add(address.clone(), Place::Static(address));
            }
            leave.cancelled().await;
        }
        Source::Browse(mut browse) => loop {
            tokio::select! {
                () = leave.cancelled() => break,
                change = browse.next() => balancers.apply(change),
                Some(ended) = balancers.tasks.join_next() => balancers.tidy(ended),
            }
        },
    }
    let goodbyes = async { while balancers.tasks.join_next().await.is_some() {} };
    if timeout(GOODBYES_TIMEOUT, goodbyes).await.is_err() {
        debug!("a balancer did not take the goodbye in time");
    }
}

/// Whether a balancer's address given by hand can be dialled: `host:port`.
pub fn check_address(address: &str) -> bool {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
}

struct Balancers<K> {
    keep: K,
    /// By id, or by address for static ones. A place whose task has ended is closed.
    places: BTreeMap<String, watch::Sender<Place>>,
    tasks: JoinSet<()>,
}

impl<K, F> Balancers<K>
where
    K: Fn(watch::Receiver<Place>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    fn add(&mut self, name: String, place: Place) {
        if self.places.len() >= BALANCERS_LIMIT {
            warn!(
                balancer = name,
                limit = BALANCERS_LIMIT,
                "too many balancers, this one is left out"
            );
            return;
        }
        let (sender, receiver) = watch::channel(place);
        self.places.insert(name, sender);
        self.tasks.spawn((self.keep)(receiver));
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Up(peer) => self.up(peer),
            Change::Down { id } => {
                let Some(place) = self.places.get(&id) else { return };
                info!(
                    event = "balancer_gone",
                    balancer = id,
                    "a balancer is not announced any more"
                );
                place.send_modify(|place| {
                    if let Place::Found { withdrawn, .. } = place {
                        *withdrawn = Some(Instant::now());
                    }
                });
            }
        }
    }

    fn up(&mut self, peer: Peer) {
        let known = self.known(&peer).and_then(|name| self.places.remove(&name));
        let mode = peer.txt.get(lb_tls::TXT_KEY).cloned();
        let here = Place::Found { addresses: peer.addresses, mode, withdrawn: None };
        let Some(place) = known else {
            info!(event = "balancer_found", balancer = peer.id, "found a balancer");
            return self.add(peer.id, here);
        };
        // Awakes a task that waits for its next attempt: there is news, so it tries now.
        place.send_replace(here);
        self.places.insert(peer.id, place);
    }

    /// A balancer that restarts has a new id and the old address. It must not get a second task: the
    /// two would take the registration from each other.
    fn known(&self, peer: &Peer) -> Option<String> {
        if self.places.contains_key(&peer.id) {
            return Some(peer.id.clone());
        }
        let same = |place: &Place| match place {
            Place::Static(_) => false,
            Place::Found { addresses, .. } => {
                addresses.iter().any(|address| peer.addresses.contains(address))
            }
        };
        let found = self.places.iter().find(|(_, place)| same(&place.borrow()));
        found.map(|(name, _)| name.clone())
    }

    fn tidy(&mut self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(problem) = ended {
            error!(error = %problem, "a registration task failed");
        }
        self.places.retain(|_, place| !place.is_closed());
    }
}
