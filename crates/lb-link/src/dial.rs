//! Connections to a balancer that notice when it has fallen silent.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tonic::transport::{Channel, Endpoint};

use lb_tls::{Connector, Expected, Mode, Tls};

use crate::Place;

/// On a LAN a connection takes a millisecond; one lost SYN is retried after a second. Little more than that: a dial that
/// is begun just before the network is whole again waits in vain.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1200);
/// A silent balancer is asked for a sign of life this often...
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(800);
/// ...and has this long to give one: together under two seconds, after which a worker whose machine has another address
/// registers anew, and one that receives nothing any more, but can still be heard, is out.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(900);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name that was given has no address.
    #[error("cannot look up balancer {name}")]
    Lookup {
        /// The name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// None of its addresses is of the kind of our own.
    #[error("balancer {place} has no address that can be dialled from here")]
    NoAddress {
        /// Where it is.
        place: String,
    },
    /// The two would not understand each other.
    #[error(
        "balancer {place} announces the mode {theirs} and this daemon speaks {ours}: all of a cluster must speak the same \
         (tls.mode)"
    )]
    Mode {
        /// Where it is.
        place: String,
        /// What it announces.
        theirs: String,
        /// What we speak.
        ours: Mode,
    },
    /// Nobody answers, or not as a balancer of this cluster.
    #[error("cannot connect to balancer {address}")]
    Connect {
        /// Who was dialled last.
        address: SocketAddr,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// Connects to the first address of `place` that answers, from the address `source` if there is one.
///
/// # Errors
/// See [`DialError`].
pub async fn dial(
    place: &Place,
    source: Option<IpAddr>,
    tls: &Tls,
) -> Result<(Channel, SocketAddr), DialError> {
    let ours = tls.mode();
    if let Place::Found { mode: Some(theirs), .. } = place
        && theirs != ours.as_str()
    {
        return Err(DialError::Mode { place: place.to_string(), theirs: theirs.clone(), ours });
    }
    let mut last_error = DialError::NoAddress { place: place.to_string() };
    for address in addresses(place).await? {
        if source.is_some_and(|source| source.is_ipv4() != address.is_ipv4()) {
            continue;
        }
        match connect(address, source, tls.clone()).await {
            Ok(channel) => return Ok((channel, address)),
            Err(source) => last_error = DialError::Connect { address, source },
        }
    }
    Err(last_error)
}

async fn addresses(place: &Place) -> Result<Vec<SocketAddr>, DialError> {
    match place {
        Place::Found { addresses, .. } => Ok(addresses.clone()),
        Place::Static(text) => {
            let found = tokio::net::lookup_host(text).await;
            let found = found.map_err(|source| DialError::Lookup { name: text.clone(), source })?;
            Ok(found.collect())
        }
    }
}

async fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    tls: Tls,
) -> Result<Channel, tonic::transport::Error> {
    let connector = Connector::new(tls, Expected::Server, source).reset_on_close();
    Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}
