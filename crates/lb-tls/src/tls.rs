//! What a process speaks with.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use rustls::pki_types::{ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use lb_core::id::ClusterName;

use crate::{
    Choice, Expected, Identity, Mode, Stream, TlsError,
    choice::{Files, Part},
    keys::{Bytes, Keys},
    plain::plain,
};

/// What a process speaks with, for everything that it dials and accepts. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Tls(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    mode: Mode,
    part: Part,
    cluster: ClusterName,
    files: Files,
    keys: ArcSwap<Keys>,
    /// What was found at the last look and could not be used.
    refused: Mutex<Option<Bytes>>,
}

/// What came of another look at the files.
#[derive(Debug)]
pub enum Reload {
    /// They are the same.
    Unchanged,
    /// New connections use what is in them now.
    Renewed,
    /// They cannot be used; new connections use what was in them before.
    Refused(TlsError),
    /// They still are what was refused before.
    StillRefused,
}

/// How our own certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// For longer than "soon".
    Good,
    /// Now, but it ends soon.
    EndsSoon,
    /// Not any more.
    Ended,
    /// Not yet: it, or this machine's clock, is wrong.
    NotYet,
}

impl Tls {
    /// Plain connections.
    pub fn open() -> Self {
        Self(None)
    }

    /// For a balancer.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn of_server(choice: &Choice, cluster: &ClusterName) -> Result<Self, TlsError> {
        Self::load(Part::Server, choice, cluster)
    }

    /// For a worker.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn of_worker(choice: &Choice, cluster: &ClusterName) -> Result<Self, TlsError> {
        Self::load(Part::Worker, choice, cluster)
    }

    /// For a scaler.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn of_scaler(choice: &Choice, cluster: &ClusterName) -> Result<Self, TlsError> {
        Self::load(Part::Scaler, choice, cluster)
    }

    /// For whoever calls workers, or operates the cluster.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn of_client(choice: &Choice, cluster: &ClusterName) -> Result<Self, TlsError> {
        Self::load(Part::Client, choice, cluster)
    }

    fn load(part: Part, choice: &Choice, cluster: &ClusterName) -> Result<Self, TlsError> {
        let (mode, files) = choice.settle(part)?;
        if mode == Mode::Open {
            return Ok(Self::open());
        }
        let bytes = Bytes::read(&files, part, mode)?;
        let keys = ArcSwap::from_pointee(Keys::new(bytes, &files, part, mode, cluster)?);
        let (cluster, refused) = (cluster.clone(), Mutex::default());
        Ok(Self(Some(Arc::new(Inner { mode, part, cluster, files, keys, refused }))))
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.0.as_ref().map_or(Mode::Open, |inner| inner.mode)
    }

    /// Whether connections are plain.
    pub fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// Who this process is, by its own certificate.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.0.as_ref()?.keys.load().identity().cloned()
    }

    /// How our own certificate stands at this time, where "soon" is within `margin`; without one, [`Validity::Good`].
    pub fn validity(&self, now: SystemTime, margin: Duration) -> Validity {
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let check = |inner: &Arc<Inner>| inner.keys.load().validity(inner.part, now, margin);
        self.0.as_ref().map_or(Validity::Good, check)
    }

    /// Looks at the files again. If they have changed and can be used, connections that begin from now on use them; those that
    /// there are stay as they are.
    pub fn reload(&self) -> Reload {
        self.0.as_ref().map_or(Reload::Unchanged, |inner| inner.reload())
    }

    /// Makes a connection ours: proves who we are, and that whoever was expected is at the other end. An open one is taken
    /// as it is.
    ///
    /// # Errors
    /// What went wrong in the handshake, also that somebody else is there.
    pub async fn connect(&self, stream: TcpStream, expected: Expected) -> io::Result<Stream> {
        let address = stream.peer_addr().ok();
        let Some(inner) = &self.0 else { return Ok(Stream::plain(stream, address)) };
        let config = Arc::new(inner.keys.load().client(expected));
        // Asked for by the protocol and looked at by nobody.
        let dialled = ServerName::from(stream.peer_addr()?.ip());
        let stream = TlsConnector::from(config).connect(dialled, stream).await.map_err(plain)?;
        Ok(Stream::tls(TlsStream::Client(stream), address))
    }

    /// The other side of [`Tls::connect`].
    pub(crate) async fn accept(&self, stream: TcpStream, from: SocketAddr) -> io::Result<Stream> {
        let config = self.0.as_ref().and_then(|inner| inner.keys.load().server.clone());
        // A client has no business here, and in open mode there is no handshake.
        let config = config.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        let stream = TlsAcceptor::from(config).accept(stream).await.map_err(plain)?;
        Ok(Stream::tls(TlsStream::Server(stream), Some(from)))
    }
}

impl Inner {
    fn reload(&self) -> Reload {
        let bytes = match Bytes::read(&self.files, self.part, self.mode) {
            Ok(bytes) => bytes,
            Err(error) => return Reload::Refused(error),
        };
        let running = self.keys.load();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if running.bytes == bytes {
            *refused = None;
            return Reload::Unchanged;
        }
        if refused.as_ref() == Some(&bytes) {
            return Reload::StillRefused;
        }
        let copy = bytes.clone();
        match self.take(bytes, &running) {
            Ok(keys) => {
                *refused = None;
                self.keys.store(Arc::new(keys));
                Reload::Renewed
            }
            Err(error) => {
                *refused = Some(copy);
                Reload::Refused(error)
            }
        }
    }

    /// New keys, if they are good and of the same identity: under another one nobody would find this process again. One for fewer
    /// instances may not be this one's any more.
    fn take(&self, bytes: Bytes, running: &Keys) -> Result<Keys, TlsError> {
        let keys = Keys::new(bytes, &self.files, self.part, self.mode, &self.cluster)?;
        let file = || self.files.certificate.clone();
        if let (Some(running), Some(found)) = (running.identity(), keys.identity())
            && ((running.role, &running.name) != (found.role, &found.name)
                || found.instances < running.instances)
        {
            let (found, running) = (Box::new((**found).clone()), Box::new((**running).clone()));
            return Err(TlsError::Changed { file: file(), found, running });
        }
        match keys.validity(self.part, UnixTime::now(), Duration::ZERO) {
            Validity::Good | Validity::EndsSoon => Ok(keys),
            Validity::Ended | Validity::NotYet => Err(TlsError::NotValidNow { file: file() }),
        }
    }
}
