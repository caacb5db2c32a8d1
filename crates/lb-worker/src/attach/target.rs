//! Where an attached service is, for us and for others.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
};

use tokio::{net::TcpStream, time::timeout};

use lb_discovery::Scope;

use super::health;

/// A service that cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The text is no address.
    #[error(
        "cannot attach to {0:?}: expected \"ip:port\", \"[ip]:port\" or \":port\" of this machine"
    )]
    Malformed(String),
    /// A worker announces its own address, so a balancer would refuse it.
    #[error(
        "cannot attach to {address}, which is not an address of this machine: run lb-worker on the machine of the service"
    )]
    Elsewhere {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The address is one of the network, and the worker is to serve this machine only.
    #[error("cannot attach to {0}: confined to this machine, only loopback addresses are possible")]
    NotLocal(SocketAddr),
}

/// Where the service is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// As it was given; the loopback for every address.
    address: SocketAddr,
    scope: Scope,
}

impl Target {
    pub(crate) fn of(text: &str, scope: Scope) -> Result<Self, AttachError> {
        let malformed = || AttachError::Malformed(text.chars().take(80).collect());
        let address = match text.strip_prefix(':').or_else(|| text.strip_prefix("localhost:")) {
            Some(port) => {
                SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().map_err(|_| malformed())?))
            }
            None => text.parse().map_err(|_| malformed())?,
        };
        if address.port() == 0 {
            return Err(malformed());
        }
        let address = match address.ip().to_canonical() {
            any if any.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
            ip => SocketAddr::new(ip, address.port()),
        };
        if scope == Scope::Loopback && !address.ip().is_loopback() {
            return Err(AttachError::NotLocal(address));
        }
        Ok(Self { address, scope })
    }

    /// A worker can only announce an address that is its own.
    pub(crate) fn check_is_here(self) -> Result<(), AttachError> {
        let address = self.address;
        let bound = UdpSocket::bind(SocketAddr::new(address.ip(), 0));
        bound.map(drop).map_err(|source| AttachError::Elsewhere { address, source })
    }

    /// Where it is called by us.
    pub(super) fn dialled(self) -> SocketAddr {
        self.address
    }

    /// Where others call it: at any address of this machine, if it was given by the loopback and is for the network.
    pub(crate) fn told(self) -> SocketAddr {
        if self.is_beyond() {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.address.port()))
        } else {
            self.address
        }
    }

    /// Whether others reach it by another address than we do.
    fn is_beyond(self) -> bool {
        self.scope == Scope::Lan && self.address.ip().is_loopback()
    }

    /// Whether other machines can reach it, as far as can be told from here: it must take a connection at one of our addresses on the
    /// network. Without any there is no telling.
    pub(super) async fn is_reachable(self) -> bool {
        if !self.is_beyond() {
            return true;
        }
        let ours = if_addrs::get_if_addrs().unwrap_or_default();
        let ours: Vec<IpAddr> = ours
            .iter()
            .filter(|one| !one.is_loopback() && !one.is_link_local())
            .map(if_addrs::Interface::ip)
            .collect();
        ours.is_empty() || takes_connections(&ours, self.address.port()).await
    }
}

async fn takes_connections(addresses: &[IpAddr], port: u16) -> bool {
    for ip in addresses {
        let connecting = TcpStream::connect(SocketAddr::new(*ip, port));
        if matches!(timeout(health::TIMEOUT, connecting).await, Ok(Ok(_))) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn told(text: &str, scope: Scope) -> String {
        let target = Target::of(text, scope).unwrap();
        format!("{} by {}", target.told(), target.dialled())
    }

    #[test]
    fn a_loopback_address_means_every_one_on_the_network() {
        for text in ["127.0.0.1:9000", ":9000", "localhost:9000", "0.0.0.0:9000", "[::]:9000"] {
            assert_eq!(told(text, Scope::Lan), "0.0.0.0:9000 by 127.0.0.1:9000", "{text}");
            assert_eq!(told(text, Scope::Loopback), "127.0.0.1:9000 by 127.0.0.1:9000", "{text}");
        }
        assert_eq!(told("10.0.0.1:9000", Scope::Lan), "10.0.0.1:9000 by 10.0.0.1:9000");
        assert_eq!(told("[::1]:9000", Scope::Loopback), "[::1]:9000 by [::1]:9000");
    }

    #[test]
    fn what_cannot_be_attached_is_refused() {
        let refused = |text: &str, scope| Target::of(text, scope).unwrap_err().to_string();
        for text in ["", "9000", "here:9000", ":0", ":66000", "10.0.0.1"] {
            assert!(refused(text, Scope::Lan).starts_with("cannot attach to \""), "{text}");
        }
        assert!(refused("10.0.0.1:9", Scope::Loopback).contains("confined to this machine"));
        // A documentation address (RFC 5737): nobody has it.
        let elsewhere = Target::of("192.0.2.1:9000", Scope::Lan).unwrap().check_is_here();
        assert!(elsewhere.unwrap_err().to_string().contains("not an address of this machine"));
    }

    #[tokio::test]
    async fn a_service_on_the_loopback_alone_is_found_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let at = |ip: &str| [ip.parse::<IpAddr>().unwrap()];
        assert!(takes_connections(&at("127.0.0.1"), port).await);
        // The same machine by another address, at which nobody listens.
        assert!(!takes_connections(&at("127.0.0.2"), port).await);
    }
}
