//! A request body that can be sent again.
//!
//! A worker may refuse a call after the client has begun to send it, and say with certainty that
//! it did not look at it. Then the call may go to another worker, provided that what was sent so
//! far is still at hand. The source of the body therefore stays with the call, together with its
//! first [`REPLAY_LIMIT`] bytes; the connection only gets a reader of it. A new reader starts at
//! the beginning and goes on where the source stands, so that a streaming call can move as well
//! as a unary one.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use tonic::{Status, body::Body};

/// Most bytes of one request kept for sending again. Larger requests are rare, and keeping them
/// would double the memory of an upload.
pub(crate) const REPLAY_LIMIT: usize = 64 * 1024;

/// The body of one call: the source, and what has been taken from it.
#[derive(Debug, Clone)]
pub(crate) struct Replay(Arc<Mutex<Source>>);

#[derive(Debug)]
struct Source {
    body: Body,
    sent: Vec<Bytes>,
    sent_bytes: usize,
    ended: bool,
    /// False once something was sent that is not in `sent`.
    complete: bool,
    /// False once nobody will ask for the beginning again.
    keeping: bool,
    /// The reader that may take from the source: the newest one.
    reader: u32,
}

impl Replay {
    pub(crate) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Source {
            body,
            sent: Vec::new(),
            sent_bytes: 0,
            ended: false,
            complete: true,
            keeping: true,
            reader: 0,
        })))
    }

    /// A reader from the beginning; `None` when the beginning is no longer at hand. Earlier readers
    /// get nothing more.
    pub(crate) fn reader(&self) -> Option<ReplayBody> {
        let mut source = self.lock();
        if !source.complete {
            return None;
        }
        source.reader += 1;
        Some(ReplayBody { replay: self.clone(), reader: source.reader, position: 0 })
    }

    /// Whether the beginning is no longer at hand.
    pub(crate) fn is_spent(&self) -> bool {
        !self.lock().complete
    }

    /// Says that the call has arrived: nothing needs to be kept any more.
    pub(crate) fn stop_keeping(&self) {
        let mut source = self.lock();
        source.keeping = false;
        source.complete = source.complete && source.sent.is_empty();
        source.sent = Vec::new();
    }

    fn lock(&self) -> MutexGuard<'_, Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let size = frame.data_ref().map(Bytes::len);
        match (frame.data_ref(), size) {
            (Some(data), Some(size)) if self.keeping && self.sent_bytes + size <= REPLAY_LIMIT => {
                self.sent_bytes += size;
                self.sent.push(data.clone());
            }
            _ => {
                self.complete = false;
                self.keeping = false;
                self.sent = Vec::new();
            }
        }
    }
}

/// One reader of a [`Replay`]: what a connection sends.
#[derive(Debug)]
pub(crate) struct ReplayBody {
    replay: Replay,
    reader: u32,
    position: usize,
}

impl http_body::Body for ReplayBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let mut source = this.replay.lock();
        if source.reader != this.reader {
            return Poll::Ready(Some(Err(Status::cancelled(
                "the request moved to another worker",
            ))));
        }
        if let Some(data) = source.sent.get(this.position) {
            this.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if source.ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut source.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                source.keep(frame);
                this.position += 1;
            }
            Poll::Ready(Some(Err(_))) => source.complete = false,
            Poll::Ready(None) => source.ended = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let source = self.replay.lock();
        let at_end = source.ended || source.body.is_end_stream();
        at_end && (self.position >= source.sent.len() || source.reader != self.reader)
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn streamed(chunks: Vec<Bytes>) -> Body {
        let frames = chunks.into_iter().map(|chunk| Ok::<_, Status>(Frame::data(chunk)));
        Body::new(StreamBody::new(tokio_stream::iter(frames)))
    }

    async fn text(body: ReplayBody) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_finished_body_is_sent_again_whole() {
        let replay = Replay::new(streamed(vec!["ab".into(), "cd".into()]));
        assert_eq!(text(replay.reader().unwrap()).await, "abcd");
        assert_eq!(text(replay.reader().unwrap()).await, "abcd");
    }

    #[tokio::test]
    async fn a_half_sent_body_goes_on_where_it_stands() {
        let replay = Replay::new(streamed(vec!["ab".into(), "cd".into()]));
        let mut first = replay.reader().unwrap();
        let frame = first.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "ab");
        assert_eq!(text(replay.reader().unwrap()).await, "abcd");
        assert_eq!(first.frame().await.unwrap().unwrap_err().code(), tonic::Code::Cancelled);
    }

    #[tokio::test]
    async fn too_large_a_body_is_sent_once() {
        let chunk = Bytes::from(vec![0; REPLAY_LIMIT / 2 + 1]);
        let replay = Replay::new(streamed(vec![chunk.clone(), chunk]));
        assert_eq!(text(replay.reader().unwrap()).await.len(), REPLAY_LIMIT + 2);
        assert!(replay.reader().is_none());
    }

    #[tokio::test]
    async fn nothing_is_kept_after_the_answer() {
        let replay = Replay::new(streamed(vec!["ab".into(), "cd".into()]));
        let mut first = replay.reader().unwrap();
        first.frame().await.unwrap().unwrap();
        replay.stop_keeping();
        assert_eq!(text(first).await, "cd");
        assert!(replay.reader().is_none());
    }

    #[test]
    fn an_empty_body_ends_at_once() {
        assert!(Replay::new(Body::empty()).reader().unwrap().is_end_stream());
    }
}
