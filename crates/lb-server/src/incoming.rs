//! Incoming connections until the daemon stops.
//!
//! tonic keeps the listening socket open while it drains (its issue 2342), so that newcomers wait for nothing.
//! This stream owns the listener and drops it the moment the daemon starts to stop.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::debug;

pub(crate) struct Incoming {
    listener: Option<TcpListener>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Incoming {
    pub(crate) fn new(listener: TcpListener, stop: CancellationToken) -> Self {
        Self { listener: Some(listener), stop: Box::pin(stop.cancelled_owned()) }
    }
}

impl Stream for Incoming {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stop.as_mut().poll(context).is_ready() {
            self.listener = None;
        }
        let Some(listener) = &self.listener else { return Poll::Ready(None) };
        listener.poll_accept(context).map(|accepted| {
            let stream = accepted.map(|(stream, _peer)| {
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%error, "a connection stays without TCP_NODELAY");
                }
                stream
            });
            Some(stream)
        })
    }
}
