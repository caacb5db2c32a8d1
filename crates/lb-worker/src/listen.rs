//! The socket that calls arrive on, never wider than the scope.

use std::{borrow::Cow, io, net::SocketAddr};

use tokio::net::TcpListener;

use lb_discovery::Scope;
use lb_runtime::net::{self, BindError};

/// A worker that cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The text is no address, or the system refuses it.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Confined to this machine, but reachable from others.
    #[error(
        "cannot listen on {address}: the worker is confined to the loopback; \
         expected an address such as 127.0.0.1"
    )]
    NotLocal {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The socket does not tell its address.
    #[error("the listening socket has no address")]
    NoAddress(#[source] io::Error),
}

/// Listens on `text` and returns where that is; without a host on every address in `scope`.
pub(crate) fn listen(text: &str, scope: Scope) -> Result<(TcpListener, SocketAddr), ListenError> {
    let listener = net::bind(&in_scope(text, scope))?;
    let address = listener.local_addr().map_err(ListenError::NoAddress)?;
    if scope == Scope::Loopback && !address.ip().to_canonical().is_loopback() {
        return Err(ListenError::NotLocal { address });
    }
    Ok((listener, address))
}

/// On the loopback, "everywhere" means 127.0.0.1.
fn in_scope(text: &str, scope: Scope) -> Cow<'_, str> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if scope == Scope::Loopback && !port.contains([':', '.']) {
        return format!("127.0.0.1:{port}").into();
    }
    text.into()
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
        assert!(error.to_string().contains("confined to the loopback"), "{error}");
    }
}
