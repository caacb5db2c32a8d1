//! One HTTP/2 connection to one worker, dialled when it is needed.
//!
//! It speaks HTTP/2 itself instead of using tonic's channel, because the answer to one question
//! decides whether a call may go to another worker: did this one possibly see it? It surely did
//! not when there was no connection, when the request never left the queue before the socket,
//! when the worker refused the stream, or when its GOAWAY names an earlier stream as the last one
//! it looked at. Everything else may have run.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use lb_tls::{Expected, Tls};
use tokio::{net::TcpStream, time::timeout};
use tonic::{Code, Status};

use crate::replay::ReplayBody;

/// How long a dial may take, and the TLS handshake after it. On a LAN it takes a millisecond, and one lost SYN is sent again after
/// a second: waiting longer only delays the second choice.
const DIAL_LIMIT: Duration = Duration::from_secs(1);
/// How often a silent connection is tested, and how long the answer may take: calls in a worker that
/// lost its power fail after three seconds, and when it is back soon after, nobody sends a call into
/// a connection that it does not know. A ping costs both sides ten microseconds or so.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// See [`PING_INTERVAL`]. Long enough for a machine whose processors are all busy.
const PING_LIMIT: Duration = Duration::from_secs(2);
/// Unread bytes allowed on one call: enough to keep a gigabit link busy over 16 ms.
const STREAM_WINDOW: u32 = 2 << 20;
/// Unread bytes allowed on the connection: several calls that are read slowly leave room for others.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The sending half of an open connection; cheap to clone.
pub(crate) type Sender = http2::SendRequest<ReplayBody>;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DialError {
    /// The operating system said no.
    #[error("cannot connect: {0}")]
    Connect(Arc<io::Error>),
    /// Nobody answered.
    #[error("cannot connect: no answer within {DIAL_LIMIT:?}")]
    Timeout,
    /// Somebody answered who speaks no HTTP/2.
    #[error("cannot connect: {0}")]
    Handshake(Arc<hyper::Error>),
    /// The runtime is going down.
    #[error("cannot connect: the runtime is shutting down")]
    Shutdown,
}

type Dial = Shared<BoxFuture<'static, Result<Sender, DialError>>>;

/// The connection to one worker.
#[derive(Debug)]
pub(crate) struct Connection {
    address: Arc<str>,
    tls: Tls,
    /// Who must be there, where that can be known.
    expected: Expected,
    /// The latest dial, under way or done. Callers who come meanwhile share it.
    dial: Mutex<Option<Dial>>,
}

impl Connection {
    pub(crate) fn new(address: Arc<str>, tls: Tls, expected: Expected) -> Self {
        Self { address, tls, expected, dial: Mutex::new(None) }
    }

    /// The open connection, or a new one. The dial runs in a task of its own, so that a caller who
    /// gives up does not spoil it for the others.
    pub(crate) async fn sender(&self) -> Result<Sender, DialError> {
        let dial = {
            let mut slot = self.dial.lock().unwrap_or_else(PoisonError::into_inner);
            match slot.as_ref() {
                Some(dial) if is_usable(dial) => dial.clone(),
                _ => slot.insert(self.start()).clone(),
            }
        };
        dial.await
    }

    fn start(&self) -> Dial {
        let (address, tls) = (Arc::clone(&self.address), self.tls.clone());
        let task = tokio::spawn(dial(address, tls, self.expected.clone()));
        async move { task.await.unwrap_or(Err(DialError::Shutdown)) }.boxed().shared()
    }

    /// Whether there is a connection that was not closed by either side.
    pub(crate) fn is_open(&self) -> bool {
        let slot = self.dial.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref()
            .and_then(Shared::peek)
            .is_some_and(|outcome| matches!(outcome, Ok(sender) if !sender.is_closed()))
    }

    /// Lets go of the connection; calls that run on it come to their end.
    pub(crate) fn close(&self) {
        *self.dial.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Under way, or open.
fn is_usable(dial: &Dial) -> bool {
    match dial.peek() {
        None => true,
        Some(Ok(sender)) => !sender.is_closed(),
        Some(Err(_)) => false,
    }
}

async fn dial(address: Arc<str>, tls: Tls, expected: Expected) -> Result<Sender, DialError> {
    let connect = timeout(DIAL_LIMIT, TcpStream::connect(&*address)).await;
    let stream = connect
        .map_err(|_| DialError::Timeout)?
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|error| DialError::Connect(Arc::new(error)))?;
    let stream = timeout(DIAL_LIMIT, tls.connect(stream, expected))
        .await
        .map_err(|_| DialError::Timeout)?
        .map_err(|error| DialError::Connect(Arc::new(error)))?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_LIMIT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| DialError::Handshake(Arc::new(error)))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(address = &*address, %error, "connection to worker ended");
        }
    });
    Ok(sender)
}

/// How sending failed.
#[derive(Debug)]
pub(crate) enum SendFailure {
    /// The connection had ended before the request left: another connection may take it.
    Stale(Box<Request<ReplayBody>>),
    /// The worker said that it did not look at the request.
    Refused(String),
    /// The worker may have run the call.
    Broken(Status),
}

/// Sends a request and awaits the head of the response.
pub(crate) async fn send(
    sender: &mut Sender,
    request: Request<ReplayBody>,
) -> Result<Response<Incoming>, SendFailure> {
    sender.try_send_request(request).await.map_err(classify)
}

fn classify(mut failure: TrySendError<Request<ReplayBody>>) -> SendFailure {
    if let Some(request) = failure.take_message() {
        return SendFailure::Stale(Box::new(request));
    }
    let error = failure.into_error();
    match h2_error(&error) {
        Some(reason) if is_refusal(reason) => SendFailure::Refused(reason.to_string()),
        _ => SendFailure::Broken(broken(&error)),
    }
}

/// A reset with REFUSED_STREAM, or a GOAWAY that does not cover the stream (h2 gives the error of
/// a received GOAWAY to no other stream): RFC 9113, section 8.7, calls both safe to send again.
fn is_refusal(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

/// The status of a call whose connection broke, or whose stream the worker reset.
pub(crate) fn broken(error: &hyper::Error) -> Status {
    match h2_error(error) {
        Some(reset) if reset.is_reset() && reset.is_remote() => {
            let code = match reset.reason() {
                Some(h2::Reason::CANCEL) => Code::Cancelled,
                Some(h2::Reason::REFUSED_STREAM) => Code::Unavailable,
                Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
                _ => Code::Internal,
            };
            Status::new(code, format!("the worker broke the call off: {reset}"))
        }
        Some(reason) => Status::unavailable(format!("connection lost during the call: {reason}")),
        None => Status::unavailable(format!("connection lost during the call: {error}")),
    }
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use lb_core::id::ClusterName;
    use lb_pki::{Folder, LIFETIME, choice};
    use lb_tls::{Identity, Incoming, Role};
    use tokio::net::TcpListener;

    use super::*;

    /// What a balancer that lies, or somebody who has taken over an address, could make of a pick.
    #[tokio::test]
    async fn a_worker_is_who_was_picked_and_not_who_answers() {
        let directory = tempfile::tempdir().unwrap();
        let cluster: ClusterName = "lab".parse().unwrap();
        let folder = Folder::init(directory.path(), cluster.clone(), false).unwrap();
        let issue = |role, name: &str| {
            let (cluster, name) = (cluster.clone(), name.parse().unwrap());
            let identity = Identity { cluster, role, name, services: vec![], instances: 0 };
            choice(&folder.issue(&identity, LIFETIME, false).unwrap(), role)
        };
        let worker = Tls::of_worker(&issue(Role::Worker, "a"), &cluster).unwrap();
        let client = Tls::of_client(&issue(Role::Client, "c"), &cluster).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Arc<str> = listener.local_addr().unwrap().to_string().into();
        let mut incoming = Incoming::new(listener, worker);
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Some(stream) = incoming.next().await {
                open.push(stream);
            }
        });
        let dial = async |tls: &Tls, id: &str| {
            let expected = Expected::Worker(id.parse().unwrap());
            Connection::new(Arc::clone(&address), tls.clone(), expected).sender().await.map(drop)
        };
        assert!(dial(&client, "a").await.is_ok());
        let error = dial(&client, "b").await.unwrap_err().to_string();
        assert_eq!(error, "cannot connect: the peer is lb://lab/worker/a: expected worker b");
    }
}
