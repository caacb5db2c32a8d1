//! A listening socket from a short text.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that may wait to be accepted. The kernel lowers it to `net.core.somaxconn` (4096).
const BACKLOG: i32 = 1024;

/// Why there is no listening socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The text names no address and port.
    #[error(
        "cannot listen on {listen:?}: {problem}; \
         expected \"HOST:PORT\", \":PORT\" or \"PORT\", with port 0 for any free one"
    )]
    Malformed {
        /// The text.
        listen: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The host name has no address.
    #[error("cannot listen on {listen:?}: the host name cannot be resolved")]
    Unresolved {
        /// The text.
        listen: String,
        /// Why.
        source: io::Error,
    },
    /// Another program listens there.
    #[error("cannot listen on {address}: the port is in use by another program")]
    InUse {
        /// Where.
        address: SocketAddr,
    },
    /// Confined to this machine, but reachable from others.
    #[error(
        "cannot listen on {listen:?}: confined to this machine; expected a loopback address or a port alone"
    )]
    NotLocal {
        /// The text.
        listen: String,
    },
    /// The socket that the service manager holds is another one than the configuration asks for.
    #[error(
        "the service manager listens on {address}, but the configuration says {listen:?}: \
         make ListenStream= of the socket unit the same, or stop and disable the unit"
    )]
    Mismatch {
        /// What the configuration says.
        listen: String,
        /// Where the socket listens.
        address: SocketAddr,
    },
    /// The kernel refused for another reason.
    #[error("cannot listen on {address}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Listens on `HOST:PORT` (IPv6 in brackets), or with `:PORT` and `PORT` on all addresses, IPv4 and
/// IPv6 through one socket; on a host without IPv6, IPv4 alone. Port 0 takes any free one.
///
/// A host name is resolved, and its first address that can be listened on is taken.
///
/// # Errors
/// See [`BindError`]. Each message names the address.
///
/// # Panics
/// Outside a tokio runtime.
pub fn bind(listen: &str) -> Result<TcpListener, BindError> {
    let Some((host, port)) = split(listen)? else { return bind_all(parse_port(listen, listen)?) };
    let port = parse_port(listen, port)?;
    if host.is_empty() {
        return bind_all(port);
    }
    let mut last = None;
    for address in resolve(listen, host, port)? {
        match bind_address(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| malformed(listen, "the host name has no address")))
}

/// Takes over a listening socket that the service manager holds, if it is the one that `listen` describes as for [`bind`].
///
/// # Errors
/// [`BindError::Mismatch`], or that `listen` is malformed or cannot be resolved.
///
/// # Panics
/// Outside a tokio runtime.
pub fn adopt(socket: std::net::TcpListener, listen: &str) -> Result<TcpListener, BindError> {
    let (host, port) = split(listen)?.unwrap_or(("", listen));
    let port = parse_port(listen, port)?;
    let unknown = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let refused = |source| BindError::Refused { address: unknown, source };
    let address = socket.local_addr().map_err(refused)?;
    let ip = address.ip().to_canonical();
    let right_host = match host {
        "" => ip.is_unspecified(),
        host => resolve(listen, host, port)?.iter().any(|found| found.ip().to_canonical() == ip),
    };
    if !right_host || (port != 0 && port != address.port()) {
        return Err(BindError::Mismatch { listen: listen.to_owned(), address });
    }
    socket.set_nonblocking(true).map_err(refused)?;
    TcpListener::from_std(socket).map_err(refused)
}

/// The text to give to [`bind`] on a machine that must not be reachable from others: without a host, "everywhere"
/// means 127.0.0.1.
///
/// # Errors
/// [`BindError::NotLocal`] for an address of any other network, [`BindError::Malformed`]. A host name is taken as it is.
pub fn confine(listen: &str) -> Result<String, BindError> {
    let (host, port) = split(listen)?.unwrap_or(("", listen));
    parse_port(listen, port)?;
    match host.parse::<IpAddr>() {
        Ok(address) if !address.to_canonical().is_loopback() => {
            Err(BindError::NotLocal { listen: listen.to_owned() })
        }
        _ if host.is_empty() => Ok(format!("127.0.0.1:{port}")),
        _ => Ok(listen.to_owned()),
    }
}

/// Checks the form of a listening address, without listening.
///
/// # Errors
/// [`BindError::Malformed`].
pub fn check(listen: &str) -> Result<(), BindError> {
    let (_, port) = split(listen)?.unwrap_or(("", listen));
    parse_port(listen, port).map(drop)
}

/// Whether `listen` names an address that no other machine can reach. A host name is taken to be another's.
pub fn is_loopback(listen: &str) -> bool {
    let host = split(listen).ok().flatten().map_or("", |(host, _)| host);
    host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

impl BindError {
    /// Whether the text is at fault, and not the machine or another program.
    pub fn is_mistake(&self) -> bool {
        matches!(
            self,
            Self::Malformed { .. }
                | Self::NotLocal { .. }
                | Self::Unresolved { .. }
                | Self::Mismatch { .. }
        )
    }
}

/// The IPv4 address inside an IPv4-mapped IPv6 one: a dual-stack socket reports IPv4 peers as
/// `::ffff:192.0.2.1`, which is no other host than `192.0.2.1`.
pub fn canonical_ip(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Host and port, or `None` for a text without a colon.
fn split(listen: &str) -> Result<Option<(&str, &str)>, BindError> {
    if let Some(rest) = listen.strip_prefix('[') {
        let (host, rest) =
            rest.split_once(']').ok_or_else(|| malformed(listen, "\"]\" is missing"))?;
        let port =
            rest.strip_prefix(':').ok_or_else(|| malformed(listen, "the port is missing"))?;
        return Ok(Some((host, port)));
    }
    match listen.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => {
            Err(malformed(listen, "an IPv6 address must be in brackets"))
        }
        Some(pair) => Ok(Some(pair)),
        None if listen.parse::<Ipv4Addr>().is_ok() => Err(malformed(listen, "the port is missing")),
        None => Ok(None),
    }
}

fn parse_port(listen: &str, text: &str) -> Result<u16, BindError> {
    if text.is_empty() {
        return Err(malformed(listen, "the port is missing"));
    }
    // `u16` alone would accept "+80".
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed(listen, "the port is not a number"));
    }
    text.parse().map_err(|_| malformed(listen, "the port is above 65535"))
}

fn resolve(listen: &str, host: &str, port: u16) -> Result<Vec<SocketAddr>, BindError> {
    let unresolved = |source| BindError::Unresolved { listen: listen.to_owned(), source };
    Ok((host, port).to_socket_addrs().map_err(unresolved)?.collect())
}

fn bind_all(port: u16) -> Result<TcpListener, BindError> {
    match bind_address(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
        Err(BindError::Refused { .. }) => {
            bind_address(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
        }
        settled => settled,
    }
}

fn bind_address(address: SocketAddr) -> Result<TcpListener, BindError> {
    listen_on(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address },
        _ => BindError::Refused { address, source },
    })
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    // A daemon that is restarted must not wait for the connections of its predecessor to expire.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn malformed(listen: &str, problem: &'static str) -> BindError {
    BindError::Malformed { listen: listen.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn all_addresses_means_both_families() {
        for listen in [":0", "0"] {
            let listener = bind(listen).unwrap();
            let address = listener.local_addr().unwrap();
            assert!(address.ip().is_unspecified() && address.port() != 0, "{address}");
            let client = TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(canonical_ip(peer.ip()), client.local_addr().unwrap().ip());
        }
    }

    #[tokio::test]
    async fn a_host_may_be_an_address_or_a_name() {
        for listen in ["127.0.0.1:0", "localhost:0"] {
            let address = bind(listen).unwrap().local_addr().unwrap();
            assert!(address.ip().is_loopback() && address.port() != 0, "{address}");
        }
    }

    #[tokio::test]
    async fn brackets_hold_an_ipv6_address() {
        // A host without IPv6 refuses, and says where.
        match bind("[::1]:0") {
            Ok(listener) => assert_eq!(listener.local_addr().unwrap().ip(), Ipv6Addr::LOCALHOST),
            Err(error) => assert_eq!(error.to_string(), "cannot listen on [::1]:0"),
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(&address.to_string()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {address}: the port is in use by another program")
        );
        let everywhere = bind(":0").unwrap();
        let port = everywhere.local_addr().unwrap().port();
        let error = bind(&format!(":{port}")).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_foreign_address_is_refused_with_its_name() {
        let error = bind("192.0.2.1:0").unwrap_err();
        assert_eq!(error.to_string(), "cannot listen on 192.0.2.1:0");
    }

    #[tokio::test]
    async fn malformed_texts_say_what_is_wrong() {
        for (listen, problem) in [
            ("", "the port is missing"),
            (":", "the port is missing"),
            ("localhost:", "the port is missing"),
            ("127.0.0.1", "the port is missing"),
            ("[::1]", "the port is missing"),
            ("[::1:80", "\"]\" is missing"),
            ("::1:80", "an IPv6 address must be in brackets"),
            ("host", "the port is not a number"),
            (":http", "the port is not a number"),
            (":+80", "the port is not a number"),
            (":65536", "the port is above 65535"),
            (":99999999999999999999", "the port is above 65535"),
        ] {
            let text = bind(listen).unwrap_err().to_string();
            let expected =
                format!("cannot listen on {listen:?}: {problem}; expected \"HOST:PORT\"");
            assert!(text.starts_with(&expected), "{text}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_was_given_must_be_the_one_that_is_wanted() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let port = address.port();
        let adopted = |listen: &str| adopt(socket.try_clone().unwrap(), listen);
        for listen in [address.to_string(), "127.0.0.1:0".into(), format!("localhost:{port}")] {
            assert_eq!(adopted(&listen).unwrap().local_addr().unwrap(), address);
        }
        for listen in [format!(":{port}"), "127.0.0.1:1".into(), format!("127.0.0.2:{port}")] {
            let error = adopted(&listen).unwrap_err();
            assert!(error.is_mistake(), "{error}");
            let expected = format!(
                "the service manager listens on {address}, but the configuration says {listen:?}"
            );
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        let everywhere = bind(":0").unwrap().into_std().unwrap();
        assert!(adopt(everywhere.try_clone().unwrap(), ":0").is_ok());
        assert!(adopt(everywhere, "127.0.0.1:0").is_err(), "wider than wanted");
    }

    #[test]
    fn mapped_addresses_are_the_ipv4_ones() {
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(canonical_ip(mapped).to_string(), "192.0.2.1");
        let plain: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(canonical_ip(plain), plain);
    }
}
