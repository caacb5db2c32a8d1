//! An eye on a connection that came in: it must begin in time, and not send what carries nothing without end.

use std::{
    future::Future as _,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};
use tracing::warn;

use crate::{connections::Guest, frames::Frames};

/// How long the preface of HTTP/2 may take. Clients send it at once. After it our own PINGs ask whether somebody is there.
const PREFACE_LIMIT: Duration = Duration::from_secs(5);
/// How often one from which nothing is read is looked at, whether it is still there: the end of a connection is something that is
/// read.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Watch {
    guest: Arc<Guest>,
    frames: Frames,
    /// Until the preface has come.
    preface: Option<Pin<Box<Sleep>>>,
    /// Nothing is read until then, or until enough has been sent.
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    look: Pin<Box<Sleep>>,
    reader: Option<Waker>,
}

impl Watch {
    pub(super) fn new(guest: Arc<Guest>) -> Self {
        let preface = Some(Box::pin(sleep(PREFACE_LIMIT)));
        let frames = Frames::new(guest.requests_count, Instant::now());
        Self { guest, frames, preface, rest: None }
    }

    /// Ready when something may be read; an error when the connection, which `failed` tells, has ended meanwhile.
    pub(super) fn poll_rested(
        &mut self,
        context: &mut Context<'_>,
        failed: impl FnOnce() -> io::Result<Option<io::Error>>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_none() {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = failed()? {
            return Poll::Ready(Err(error));
        }
        loop {
            let again = self.frames.spend(0, &self.guest.frames, Instant::now());
            let (Some(again), Some(rest)) = (again, &mut self.rest) else {
                self.rest = None;
                return Poll::Ready(Ok(()));
            };
            rest.reader = Some(context.waker().clone());
            ready!(rest.look.as_mut().poll(context));
            rest.look.as_mut().reset(Instant::now() + again.min(LOOK));
        }
    }

    /// Ready when the peer has kept us waiting for too long.
    pub(super) fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some(preface) = &mut self.preface else { return Poll::Pending };
        ready!(preface.as_mut().poll(context));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface in time"))
    }

    /// How much may be read at once; `None`: whatever there is.
    pub(super) fn most(&self) -> Option<usize> {
        self.frames.most()
    }

    pub(super) fn has_read(&mut self, bytes: &[u8], from: Option<SocketAddr>) {
        let count = self.frames.count(bytes).saturating_add(self.guest.charged());
        if self.preface.is_some() && self.frames.has_begun() {
            self.preface = None;
        }
        if count == 0 {
            return;
        }
        let now = Instant::now();
        let Some(rest) = self.frames.spend(count, &self.guest.frames, now) else { return };
        self.rest = Some(Rest { look: Box::pin(sleep(rest.min(LOOK))), reader: None });
        if let (Some(times), Some(peer)) = (self.guest.connections.slowed(now), from) {
            warn!(
                event = "peer_slowed", %peer, times,
                "a peer sends requests or frames in vain, and is heard more slowly"
            );
        }
    }

    pub(super) fn has_sent(&mut self, bytes: usize) {
        self.frames.sent(bytes);
        // It may have earned enough to be read from again; the reader finds out.
        if let Some(reader) = self.rest.as_mut().and_then(|rest| rest.reader.take()) {
            reader.wake();
        }
    }
}
