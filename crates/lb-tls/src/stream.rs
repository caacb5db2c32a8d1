//! A connection, plain or not, and who is at its other end.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;
use tonic::transport::server::Connected;

use crate::Identity;

/// Who is at the other end; an extension of every request that comes over [`crate::Incoming`].
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Where from; not known of a connection that is gone already.
    pub address: Option<SocketAddr>,
    /// Where to.
    pub local_address: Option<SocketAddr>,
    /// Who, as far as it was proved.
    pub identity: Option<Arc<Identity>>,
}

/// A connection.
#[derive(Debug)]
pub struct Stream {
    kind: Kind,
    peer: Peer,
}

#[derive(Debug)]
enum Kind {
    Plain(TcpStream),
    // In a box, so that plain ones do not pay for it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) fn plain(stream: TcpStream, address: Option<SocketAddr>) -> Self {
        let local_address = stream.local_addr().ok();
        Self { kind: Kind::Plain(stream), peer: Peer { address, local_address, identity: None } }
    }

    /// After the handshake, in which the certificate was judged.
    pub(crate) fn tls(stream: TlsStream<TcpStream>, address: Option<SocketAddr>) -> Self {
        let local_address = stream.get_ref().0.local_addr().ok();
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let identity = leaf.and_then(|leaf| Identity::of(leaf).ok()).map(Arc::new);
        let peer = Peer { address, local_address, identity };
        Self { kind: Kind::Tls(Box::new(stream)), peer }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl Connected for Stream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Kind::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Kind::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Kind::Tls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Plain(stream) => stream.is_write_vectored(),
            Kind::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_flush(context),
            Kind::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Kind::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
