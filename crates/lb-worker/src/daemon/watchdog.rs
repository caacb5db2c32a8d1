//! Is this worker still able to answer? It asks itself, the way a client would: over a connection, through the server and
//! its layer. Only an answer feeds systemd's watchdog, so a worker that hangs is restarted.

use std::{
    error::Error as _,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{interval, timeout},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracing::warn;

use lb_runtime::service;
use lb_tls::{Connector, Expected, Tls};

/// Feeds the watchdog for ever, if there is one.
pub(super) async fn feed(listening_on: SocketAddr, tls: Tls) {
    let Some(every) = service::watchdog_interval() else { return };
    let Some(channel) = to_self(listening_on, tls) else { return };
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

/// The same for who serves nothing: each look at the attached service shows that this process works.
pub(super) async fn feed_on(mut looks: watch::Receiver<()>) {
    if service::watchdog_interval().is_none() {
        return;
    }
    while looks.changed().await.is_ok() {
        service::feed_watchdog();
    }
}

/// Any answer will do: NOT_SERVING while it drains is as good a sign of life.
async fn answers(client: &mut HealthClient<Channel>, limit: Duration) -> bool {
    match timeout(limit, client.check(HealthCheckRequest::default())).await {
        Ok(Ok(_)) => true,
        Ok(Err(status)) => is_refusal(&status),
        Err(_silence) => false,
    }
}

/// So is a handshake that fails: a certificate that has ended is told of, and a restart would not mend it.
fn is_refusal(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn to_self(listening_on: SocketAddr, tls: Tls) -> Option<Channel> {
    let ip = match listening_on.ip() {
        // A socket for all addresses takes IPv4 too.
        any if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        chosen => chosen,
    };
    let address = SocketAddr::new(ip, listening_on.port());
    // In open mode nobody is expected.
    let expected =
        tls.identity().map_or(Expected::Server, |own| Expected::Worker(own.name.clone()));
    let connector = Connector::new(tls, expected, None);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    Some(endpoint.connect_with_connector_lazy(connector))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, time::SystemTime};

    use tonic::transport::{Server, server::TcpIncoming};

    use lb_core::id::ClusterName;
    use lb_pki::{Authority, choice};
    use lb_tls::{Identity, Incoming, Role};

    use super::*;

    #[tokio::test]
    async fn a_server_that_answers_is_alive_and_a_silent_one_is_not() {
        let limit = Duration::from_millis(300);
        let listener = lb_runtime::net::bind("127.0.0.1:0").unwrap();
        let mut client =
            HealthClient::new(to_self(listener.local_addr().unwrap(), Tls::open()).unwrap());
        // The connection is taken by the kernel, and nobody answers.
        assert!(!answers(&mut client, limit).await);
        let (_reporter, health) = tonic_health::server::health_reporter();
        let serving = Server::builder().serve_with_incoming(health, TcpIncoming::from(listener));
        let _serving = super::super::spawn(async move { serving.await.unwrap() });
        assert!(answers(&mut client, Duration::from_secs(20)).await);
    }

    #[tokio::test]
    async fn a_certificate_that_has_ended_is_no_reason_to_be_restarted() {
        let directory = tempfile::tempdir().unwrap();
        let cluster: ClusterName = "lab".parse().unwrap();
        let (role, name) = (Role::Worker, "w".parse().unwrap());
        let identity =
            Identity { cluster: cluster.clone(), role, name, services: vec![], instances: 0 };
        let past = SystemTime::UNIX_EPOCH..SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        let authority = Authority::new(cluster.clone(), past.clone()).unwrap();
        let issued = authority.issue(&identity, past).unwrap();
        let files = choice(directory.path(), role);
        let write = |file: &Option<PathBuf>, text: &str| {
            fs::write(file.as_ref().unwrap(), text).unwrap();
        };
        write(&files.ca, authority.certificate());
        write(&files.certificate, &issued.certificate);
        write(&files.key, &issued.key);
        let tls = Tls::of_worker(&files, &cluster).unwrap();
        let listener = lb_runtime::net::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (_reporter, health) = tonic_health::server::health_reporter();
        let incoming = Incoming::new(listener, tls.clone());
        let serving = Server::builder().serve_with_incoming(health, incoming);
        let _serving = super::super::spawn(async move { serving.await.unwrap() });
        let mut client = HealthClient::new(to_self(address, tls).unwrap());
        let limit = Duration::from_secs(20);
        assert!(client.check(HealthCheckRequest::default()).await.is_err());
        assert!(answers(&mut client, limit).await);
    }
}
