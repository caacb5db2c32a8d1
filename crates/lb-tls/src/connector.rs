//! Dials for tonic's channels.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tower_service::Service;

use crate::{Expected, Stream, Tls};

/// For `connect_with_connector` of a tonic `Endpoint`. The address is that of the endpoint's URI; its scheme does not matter.
#[derive(Debug, Clone)]
pub struct Connector {
    tls: Tls,
    expected: Expected,
    source: Option<IpAddr>,
    reset_on_close: bool,
}

impl Connector {
    /// Dials with `tls`, from the address `source` if there is one, and takes nobody but `expected`.
    pub fn new(tls: Tls, expected: Expected, source: Option<IpAddr>) -> Self {
        Self { tls, expected, source, reset_on_close: false }
    }

    /// Lets a connection end with a reset when it is closed, by which the other end hears of it at once. An orderly end waits
    /// behind what was sent before, and that is stuck when nothing is received any more, acknowledgements neither. What the other
    /// end has not got yet is lost: whoever has a last word awaits the answer to it.
    #[must_use]
    pub fn reset_on_close(self) -> Self {
        Self { reset_on_close: true, ..self }
    }

    async fn dial(self, uri: Uri) -> io::Result<TokioIo<Stream>> {
        let missing = || io::Error::new(io::ErrorKind::InvalidInput, "no host and port to dial");
        let host = uri.host().ok_or_else(missing)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().ok_or_else(missing)?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in lookup_host((host, port)).await? {
            match connect(address, self.source).await {
                Ok(stream) => {
                    if self.reset_on_close {
                        stream.set_zero_linger()?;
                    }
                    let stream = self.tls.connect(stream, self.expected).await?;
                    return Ok(TokioIo::new(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn a_connection_that_is_to_end_with_a_reset_does() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let connector = Connector::new(Tls::open(), Expected::Server, None);
        let (dialled, accepted) =
            tokio::join!(connector.reset_on_close().dial(uri), listener.accept());
        drop(dialled.unwrap());
        let (mut peer, _) = accepted.unwrap();
        let error = peer.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
