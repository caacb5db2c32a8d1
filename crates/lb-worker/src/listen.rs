//! The socket that calls arrive on, never wider than the scope.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use lb_discovery::Scope;
use lb_runtime::net::{self, BindError};

/// A worker that cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The text is no address, or the system refuses it.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The socket does not tell its address.
    #[error("the listening socket has no address")]
    NoAddress(#[source] io::Error),
}

/// Listens on `text` and returns where that is; without a host on every address in `scope`.
pub(crate) fn listen(text: &str, scope: Scope) -> Result<(TcpListener, SocketAddr), ListenError> {
    let listener = match scope {
        Scope::Lan => net::bind(text)?,
        Scope::Loopback => net::bind(&net::confine(text)?)?,
    };
    let address = listener.local_addr().map_err(ListenError::NoAddress)?;
    Ok((listener, address))
}

/// Checks the form of `text`, without listening.
pub(crate) fn check(text: &str, scope: Scope) -> Result<(), BindError> {
    match scope {
        Scope::Lan => net::check(text),
        Scope::Loopback => net::confine(text).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_host_the_scope_decides() {
        let host = |text, scope| listen(text, scope).unwrap().1.ip().to_string();
        assert_eq!(host(":0", Scope::Loopback), "127.0.0.1");
        assert_eq!(host("0", Scope::Loopback), "127.0.0.1");
        assert_eq!(host("127.0.0.2:0", Scope::Loopback), "127.0.0.2");
        assert!(listen(":0", Scope::Lan).unwrap().1.ip().is_unspecified());
    }

    #[tokio::test]
    async fn the_scope_is_never_left() {
        let error = listen("0.0.0.0:0", Scope::Loopback).unwrap_err();
        assert!(error.to_string().contains("confined to this machine"), "{error}");
    }
}
