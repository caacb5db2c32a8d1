//! A peer as it was read from the network: checked, bounded and in one order.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use crate::{
    Scope,
    announcement::{TXT_RECORD_LIMIT, is_label},
    instance::Instance,
};

/// TXT key of the version of the TXT record; always first.
pub(crate) const VERSION_KEY: &str = "txtvers";
/// The version this crate writes, and the only one it reads.
pub(crate) const TXT_VERSION: &str = "1";
/// TXT key of the identity.
pub(crate) const ID_KEY: &str = "id";
/// TXT key of the cluster.
pub(crate) const CLUSTER_KEY: &str = "cluster";
/// Most addresses kept of one peer: a host with more interfaces than this is reachable by the
/// first ones, and a forged answer cannot grow without bound.
pub(crate) const ADDRESSES_LIMIT: usize = 16;

/// Somebody who was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is: 1 to 63 characters of a-z, 0-9 and '-'.
    pub id: String,
    /// The cluster it says it belongs to.
    pub cluster: String,
    /// Where it can be dialled, at least one, at most 16: IPv4 first, then IPv6, each in ascending
    /// order; never link-local IPv6; loopback only in [`Scope::Loopback`].
    pub addresses: Vec<SocketAddr>,
    /// The further TXT pairs, keys in lower case; `txtvers`, `id` and `cluster` are not among them.
    pub txt: BTreeMap<String, String>,
}

/// Why an instance is not a peer; written to the log at debug level only, since anybody on the
/// network can cause it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAPeer {
    /// Too long a TXT record.
    #[error("its TXT record has {0} bytes, more than {TXT_RECORD_LIMIT}")]
    Oversize(usize),
    /// A value is not UTF-8.
    #[error("its TXT value of {0:?} is not UTF-8")]
    NotText(String),
    /// Another version of the TXT record.
    #[error("its TXT record says txtvers={0:?}, expected \"{TXT_VERSION}\"")]
    Version(String),
    /// No sound id or cluster.
    #[error("its TXT record says {0}={1:?}, expected a name of a-z, 0-9 and '-'")]
    Name(&'static str, String),
    /// No port.
    #[error("its port is 0")]
    NoPort,
    /// No address that can be dialled, at least not yet.
    #[error("it has no usable address so far")]
    NoAddress,
}

impl Peer {
    /// Reads one resolved instance.
    pub(crate) fn parse(instance: &Instance, scope: Scope) -> Result<Self, NotAPeer> {
        let mut txt = parse_txt(instance)?;
        let version = txt.remove(VERSION_KEY).unwrap_or_default();
        if version != TXT_VERSION {
            return Err(NotAPeer::Version(version));
        }
        let id = take_name(&mut txt, ID_KEY)?;
        let cluster = take_name(&mut txt, CLUSTER_KEY)?;
        if instance.port == 0 {
            return Err(NotAPeer::NoPort);
        }
        let mut addresses: Vec<SocketAddr> = instance
            .addresses
            .iter()
            .map(IpAddr::to_canonical)
            .filter(|address| scope.is_usable(*address))
            .map(|address| SocketAddr::new(address, instance.port))
            .collect();
        settle(&mut addresses);
        if addresses.is_empty() {
            Err(NotAPeer::NoAddress)
        } else {
            Ok(Self { id, cluster, addresses, txt })
        }
    }

    /// Whether both tell of the same service, perhaps of different addresses of its host.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        let ports = |peer: &Self| peer.addresses.first().map(SocketAddr::port);
        (&self.id, &self.cluster, &self.txt) == (&other.id, &other.cluster, &other.txt)
            && ports(self) == ports(other)
    }

    /// Takes in another instance with the same identity: its addresses are added.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.addresses.extend(&other.addresses);
        settle(&mut self.addresses);
    }
}

/// `SocketAddr` orders IPv4 before IPv6, then by address and port.
fn settle(addresses: &mut Vec<SocketAddr>) {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ADDRESSES_LIMIT);
}

/// The pairs of the TXT record; of a key that comes twice the first counts (RFC 6763, 6.4).
fn parse_txt(instance: &Instance) -> Result<BTreeMap<String, String>, NotAPeer> {
    let mut pairs = BTreeMap::new();
    let mut bytes = 0;
    for (key, value) in &instance.txt {
        bytes += 1 + key.len() + 1 + value.len();
        if bytes > TXT_RECORD_LIMIT {
            return Err(NotAPeer::Oversize(bytes));
        }
        let key = key.to_ascii_lowercase();
        let Ok(value) = str::from_utf8(value) else {
            return Err(NotAPeer::NotText(key));
        };
        pairs.entry(key).or_insert_with(|| value.to_owned());
    }
    Ok(pairs)
}

fn take_name(txt: &mut BTreeMap<String, String>, key: &'static str) -> Result<String, NotAPeer> {
    let name = txt.remove(key).unwrap_or_default();
    if is_label(&name) { Ok(name) } else { Err(NotAPeer::Name(key, name)) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A resolved worker instance.
    pub(crate) fn resolved(
        label: &str,
        addresses: &[&str],
        port: u16,
        txt: &[(&str, &str)],
    ) -> Instance {
        Instance {
            name: format!("{label}._lb-worker._tcp.local."),
            port,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            txt: txt.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        }
    }

    const SOUND: &[(&str, &str)] =
        &[("txtvers", "1"), ("id", "alpha"), ("cluster", "lab"), ("Zone", "a")];

    fn parse(addresses: &[&str], port: u16, txt: &[(&str, &str)]) -> Result<Peer, NotAPeer> {
        Peer::parse(&resolved("alpha", addresses, port, txt), Scope::Lan)
    }

    #[test]
    fn addresses_come_in_one_order_and_only_usable_ones() {
        let found = ["fd00::2", "10.0.0.9", "fe80::1", "10.0.0.10", "127.0.0.1", "2001:db8::1"];
        let peer = parse(&found, 80, SOUND).unwrap();
        let shown: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.9:80", "10.0.0.10:80", "[2001:db8::1]:80", "[fd00::2]:80"]);
        assert_eq!((peer.id.as_str(), peer.cluster.as_str()), ("alpha", "lab"));
        assert_eq!(peer.txt, BTreeMap::from([("zone".to_owned(), "a".to_owned())]));
    }

    #[test]
    fn what_is_not_ours_is_told_apart() {
        let here = &["10.0.0.1"];
        let wrong = |txt: &[(&str, &str)]| parse(here, 80, txt).unwrap_err();
        assert_eq!(wrong(&[]), NotAPeer::Version(String::new()));
        assert_eq!(wrong(&[("txtvers", "2"), ("id", "a")]), NotAPeer::Version("2".into()));
        assert_eq!(wrong(&[("txtvers", "1")]), NotAPeer::Name("id", String::new()));
        let shouting = [("txtvers", "1"), ("id", "A")];
        assert_eq!(wrong(&shouting), NotAPeer::Name("id", "A".into()));
        let homeless = [("txtvers", "1"), ("id", "a")];
        assert_eq!(wrong(&homeless), NotAPeer::Name("cluster", String::new()));
        assert_eq!(parse(here, 0, SOUND).unwrap_err(), NotAPeer::NoPort);
        assert_eq!(parse(&["fe80::1"], 80, SOUND).unwrap_err(), NotAPeer::NoAddress);
        let long = "v".repeat(240);
        let keys = ["a", "b", "c", "d", "e", "f"];
        let oversize: Vec<_> = keys.iter().map(|key| (*key, long.as_str())).collect();
        assert!(matches!(wrong(&oversize), NotAPeer::Oversize(_)));
    }

    #[test]
    fn addresses_are_bounded() {
        let many: Vec<String> = (1..=40).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(parse(&many, 80, SOUND).unwrap().addresses.len(), ADDRESSES_LIMIT);
    }
}
