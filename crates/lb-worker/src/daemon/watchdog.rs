//! Is this worker still able to answer? It asks itself, the way a client would: over a connection, through the server and
//! its layer. Only an answer feeds systemd's watchdog, so a worker that hangs is restarted.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::time::{interval, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracing::warn;

use lb_runtime::service;

/// Feeds the watchdog for ever, if there is one.
pub(super) async fn feed(listening_on: SocketAddr) {
    let Some(every) = service::watchdog_interval() else { return };
    let Some(channel) = to_self(listening_on) else { return };
    let mut client = HealthClient::new(channel);
    let mut ticks = interval(every);
    loop {
        ticks.tick().await;
        if answers(&mut client, every).await {
            service::feed_watchdog();
        } else {
            warn!(event = "unresponsive", "this worker does not answer its own health check");
        }
    }
}

/// Any answer will do: NOT_SERVING while it drains is as good a sign of life.
async fn answers(client: &mut HealthClient<Channel>, limit: Duration) -> bool {
    let checked = timeout(limit, client.check(HealthCheckRequest::default())).await;
    matches!(checked, Ok(Ok(_)))
}

fn to_self(listening_on: SocketAddr) -> Option<Channel> {
    let ip = match listening_on.ip() {
        // A socket for all addresses takes IPv4 too.
        any if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        chosen => chosen,
    };
    let address = SocketAddr::new(ip, listening_on.port());
    Some(Endpoint::from_shared(format!("http://{address}")).ok()?.connect_lazy())
}

#[cfg(test)]
mod tests {
    use tonic::transport::{Server, server::TcpIncoming};

    use super::*;

    #[tokio::test]
    async fn a_server_that_answers_is_alive_and_a_silent_one_is_not() {
        let limit = Duration::from_millis(300);
        let listener = lb_runtime::net::bind("127.0.0.1:0").unwrap();
        let mut client = HealthClient::new(to_self(listener.local_addr().unwrap()).unwrap());
        // The connection is taken by the kernel, and nobody answers.
        assert!(!answers(&mut client, limit).await);
        let (_reporter, health) = tonic_health::server::health_reporter();
        let serving = Server::builder().serve_with_incoming(health, TcpIncoming::from(listener));
        let _serving = super::super::spawn(async move { serving.await.unwrap() });
        assert!(answers(&mut client, Duration::from_secs(20)).await);
    }
}
