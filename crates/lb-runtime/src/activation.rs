//! Listening sockets that outlive the daemon, so that clients that come while it restarts wait a moment instead of being
//! refused.
//!
//! There are two kinds. One that the service manager *keeps*: the daemon opened it and gave it away ([`keep`]), gets
//! it back after a restart or a crash, and the manager closes it when the service is stopped. And one of a *socket unit*,
//! which the manager has opened itself.

use std::{env, io, net::TcpListener, os::fd::AsFd};

use listenfd::ListenFd;
use socket2::SockRef;

use crate::service;

/// Names of the sockets, in their order, joined by colons.
const NAMES: &str = "LISTEN_FDNAMES";
/// What a socket is called that the service manager keeps for us.
const KEPT: &str = "kept";

/// The sockets that the service manager gave.
#[derive(Debug, Default)]
pub struct Sockets {
    /// That of the socket unit.
    pub unit: Option<TcpListener>,
    /// The one that a former process gave to [`keep`].
    pub kept: Option<TcpListener>,
}

/// Why the sockets that were given cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// A socket that is meant for something else, or one too many.
    #[error(
        "the service manager gave a socket named {found:?}: \
         expected a single one with FileDescriptorName={expected} in the socket unit"
    )]
    Name {
        /// Its name.
        found: String,
        /// The name of the one that is used.
        expected: &'static str,
    },
    /// No TCP socket.
    #[error("the service manager gave something else than a TCP socket")]
    Kind(#[source] io::Error),
    /// A TCP socket that does not listen.
    #[error(
        "the service manager gave a socket that does not listen: \
         expected ListenStream= and Accept=no in the socket unit"
    )]
    NotListening,
}

/// Takes the sockets; that of the socket unit must have this name. To be called once, early: the variables that tell of
/// sockets are removed, so that no child takes them for its own.
///
/// # Errors
/// See [`ActivationError`].
pub fn take(name: &'static str) -> Result<Sockets, ActivationError> {
    let names = env::var(NAMES).unwrap_or_default();
    let mut names = names.split(':');
    let mut given = ListenFd::from_env();
    let mut sockets = Sockets::default();
    for index in 0..given.len() {
        let found = names.next().unwrap_or_default();
        let place = match found {
            KEPT => &mut sockets.kept,
            found if found == name => &mut sockets.unit,
            _ => return Err(ActivationError::Name { found: found.to_owned(), expected: name }),
        };
        let socket = given.take_tcp_listener(index).map_err(ActivationError::Kind)?;
        let listens = |socket: &TcpListener| SockRef::from(socket).is_listener().unwrap_or(false);
        if !socket.as_ref().is_some_and(listens) {
            return Err(ActivationError::NotListening);
        }
        if place.is_some() {
            return Err(ActivationError::Name { found: found.to_owned(), expected: name });
        }
        *place = socket;
    }
    Ok(sockets)
}

/// Gives the service manager a copy, which the next process finds in [`Sockets::kept`]. It is closed when the service is
/// stopped for good. The unit must have `FileDescriptorStoreMax=1`.
pub fn keep(socket: impl AsFd) {
    service::store(KEPT, socket.as_fd());
}

/// Makes the service manager close what it keeps.
pub fn forget() {
    service::remove_stored(KEPT);
}
