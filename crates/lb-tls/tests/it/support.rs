//! A cluster's authority, and two that meet.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;

use lb_pki::{Authority, LIFETIME, choice};
use lb_tls::{Choice, Expected, Identity, Incoming, Peer, Role, Stream, Tls, TlsError};

pub(crate) const CLUSTER: &str = "lab";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority, and a place for what it signs.
pub(crate) struct Lab {
    pub(crate) authority: Authority,
    directory: TempDir,
}

pub(crate) fn identity(role: Role, name: &str) -> Identity {
    let services = if role == Role::Worker { vec!["x.Y".parse().unwrap()] } else { vec![] };
    let (cluster, name) = (CLUSTER.parse().unwrap(), name.parse().unwrap());
    Identity { cluster, role, name, services, instances: 0 }
}

impl Lab {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now();
        let authority = Authority::new(CLUSTER.parse().unwrap(), now - DAY..now + LIFETIME);
        Self { authority: authority.unwrap(), directory: tempfile::tempdir().unwrap() }
    }

    /// Certificate, key and authority in a folder, good from `from` to `to` days from now.
    pub(crate) fn issue_for(&self, identity: &Identity, from: i32, to: i32) -> Choice {
        let at = |days: i32| {
            let now = SystemTime::now();
            let distance = DAY * days.unsigned_abs();
            if days < 0 { now - distance } else { now + distance }
        };
        let issued = self.authority.issue(identity, at(from)..at(to)).unwrap();
        let folder = self.folder(&format!("{}-{}", identity.role, identity.name));
        let files = choice(&folder, identity.role);
        let write = |file: &Option<PathBuf>, text: &str| fs::write(file.as_ref().unwrap(), text);
        write(&files.ca, self.authority.certificate()).unwrap();
        write(&files.certificate, &issued.certificate).unwrap();
        write(&files.key, &issued.key).unwrap();
        files
    }

    pub(crate) fn issue(&self, identity: &Identity) -> Choice {
        self.issue_for(identity, -1, 100)
    }

    pub(crate) fn tls(&self, role: Role, name: &str) -> Tls {
        load(role, &self.issue(&identity(role, name))).unwrap()
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.directory.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

pub(crate) fn load(role: Role, choice: &Choice) -> Result<Tls, TlsError> {
    let cluster = CLUSTER.parse().unwrap();
    match role {
        Role::Server => Tls::of_server(choice, &cluster),
        Role::Worker => Tls::of_worker(choice, &cluster),
        Role::Scaler => Tls::of_scaler(choice, &cluster),
        Role::Client | Role::Admin => Tls::of_client(choice, &cluster),
    }
}

/// Somebody with software of its own, who shows whatever certificate there is and asks nobody for one.
pub(crate) fn rogue(files: &Choice) -> TlsAcceptor {
    let read = |file: &Option<PathBuf>| fs::read(file.as_ref().unwrap()).unwrap();
    let certificate = CertificateDer::from_pem_slice(&read(&files.certificate)).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Greets everybody who gets through the handshake, for ever.
pub(crate) async fn greet(mut incoming: Incoming, mut met: impl FnMut(Peer)) {
    while let Some(stream) = incoming.next().await {
        let mut stream = stream.unwrap();
        met(stream.peer().clone());
        // Who has hung up already hears it as well.
        let _ = stream.write_all(b"!").await;
        let _ = stream.shutdown().await;
    }
}

/// What the one who dials gets, and whom the other one sees. In TLS 1.3 the one who dials is through before the other has
/// judged it, so it waits for a word.
pub(crate) async fn meet(
    server: &Tls,
    client: &Tls,
    expected: Expected,
) -> (io::Result<Stream>, Option<Peer>) {
    let (listener, address) = listen().await;
    let mut seen = None;
    let result = tokio::select! {
        result = dial(client, address, expected) => result,
        () = greet(Incoming::new(listener, server.clone()), |peer| seen = Some(peer)) => {
            unreachable!("the listener stays open")
        }
    };
    (result, seen)
}

pub(crate) async fn dial(tls: &Tls, address: SocketAddr, expected: Expected) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = tls.connect(stream, expected).await?;
    stream.read_u8().await?;
    Ok(stream)
}

pub(crate) fn worker(id: &str) -> Expected {
    Expected::Worker(id.parse().unwrap())
}

pub(crate) fn overwrite(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
}
