//! What is said about a service, checked before anything is sent.
//!
//! The instance name carries the id so that people recognise it in any DNS-SD browser, but the
//! identity is TXT `id=`: after a conflict the name changes, the id does not. The host name is
//! private (`lb-<id>.local.`), because a second responder for the machine's own name makes avahi
//! rename the machine.

use std::{fmt, net::IpAddr};

use mdns_sd::{ServiceInfo, TxtProperty};

use crate::{
    DiscoveryError, Scope,
    peer::{CLUSTER_KEY, ID_KEY, TXT_VERSION, VERSION_KEY},
};

/// Longest label of a DNS name, in bytes (RFC 1035, section 2.3.4).
pub(crate) const LABEL_LIMIT: usize = 63;
/// Longest TXT key, in bytes: what RFC 6763, section 6.4, recommends.
const TXT_KEY_LIMIT: usize = 9;
/// Longest `key=value`, in bytes: one length byte precedes it (RFC 6763, section 6.1).
const TXT_PAIR_LIMIT: usize = 255;
/// Longest TXT record, in bytes: above it the answer may not fit one Ethernet packet (RFC 6763,
/// section 6.2).
pub(crate) const TXT_RECORD_LIMIT: usize = 1300;
/// How much of a wrong value an error repeats, in characters.
const QUOTE_LIMIT: usize = 80;

/// Which kind of daemon is announced or looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// An `lb-server`.
    Balancer,
    /// An `lb-worker`.
    Worker,
}

impl Role {
    /// The DNS-SD service type with its domain.
    pub fn service_type(self) -> &'static str {
        match self {
            Self::Balancer => "_lb-server._tcp.local.",
            Self::Worker => "_lb-worker._tcp.local.",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Balancer => "balancer",
            Self::Worker => "worker",
        })
    }
}

/// One service as it is to be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// What it is.
    pub role: Role,
    /// Who it is: 1 to 63 characters of a-z, 0-9 and '-'.
    pub id: String,
    /// The cluster it belongs to: 1 to 63 characters of a-z, 0-9 and '-'.
    pub cluster: String,
    /// TCP port it listens on, not 0.
    pub port: u16,
    /// The addresses to announce. Empty means all of this host's in the scope, kept up to date as
    /// interfaces come and go.
    pub addresses: Vec<IpAddr>,
    /// Further TXT pairs. Keys: 1 to 9 printable ASCII characters without '=', each once, none of
    /// `txtvers`, `id`, `cluster`. With its value a pair has at most 255 bytes, all pairs together
    /// 1300. No load figures: whatever changes by the second has no place in DNS.
    pub txt: Vec<(String, String)>,
}

impl Announcement {
    /// Checks every rule and turns the announcement into what the multicast DNS thread takes.
    pub(crate) fn service_info(&self, scope: Scope) -> Result<ServiceInfo, DiscoveryError> {
        self.check(scope)?;
        let properties: Vec<TxtProperty> = self.txt_pairs().map(|pair| (&pair).into()).collect();
        let info = ServiceInfo::new(
            self.role.service_type(),
            &self.id,
            &host_name(&self.id),
            self.addresses.as_slice(),
            self.port,
            properties,
        )
        .map_err(|error| DiscoveryError::daemon("describe the service", error))?;
        Ok(if self.addresses.is_empty() { info.enable_addr_auto() } else { info })
    }

    /// The TXT record in order: the version is first (RFC 6763, section 6.7).
    fn txt_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = [
            (VERSION_KEY, TXT_VERSION),
            (ID_KEY, self.id.as_str()),
            (CLUSTER_KEY, self.cluster.as_str()),
        ];
        own.into_iter().chain(self.txt.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }

    fn check(&self, scope: Scope) -> Result<(), DiscoveryError> {
        for (field, text) in [("id", &self.id), ("cluster", &self.cluster)] {
            if !is_label(text) {
                return Err(reject(
                    field,
                    text,
                    format!("1 to {LABEL_LIMIT} characters of a-z, 0-9 and '-'"),
                ));
            }
        }
        if self.port == 0 {
            return Err(reject("port", "0", "the port that is listened on"));
        }
        for address in &self.addresses {
            if !scope.is_usable(*address) {
                return Err(reject("address", &address.to_string(), scope.expected_address()));
            }
        }
        self.check_txt()
    }

    fn check_txt(&self) -> Result<(), DiscoveryError> {
        for (index, (key, value)) in self.txt.iter().enumerate() {
            let printable = key.bytes().all(|byte| (0x20..=0x7e).contains(&byte) && byte != b'=');
            if key.is_empty() || key.len() > TXT_KEY_LIMIT || !printable {
                let expected =
                    format!("1 to {TXT_KEY_LIMIT} printable ASCII characters without '='");
                return Err(reject("TXT key", key, expected));
            }
            let own = [VERSION_KEY, ID_KEY, CLUSTER_KEY];
            let earlier = self.txt.iter().take(index).map(|(key, _)| key.as_str());
            if own.into_iter().chain(earlier).any(|other| other.eq_ignore_ascii_case(key)) {
                return Err(reject("TXT key", key, "each key once, case aside"));
            }
            if key.len() + 1 + value.len() > TXT_PAIR_LIMIT {
                let expected = format!("at most {TXT_PAIR_LIMIT} bytes with the key");
                return Err(reject("TXT value", value, expected));
            }
        }
        let bytes: usize =
            self.txt_pairs().map(|(key, value)| 1 + key.len() + 1 + value.len()).sum();
        if bytes > TXT_RECORD_LIMIT {
            let expected = format!("at most {TXT_RECORD_LIMIT} bytes");
            return Err(reject("TXT record", &format!("{bytes} bytes"), expected));
        }
        Ok(())
    }
}

/// Whether `text` is a lower-case DNS label as this project uses them for ids and cluster names.
pub(crate) fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL_LIMIT).contains(&text.len()) && text.bytes().all(allowed)
}

/// The private host name of the service `id`. The longest ids leave no room for the prefix; they
/// are cut, and a hash of the whole keeps two of them apart.
fn host_name(id: &str) -> String {
    const PREFIX: &str = "lb-";
    const HASH_DIGITS: usize = 16;
    if PREFIX.len() + id.len() <= LABEL_LIMIT {
        return format!("{PREFIX}{id}.local.");
    }
    let kept: String = id.chars().take(LABEL_LIMIT - PREFIX.len() - 1 - HASH_DIGITS).collect();
    format!("{PREFIX}{kept}-{:0HASH_DIGITS$x}.local.", fnv1a(id.as_bytes()))
}

/// FNV-1a: the same on every host and in every version, which `std`'s hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn reject(field: &'static str, found: &str, expected: impl Into<String>) -> DiscoveryError {
    let found = found.chars().take(QUOTE_LIMIT).collect();
    DiscoveryError::InvalidAnnouncement { field, found, expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Announcement {
        Announcement {
            role: Role::Worker,
            id: "alpha".into(),
            cluster: "lab".into(),
            port: 7000,
            addresses: Vec::new(),
            txt: vec![("zone".into(), "a".into())],
        }
    }

    fn refusal(change: impl FnOnce(&mut Announcement)) -> String {
        let mut announcement = sound();
        change(&mut announcement);
        announcement.service_info(Scope::Loopback).unwrap_err().to_string()
    }

    #[test]
    fn a_sound_announcement_names_everything() {
        let info = sound().service_info(Scope::Lan).unwrap();
        assert_eq!(info.get_fullname(), "alpha._lb-worker._tcp.local.");
        assert_eq!(info.get_hostname(), "lb-alpha.local.");
        assert!(info.is_addr_auto());
        let pairs: Vec<String> = info.get_properties().iter().map(ToString::to_string).collect();
        assert_eq!(pairs, ["txtvers=1", "id=alpha", "cluster=lab", "zone=a"]);
    }

    #[test]
    fn named_addresses_stay_as_they_are() {
        let mut announcement = sound();
        announcement.addresses = vec!["127.0.0.2".parse().unwrap()];
        let info = announcement.service_info(Scope::Loopback).unwrap();
        assert!(!info.is_addr_auto());
        assert_eq!(info.get_addresses().len(), 1);
    }

    #[test]
    fn each_broken_rule_is_named() {
        let text = refusal(|a| a.id = "Alpha".into());
        assert_eq!(
            text,
            "cannot announce: id \"Alpha\" is not valid: \
             expected 1 to 63 characters of a-z, 0-9 and '-'"
        );
        assert!(refusal(|a| a.id.clear()).contains("id \"\""));
        assert!(refusal(|a| a.id = "x".repeat(64)).contains("id \"xxx"));
        assert!(refusal(|a| a.cluster = "two words".into()).contains("cluster \"two words\""));
        assert!(refusal(|a| a.port = 0).contains("port \"0\""));
        let text = refusal(|a| a.addresses = vec!["192.0.2.1".parse().unwrap()]);
        assert!(text.contains("address \"192.0.2.1\""), "{text}");
        assert!(text.contains("127.0.0.0/8"), "{text}");
    }

    #[test]
    fn each_broken_txt_rule_is_named() {
        let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        assert!(refusal(|a| a.txt = pair("ten-digits", "")).contains("TXT key \"ten-digits\""));
        assert!(refusal(|a| a.txt = pair("", "x")).contains("TXT key \"\""));
        assert!(refusal(|a| a.txt = pair("a=b", "x")).contains("without '='"));
        assert!(refusal(|a| a.txt = pair("zöne", "x")).contains("printable ASCII"));
        assert!(refusal(|a| a.txt = pair("ID", "x")).contains("each key once"));
        let twice = [pair("zone", "a"), pair("Zone", "b")].concat();
        assert!(refusal(|a| a.txt = twice).contains("TXT key \"Zone\""));
        assert!(refusal(|a| a.txt = pair("k", &"v".repeat(254))).contains("at most 255 bytes"));
        let many = (0..6).flat_map(|n| pair(&format!("k{n}"), &"v".repeat(250))).collect();
        assert!(refusal(|a| a.txt = many).contains("at most 1300 bytes"));
    }

    #[test]
    fn errors_stay_short() {
        assert!(refusal(|a| a.id = "x".repeat(100_000)).len() < 250);
    }

    #[test]
    fn the_longest_ids_get_host_names_of_their_own() {
        let (one, two) = ("x".repeat(62) + "1", "x".repeat(62) + "2");
        assert_ne!(host_name(&one), host_name(&two));
        assert_eq!(host_name(&one).trim_end_matches(".local.").len(), LABEL_LIMIT);
        assert_eq!(host_name(&"y".repeat(60)).trim_end_matches(".local.").len(), LABEL_LIMIT);
    }
}
