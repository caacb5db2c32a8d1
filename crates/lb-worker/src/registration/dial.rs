//! Connections to a balancer that notice when it has fallen silent.

use std::{net::SocketAddr, time::Duration};

use tonic::transport::{Channel, Endpoint};

use lb_tls::{Connector, Expected};

use super::{Place, Registrar, link::LinkError};

/// On a LAN a connection takes a millisecond; one lost SYN is retried after a second. Little more than that: a dial that
/// is begun just before the network is whole again waits in vain.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1200);
/// A silent balancer is asked for a sign of life this often...
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(800);
/// ...and has this long to give one: together under two seconds, after which a worker whose machine has another address
/// registers anew, and one that receives nothing any more, but can still be heard, is out.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(900);

/// Connects to the first address of `place` that answers.
pub(super) async fn dial(
    place: &Place,
    registrar: &Registrar,
) -> Result<(Channel, SocketAddr), LinkError> {
    let (source, ours) = (registrar.source, registrar.tls.mode());
    if let Place::Found { mode: Some(theirs), .. } = place
        && theirs != ours.as_str()
    {
        return Err(LinkError::Mode { place: describe(place), theirs: theirs.clone(), ours });
    }
    let mut last_error = LinkError::NoAddress { place: describe(place) };
    for address in addresses(place).await? {
        if source.is_some_and(|source| source.is_ipv4() != address.is_ipv4()) {
            continue;
        }
        match connect(address, registrar).await {
            Ok(channel) => return Ok((channel, address)),
            Err(source) => last_error = LinkError::Connect { address, source },
        }
    }
    Err(last_error)
}

async fn addresses(place: &Place) -> Result<Vec<SocketAddr>, LinkError> {
    match place {
        Place::Found { addresses, .. } => Ok(addresses.clone()),
        Place::Static(text) => {
            let found = tokio::net::lookup_host(text).await;
            let found = found.map_err(|source| LinkError::Lookup { name: text.clone(), source })?;
            Ok(found.collect())
        }
    }
}

async fn connect(
    address: SocketAddr,
    registrar: &Registrar,
) -> Result<Channel, tonic::transport::Error> {
    let tls = registrar.tls.clone();
    let connector = Connector::new(tls, Expected::Server, registrar.source).reset_on_close();
    Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

fn describe(place: &Place) -> String {
    match place {
        Place::Static(text) => text.clone(),
        Place::Found { addresses, .. } => format!("{addresses:?}"),
    }
}
