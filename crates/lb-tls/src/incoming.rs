//! Connections that come in, each after its handshake.
//!
//! Handshakes run beside one another, so that one that does not go on holds up nobody. There is a bound on those under way,
//! and when it is reached the oldest gives way to the newcomer: an honest handshake takes milliseconds, so it is nearly always
//! one that was never meant to end.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream as Values;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout},
};
use tracing::{debug, warn};

use crate::{Stream, Tls};

/// Longest handshake. On a LAN it takes milliseconds, on a busy small machine perhaps a second.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Handshakes under way. Each holds up to 20 KiB; a thousand workers that come back at once are served in turns of this many.
const HANDSHAKES: usize = 512;
/// A refused connection is told of at most this often; anybody on the network can cause it.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// The connections of one listening socket.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    tls: Tls,
    handshakes: JoinSet<Result<Stream, Refused>>,
    /// The same in the order in which they began.
    oldest: VecDeque<AbortHandle>,
    told: Option<Instant>,
}

/// A connection that did not get through its handshake.
#[derive(Debug)]
struct Refused {
    from: SocketAddr,
    problem: String,
}

impl Incoming {
    /// Takes connections from `listener`, and asks for what `tls` says. The socket is closed when this is dropped.
    pub fn new(listener: TcpListener, tls: Tls) -> Self {
        let (handshakes, oldest) = (JoinSet::new(), VecDeque::new());
        Self { listener, tls, handshakes, oldest, told: None }
    }

    fn begin(&mut self, stream: TcpStream, from: SocketAddr) {
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
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no handshake within {HANDSHAKE_LIMIT:?}"),
            };
            Err(Refused { from, problem })
        }));
    }

    fn tell(&mut self, Refused { from, problem }: &Refused) {
        if self.told.is_some_and(|told| told.elapsed() < TELL_INTERVAL) {
            debug!(peer = %from, problem, "a connection was refused");
            return;
        }
        self.told = Some(Instant::now());
        warn!(event = "connection_refused", peer = %from, problem, "a connection was refused");
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
            let (stream, from) = ready!(this.listener.poll_accept(context))?;
            if let Err(error) = stream.set_nodelay(true) {
                debug!(peer = %from, %error, "small messages of a connection may wait");
            }
            if this.tls.is_open() {
                return Poll::Ready(Some(Ok(Stream::plain(stream, Some(from)))));
            }
            this.begin(stream, from);
        }
    }
}
