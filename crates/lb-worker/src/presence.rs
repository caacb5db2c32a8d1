//! How this worker shows on the network: announced by DNS-SD, for people and tools. Balancers do not read it; workers come to them.

use std::net::{IpAddr, SocketAddr};

use tracing::info;

use lb_core::id::{ServiceName, WorkerId};
use lb_discovery::{Advertisement, Announcement, Discovery, DiscoveryError, Role};

use crate::worker::Settings;

/// TXT key of the services, separated by commas.
const SERVICES_KEY: &str = "svc";
/// A TXT pair has at most 255 bytes, key and '=' included. Services beyond it are not announced.
const SERVICES_LENGTH_LIMIT: usize = 250;

/// Announces the worker; resolves when the network has heard it.
pub(crate) async fn announce(
    discovery: &Discovery,
    id: &WorkerId,
    settings: &Settings,
    address: SocketAddr,
) -> Result<Advertisement, DiscoveryError> {
    let Settings { cluster, services, tls, .. } = settings;
    let announcement = Announcement {
        role: Role::Worker,
        id: id.to_string(),
        cluster: cluster.to_string(),
        port: address.port(),
        addresses: explicit_ip(address).into_iter().collect(),
        txt: vec![
            (SERVICES_KEY.to_owned(), list(services)),
            (lb_tls::TXT_KEY.to_owned(), tls.mode().to_string()),
        ],
    };
    let advertisement = discovery.advertise(announcement).await?;
    info!(worker = %id, %cluster, %address, "announced on the network");
    Ok(advertisement)
}

/// The address that was chosen, unless it means all of them.
pub(crate) fn explicit_ip(address: SocketAddr) -> Option<IpAddr> {
    let ip = address.ip().to_canonical();
    (!ip.is_unspecified()).then_some(ip)
}

/// What a balancer is told: only the port if any address will do, since the balancer sees where we come from.
pub(crate) fn reachable_at(address: SocketAddr) -> String {
    match explicit_ip(address) {
        Some(ip) => SocketAddr::new(ip, address.port()).to_string(),
        None => format!(":{}", address.port()),
    }
}

fn list(services: &[ServiceName]) -> String {
    let mut text = String::new();
    for service in services {
        if text.len() + 1 + service.as_str().len() > SERVICES_LENGTH_LIMIT {
            break;
        }
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(service.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_chosen_address_is_told() {
        let told = |text: &str| reachable_at(text.parse().unwrap());
        assert_eq!(told("[::]:7"), ":7");
        assert_eq!(told("0.0.0.0:7"), ":7");
        assert_eq!(told("127.0.0.1:7"), "127.0.0.1:7");
        assert_eq!(told("[2001:db8::1]:7"), "[2001:db8::1]:7");
    }

    #[test]
    fn services_are_listed_as_far_as_they_fit() {
        let services: Vec<ServiceName> =
            (0..9).map(|n| format!("x{n}.{}", "y".repeat(50)).parse().unwrap()).collect();
        assert_eq!(list(&services[..2]).matches(',').count(), 1);
        assert!(list(&services).len() <= SERVICES_LENGTH_LIMIT);
    }
}
