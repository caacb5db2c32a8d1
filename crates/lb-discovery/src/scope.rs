//! How far discovery reaches: the local network, or this machine alone.
//!
//! The two never mix. A daemon on the LAN does not speak on the loopback, so that a demonstration
//! on the loopback cannot pull in the workers of the machine's real balancer, nor the reverse.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mdns_sd::{IfKind, MDNS_PORT, ServiceDaemon};
use socket2::{Domain, Protocol, Socket, Type};

use crate::DiscoveryError;

/// Group of multicast DNS over IPv4 (RFC 6762, section 3).
pub(crate) const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// Where multicast DNS is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every interface but the loopback, IPv4 and IPv6; interfaces that come later included.
    Lan,
    /// The loopback interface alone, IPv4.
    Loopback,
}

impl Scope {
    /// Restricts a fresh multicast DNS thread to this scope.
    pub(crate) fn apply(self, daemon: &ServiceDaemon) -> Result<(), DiscoveryError> {
        let result = match self {
            Self::Lan => daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6]),
            Self::Loopback => daemon
                .disable_interface(IfKind::All)
                .and_then(|()| daemon.enable_interface(IfKind::LoopbackV4)),
        };
        result.map_err(|error| DiscoveryError::daemon("choose the interfaces", error))
    }

    /// Opens and closes the socket that the multicast DNS thread will open, because that thread
    /// keeps to itself why it could not.
    pub(crate) fn check_socket(self) -> Result<(), DiscoveryError> {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, MDNS_PORT));
        let bind = || {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            Ok(socket)
        };
        let socket = bind().map_err(|source| DiscoveryError::Bind { address, source })?;
        match self {
            Self::Lan => Ok(()),
            Self::Loopback => socket
                .join_multicast_v4(&GROUP_V4, &Ipv4Addr::LOCALHOST)
                .map_err(DiscoveryError::JoinLoopback),
        }
    }

    /// Whether a peer in this scope can be dialled at `address`, given as text to any client: that
    /// excludes link-local IPv6, which means nothing without the number of an interface.
    pub(crate) fn is_usable(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if address.is_unspecified() || address.is_multicast() {
            return false;
        }
        match (self, address) {
            (Self::Loopback, address) => address.is_ipv4() && address.is_loopback(),
            (Self::Lan, IpAddr::V4(v4)) => !v4.is_loopback() && !v4.is_broadcast(),
            (Self::Lan, IpAddr::V6(v6)) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        }
    }

    /// What [`Scope::is_usable`] asks for, in words.
    pub(crate) fn expected_address(self) -> &'static str {
        match self {
            Self::Lan => {
                "an address that other machines can dial (neither loopback nor link-local IPv6)"
            }
            Self::Loopback => "an address of 127.0.0.0/8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_do_not_overlap() {
        for (text, lan, loopback) in [
            ("127.0.0.1", false, true),
            ("127.1.2.3", false, true),
            ("::1", false, false),
            ("::ffff:127.0.0.1", false, true),
            ("192.0.2.7", true, false),
            ("169.254.1.1", true, false),
            ("2001:db8::1", true, false),
            ("fd00::1", true, false),
            ("fe80::1", false, false),
            ("0.0.0.0", false, false),
            ("::", false, false),
            ("224.0.0.251", false, false),
            ("ff02::fb", false, false),
            ("255.255.255.255", false, false),
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(Scope::Lan.is_usable(address), lan, "{text} on the LAN");
            assert_eq!(Scope::Loopback.is_usable(address), loopback, "{text} on the loopback");
        }
    }
}
