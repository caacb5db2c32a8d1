//! A connection, plain or not, and who is at its other end.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;
use tonic::transport::server::Connected;

use crate::{
    Identity,
    connections::{Entered, Guest},
};

mod watch;

use watch::Watch;

/// What a request in vain counts, in frames that carry nothing: who asks again after some seconds does not feel it, and who asks
/// without end is heard once in some seconds, though it is answered, which earns up to ten.
const IN_VAIN: u32 = 40;

/// Who is at the other end; an extension of every request that comes over [`crate::Incoming`].
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Where from; not known of a connection that is gone already.
    pub address: Option<SocketAddr>,
    /// Where to.
    pub local_address: Option<SocketAddr>,
    /// Who, as far as it was proved.
    pub identity: Option<Arc<Identity>>,
    /// Of connections that came in.
    guest: Option<Arc<Guest>>,
}

impl Peer {
    /// Which machine it is: the same address for both families of one host.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip().to_canonical())
    }

    /// Counts one more request of this peer's address, unless there are `most` already. It is counted until the result is
    /// dropped.
    pub fn enter(&self, most: usize) -> Option<Entered> {
        self.guest.as_ref().map_or(Some(Entered::default()), |guest| guest.enter(most))
    }

    /// Counts a request against the connection that it came over, as it was in vain: whoever asks for what it does not get, again
    /// and again, is heard more slowly.
    pub fn in_vain(&self) {
        if let Some(guest) = &self.guest {
            guest.charge(IN_VAIN);
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Stream {
    kind: Kind,
    peer: Peer,
    /// Of connections that came in. In a box, as most of it is seldom touched.
    watch: Option<Box<Watch>>,
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
        let peer = Peer { address, local_address, ..Peer::default() };
        Self { kind: Kind::Plain(stream), peer, watch: None }
    }

    /// After the handshake, in which the certificate was judged.
    pub(crate) fn tls(stream: TlsStream<TcpStream>, address: Option<SocketAddr>) -> Self {
        let local_address = stream.get_ref().0.local_addr().ok();
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let identity = leaf.and_then(|leaf| Identity::of(leaf).ok()).map(Arc::new);
        let peer = Peer { address, local_address, identity, guest: None };
        Self { kind: Kind::Tls(Box::new(stream)), peer, watch: None }
    }

    /// The same with a place, and watched from now on.
    pub(crate) fn of_guest(mut self, guest: Arc<Guest>) -> Self {
        self.watch = Some(Box::new(Watch::new(Arc::clone(&guest))));
        self.peer.guest = Some(guest);
        self
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

impl Kind {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { kind, peer, watch } = &mut *self;
        let Some(watch) = watch else { return kind.poll_read(context, buffer) };
        ready!(watch.poll_rested(context, || kind.socket().take_error()))?;
        let before = buffer.filled().len();
        let most = watch.most().filter(|most| *most < buffer.remaining());
        let read = match most {
            None => kind.poll_read(context, buffer),
            Some(most) => {
                let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
                let read = kind.poll_read(context, &mut part);
                let length = part.filled().len();
                buffer.advance(length);
                read
            }
        };
        match read {
            Poll::Ready(Ok(())) => {
                watch.has_read(&buffer.filled()[before..], peer.address);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => watch.poll_overdue(context).map(Err),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Kind::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Kind::Tls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        };
        self.note(written)
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

impl Stream {
    fn note(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Some(watch), Poll::Ready(Ok(bytes))) = (&mut self.watch, &written) {
            watch.has_sent(*bytes);
        }
        written
    }
}
