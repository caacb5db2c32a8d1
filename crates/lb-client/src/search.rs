//! How to find balancers: by DNS-SD in a cluster, or at addresses that were given.

use std::{fmt, time::Duration};

use lb_core::id::{ClusterName, NameError};
use lb_discovery::{Browse, Change, Discovery, DiscoveryError, Role, Scope};
use lb_proto::parse::ParseError;
use lb_tls::{Tls, TlsError};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// How long to look for a balancer unless told otherwise. DNS-SD answers within 0.1 s when there is
/// one; the rest is for a balancer that is just starting.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(3);
/// Longest wait there is; a longer one means "for ever", and this is that for a process.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The moment at which a wait that begins now is over.
pub(crate) fn deadline(wait: Duration) -> Instant {
    Instant::now() + wait.min(LONGEST_WAIT)
}

/// The cluster of those who name none.
pub const DEFAULT_CLUSTER: &str = "default";

/// Where to look for balancers, and for how long.
#[derive(Debug, Clone)]
pub struct Search {
    /// Cluster that the balancer must belong to: 1 to 63 characters of a-z, 0-9 and '-'.
    pub cluster: String,
    /// Where DNS-SD looks.
    pub scope: Scope,
    /// Addresses, `host:port`. When there are any, DNS-SD is not used.
    pub balancers: Vec<String>,
    /// How long to look before giving up.
    pub wait: Duration,
    /// How to speak with balancers, and with the workers that they name.
    pub tls: Tls,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            cluster: DEFAULT_CLUSTER.to_owned(),
            scope: Scope::Lan,
            balancers: Vec::new(),
            wait: DEFAULT_WAIT,
            tls: Tls::open(),
        }
    }
}

/// Why there is no connection to a balancer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The service or the cluster has no sound name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A given address is none.
    #[error("balancer address {found:?} is not valid: expected host:port, as in 192.0.2.7:50051")]
    Address {
        /// What was given.
        found: String,
    },
    /// Labels that no balancer takes.
    #[error(transparent)]
    Labels(#[from] ParseError),
    /// DNS-SD does not work on this machine.
    #[error("cannot look for balancers: {0}")]
    Discovery(#[from] DiscoveryError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody answered.
    #[error(
        "no balancer {} within {waited:?}{}; {}",
        place(search), cause(trouble.as_deref()), advice(search)
    )]
    NoBalancer {
        /// How long it was tried.
        waited: Duration,
        /// Where it was tried.
        search: Box<Search>,
        /// What happened to those that were found, if any were.
        trouble: Option<String>,
    },
}

fn place(search: &Search) -> String {
    if search.balancers.is_empty() {
        let place = match search.scope {
            Scope::Lan => "on the local network",
            Scope::Loopback => "on this machine's loopback",
        };
        format!("of cluster {:?} found {place}", search.cluster)
    } else {
        format!("answered at {}", search.balancers.join(", "))
    }
}

fn cause(trouble: Option<&str>) -> String {
    trouble.map(|text| format!(" ({text})")).unwrap_or_default()
}

fn advice(search: &Search) -> &'static str {
    if !search.balancers.is_empty() {
        return "check that lb-server runs there, that the port is its own, and that it speaks the same mode (open, tls or mtls)";
    }
    match search.scope {
        Scope::Lan => {
            "check that lb-server runs in that cluster and that UDP port 5353 is open, or give its \
             address (--lb host:port); a server started with --local needs --local here too"
        }
        Scope::Loopback => {
            "start one with `lb-server --local`, or leave out --local to look on the network"
        }
    }
}

/// A balancer that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBalancer {
    /// The id it announces; for one given by address, the address.
    pub id: String,
    /// Where it can be dialled, best first.
    pub addresses: Vec<String>,
    /// The mode that it announces: nothing to believe, but enough to say why it would not work.
    pub mode: Option<String>,
}

impl Search {
    /// Starts looking.
    ///
    /// # Errors
    /// [`ConnectError::Name`], [`ConnectError::Address`] or [`ConnectError::Discovery`].
    pub fn start(&self) -> Result<FoundBalancers, ConnectError> {
        let _: ClusterName = self.cluster.parse()?;
        if let Some(found) = self.balancers.iter().find(|address| !is_address(address)) {
            return Err(ConnectError::Address { found: found.clone() });
        }
        if !self.balancers.is_empty() {
            let given = |address: &String| FoundBalancer {
                id: address.clone(),
                addresses: vec![address.clone()],
                mode: None,
            };
            return Ok(FoundBalancers {
                known: self.balancers.iter().map(given).collect(),
                source: Given::Static { told: false },
            });
        }
        let browse = Discovery::new(self.scope)?.browse(Role::Balancer, &self.cluster);
        Ok(FoundBalancers { known: Vec::new(), source: Given::Browse(Box::new(browse)) })
    }

    pub(crate) fn no_balancer(&self, trouble: Option<String>) -> ConnectError {
        ConnectError::NoBalancer { waited: self.wait, search: Box::new(self.clone()), trouble }
    }
}

/// `host:port`; whether the host exists is found out by dialling.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let sound_host = !host.is_empty() && text.parse::<http::uri::Authority>().is_ok();
    sound_host && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// The balancers known so far, growing as they are found.
pub struct FoundBalancers {
    known: Vec<FoundBalancer>,
    source: Given,
}

enum Given {
    Static { told: bool },
    Browse(Box<Browse>),
}

impl fmt::Debug for FoundBalancers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FoundBalancers").field("known", &self.known).finish_non_exhaustive()
    }
}

impl FoundBalancers {
    /// Awaits a change and gives everybody known after it. Never ends when nothing changes.
    pub async fn changed(&mut self) -> &[FoundBalancer] {
        match &mut self.source {
            Given::Static { told } if !*told => *told = true,
            Given::Static { .. } => std::future::pending().await,
            Given::Browse(browse) => {
                let change = browse.next().await;
                apply(&mut self.known, change);
            }
        }
        &self.known
    }

    /// Everybody known now.
    pub fn known(&self) -> &[FoundBalancer] {
        &self.known
    }

    /// Awaits the first balancer.
    ///
    /// # Errors
    /// [`ConnectError::NoBalancer`] after the time that `search` allows.
    pub async fn first(&mut self, search: &Search) -> Result<&[FoundBalancer], ConnectError> {
        let give_up_at = deadline(search.wait);
        while self.known.is_empty() {
            if timeout_at(give_up_at, self.changed()).await.is_err() {
                return Err(search.no_balancer(None));
            }
        }
        Ok(&self.known)
    }

    /// Publishes everybody known, for as long as somebody reads it.
    pub(crate) async fn publish(mut self, known: watch::Sender<Vec<FoundBalancer>>) {
        loop {
            let now = self.changed().await.to_vec();
            if known.send(now).is_err() {
                return;
            }
        }
    }
}

/// The last balancer stays known after its goodbye: multicast may have lost its return, and dialling
/// an address in vain costs next to nothing.
fn apply(known: &mut Vec<FoundBalancer>, change: Change) {
    match change {
        Change::Up(peer) => {
            let addresses = peer.addresses.iter().map(ToString::to_string).collect();
            let mode = peer.txt.get(lb_tls::TXT_KEY).cloned();
            let found = FoundBalancer { id: peer.id, addresses, mode };
            match known.iter_mut().find(|known| known.id == found.id) {
                Some(place) => *place = found,
                None => known.push(found),
            }
        }
        Change::Down { id } if known.len() > 1 => known.retain(|known| known.id != id),
        Change::Down { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lb_discovery::Peer;

    use super::*;

    fn up(id: &str, port: u16) -> Change {
        let addresses = vec![([127, 0, 0, 1], port).into()];
        Change::Up(Peer { id: id.into(), cluster: "lab".into(), addresses, txt: BTreeMap::new() })
    }

    #[test]
    fn the_last_balancer_stays_known() {
        let mut known = Vec::new();
        apply(&mut known, up("a", 1));
        apply(&mut known, up("b", 2));
        apply(&mut known, up("a", 3));
        assert_eq!(known[0].addresses, ["127.0.0.1:3"]);
        apply(&mut known, Change::Down { id: "a".into() });
        apply(&mut known, Change::Down { id: "b".into() });
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].id, "b");
    }

    #[test]
    fn addresses_need_a_host_and_a_port() {
        for good in ["127.0.0.1:1", "[::1]:50051", "balancer.lan:80"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "127.0.0.1", ":80", "host:", "host:0", "host:99999", "a b:1", "::1"] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn looking_in_vain_says_where_and_what_to_do() {
        let search = Search { scope: Scope::Loopback, ..Search::default() };
        let text = search.no_balancer(None).to_string();
        assert_eq!(
            text,
            "no balancer of cluster \"default\" found on this machine's loopback within 3s; \
             start one with `lb-server --local`, or leave out --local to look on the network"
        );
        let search = Search { balancers: vec!["192.0.2.1:5".into()], ..search };
        let text = search.no_balancer(Some("connection refused".into())).to_string();
        assert!(text.contains("answered at 192.0.2.1:5 within 3s (connection refused)"), "{text}");
        let bad = Search { balancers: vec!["nonsense".into()], ..search };
        let text = bad.start().unwrap_err().to_string();
        assert!(text.contains("\"nonsense\" is not valid: expected host:port"), "{text}");
    }
}
