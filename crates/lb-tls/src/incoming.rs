//! Connections that come in, each after its handshake.
//!
//! A connection first gets a place ([`Connections`]), or is closed at once. Handshakes run beside one another, so that one
//! that does not go on holds up nobody. There is a bound on those under way, and when it is reached the oldest gives way to
//! the newcomer: an honest handshake takes milliseconds, so it is nearly always one that was never meant to end.

use std::{
    collections::VecDeque,
    future::Future as _,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream as Values;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{Instant, Sleep, sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    Stream, Tls,
    connections::{Connections, Full, Guest},
    seldom::Seldom,
};

/// Longest handshake. On a LAN it takes milliseconds, on a busy small machine perhaps a second.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Handshakes under way. Each holds up to 20 KiB; a thousand workers that come back at once are served in turns of this many.
const HANDSHAKES: usize = 512;
/// How long a peer may leave what we send lying before its connection is cut by the kernel (`TCP_USER_TIMEOUT`). One that answers no
/// PING is given up after that time, but not closed while there is something that it does not take.
const UNREAD_LIMIT: Duration = Duration::from_secs(20);
/// Bytes that the kernel takes for a peer beyond what it can send to it now. Without it that is megabytes, for peers that read
/// nothing, too.
const UNSENT_LIMIT: u32 = 128 << 10;
/// Bytes that the kernel keeps of what a peer sends and nobody has read yet; it takes twice as much memory for them. Left to itself it
/// goes up to megabytes for each, and all sockets of the machine become slow when they have some percent of its memory together.
const UNTAKEN_LIMIT: usize = 64 << 10;
/// When the system has no room for one more connection, it is asked again after this time. Those that wait stay in the
/// kernel's queue; asking at once would take a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of one listening socket.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    tls: Tls,
    connections: Connections,
    handshakes: JoinSet<Result<Stream, Refused>>,
    /// The same in the order in which they began.
    oldest: VecDeque<AbortHandle>,
    pause: Option<Pin<Box<Sleep>>>,
    refused: Seldom,
    full: Seldom,
    failed: Seldom,
}

/// A connection that did not get through its handshake.
#[derive(Debug)]
struct Refused {
    from: SocketAddr,
    problem: String,
}

impl Incoming {
    /// Takes connections from `listener`, asks for what `tls` says, and holds to the usual bounds. The socket is closed when this
    /// is dropped.
    pub fn new(listener: TcpListener, tls: Tls) -> Self {
        Self {
            listener,
            tls,
            connections: Connections::default(),
            handshakes: JoinSet::new(),
            oldest: VecDeque::new(),
            pause: None,
            refused: Seldom::default(),
            full: Seldom::default(),
            failed: Seldom::default(),
        }
    }

    /// The same with these bounds.
    #[must_use]
    pub fn bounded(self, connections: Connections) -> Self {
        Self { connections, ..self }
    }

    /// A connection that may go on: at once, or through a handshake.
    fn welcome(&mut self, stream: TcpStream, from: SocketAddr) -> Option<Stream> {
        let guest = match self.connections.take(from.ip(), Instant::now()) {
            Ok(guest) => guest,
            Err(full) => {
                self.turn_away(&stream, from, full);
                return None;
            }
        };
        let set = stream.set_nodelay(true);
        let socket = SockRef::from(&stream);
        let set = set
            .and_then(|()| socket.set_tcp_user_timeout(Some(UNREAD_LIMIT)))
            .and_then(|()| socket.set_tcp_notsent_lowat(UNSENT_LIMIT))
            .and_then(|()| socket.set_recv_buffer_size(UNTAKEN_LIMIT));
        if let Err(error) = set {
            debug!(peer = %from, %error, "a connection keeps the kernel's habits");
        }
        if self.tls.is_open() {
            return Some(Stream::plain(stream, Some(from)).of_guest(guest));
        }
        self.begin(stream, from, guest);
        None
    }

    /// Without a word, and without the minute in which the kernel would remember a connection that was closed in order.
    fn turn_away(&mut self, stream: &TcpStream, from: SocketAddr, full: Full) {
        // It is closed in any case.
        let _ = stream.set_zero_linger();
        if let Some(times) = self.full.happened(Instant::now()) {
            warn!(event = "connections_full", peer = %from, problem = %full, times, "a connection was closed at once");
        }
    }

    fn begin(&mut self, stream: TcpStream, from: SocketAddr, guest: Arc<Guest>) {
        if self.oldest.len() >= HANDSHAKES {
            self.oldest.retain(|handshake| !handshake.is_finished());
        }
        if self.oldest.len() >= HANDSHAKES
            && let Some(oldest) = self.oldest.pop_front()
        {
            oldest.abort();
        }
        let tls = self.tls.clone();
        self.oldest.push_back(self.handshakes.spawn(async move {
            let problem = match timeout(HANDSHAKE_LIMIT, tls.accept(stream, from)).await {
                Ok(Ok(stream)) => return Ok(stream.of_guest(guest)),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no handshake within {HANDSHAKE_LIMIT:?}"),
            };
            Err(Refused { from, problem })
        }));
    }

    fn tell(&mut self, Refused { from, problem }: &Refused) {
        if let Some(times) = self.refused.happened(Instant::now()) {
            warn!(event = "connection_refused", peer = %from, problem, times, "a connection was refused");
        } else {
            debug!(peer = %from, problem, "a connection was refused");
        }
    }

    /// Most errors are of one connection, which is gone; the others mean that there is no room.
    fn failed(&mut self, error: &io::Error) {
        let of_connection = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::Interrupted
                | io::ErrorKind::TimedOut
        );
        if of_connection {
            debug!(%error, "a connection was gone before it was accepted");
            return;
        }
        self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
        if let Some(times) = self.failed.happened(Instant::now()) {
            warn!(event = "accept_failed", %error, times, "the system has no room for connections");
        }
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<(TcpStream, SocketAddr)> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok(accepted) => return Poll::Ready(accepted),
                Err(error) => self.failed(&error),
            }
        }
    }
}

impl Values for Incoming {
    type Item = io::Result<Stream>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            while let Poll::Ready(Some(ended)) = this.handshakes.poll_join_next(context) {
                match ended {
                    Ok(Ok(stream)) => return Poll::Ready(Some(Ok(stream))),
                    Ok(Err(refused)) => this.tell(&refused),
                    Err(_gave_way) => {}
                }
            }
            let (stream, from) = ready!(this.poll_accept(context));
            if let Some(stream) = this.welcome(stream, from) {
                return Poll::Ready(Some(Ok(stream)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_keeps_little_for_a_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _peer = TcpStream::connect(address).await.unwrap();
        let (stream, from) = listener.accept().await.unwrap();
        let stream = stream.into_std().unwrap();
        let same_socket = stream.try_clone().unwrap();
        let mut incoming = Incoming::new(listener, Tls::open());
        let _kept = incoming.welcome(TcpStream::from_std(stream).unwrap(), from).unwrap();
        let socket = SockRef::from(&same_socket);
        // Twice of what was asked for is the kernel's own account (socket(7)).
        assert_eq!(socket.recv_buffer_size().unwrap(), 2 * UNTAKEN_LIMIT);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_LIMIT);
    }
}
