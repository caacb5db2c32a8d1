//! The gRPC server of a worker: its start, and a stop that fails no call in time.

use std::time::Duration;

use tokio::{
    net::TcpListener,
    task::JoinError,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{service::Routes, transport::Server};
use tracing::debug;

use lb_tls::{
    Bounds, Connections, Incoming, Tls,
    rights::{self, Guard},
};

use crate::{drain::idle, layer::LoadLayer, load::Load, orca::Reports};

/// A client that vanished without a word is noticed within twice this time, and its calls are cancelled.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Calls at once on one connection, besides those that slots and queue have room for: a client is told that the worker is full
/// instead of waiting unseen in its own HTTP/2 layer, and who sends calls for the sake of sending them does not fill the memory.
/// Those that are beyond it wait there until others have been told, which takes a moment. It stays as it was at the start when a
/// reload changes slots and queue, so it is also how far they can grow before one client feels it.
const STREAMS: u32 = 512;
/// Connections from one address, besides one for each call that slots and queue have room for: proxies and simple clients have
/// one for each call, and many may be behind one address.
const PER_PEER: usize = 1024;
/// Bytes of the headers of a request. Ours have a few hundred; gRPC's own default is 8 KiB.
const HEADER_LIST: u32 = 16 << 10;
/// Bytes that may come before they are taken, on a stream and on a connection; hyper's own values. Uploads run at the full
/// speed of a LAN with it, and calls are bounded by slots and queue.
const WINDOW: u32 = 1 << 20;
/// Calls of a connection that were given up before this process saw them: a client's whole load, when it lost patience while
/// this process stood still. More is an attack (CVE-2023-44487), and the connection is closed. How often it happens is bounded by
/// lb-tls `frames`.
const GIVEN_UP: usize = 1024;
/// Calls of a connection that broke the rules of HTTP/2 (RUSTSEC-2024-0003); then it is closed.
const BROKEN: usize = 1024;
/// When no call is left, connections get this long to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the server ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// tonic gave up.
    #[error("tonic's server ended")]
    Transport(#[source] tonic::transport::Error),
    /// The task panicked.
    #[error("the server's task failed")]
    Task(#[source] JoinError),
    /// It ended without being told to.
    #[error("the server ended by itself")]
    Ended,
}

pub(crate) struct GrpcServer {
    layer: LoadLayer,
    load: Load,
    stop: CancellationToken,
    task: AbortOnDropHandle<Result<(), tonic::transport::Error>>,
}

impl GrpcServer {
    pub(crate) fn start(
        listener: TcpListener,
        routes: Routes,
        load: Load,
        reports: Reports,
        tls: Tls,
    ) -> Self {
        let guard = Guard::new(tls.mode(), rights::AT_WORKER);
        let room = u32::from(load.slots()).saturating_add(load.queue());
        let per_peer = PER_PEER + room as usize;
        let bounds = Bounds { per_peer, ..Bounds::default() }.within_descriptors();
        let incoming = Incoming::new(listener, tls).bounded(Connections::new(bounds));
        let layer = LoadLayer::new(load.clone()).telling(reports.clone());
        let routes = routes.add_service(reports.service());
        let stop = CancellationToken::new();
        let serving = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(STREAMS.saturating_add(room))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .http2_max_header_list_size(HEADER_LIST)
            .http2_max_pending_accept_reset_streams(Some(GIVEN_UP))
            .http2_max_local_error_reset_streams(Some(BROKEN))
            // Outermost: who may not call is not counted.
            .layer(guard)
            .layer(layer.clone())
            .serve_with_incoming_shutdown(
                routes.prepare(),
                incoming,
                stop.clone().cancelled_owned(),
            );
        let task = AbortOnDropHandle::new(tokio::spawn(serving));
        Self { layer, load, stop, task }
    }

    /// Returns only if the server ends without being told to.
    pub(crate) async fn failure(&mut self) -> ServerError {
        match (&mut self.task).await {
            Ok(Ok(())) => ServerError::Ended,
            Ok(Err(error)) => ServerError::Transport(error),
            Err(error) => ServerError::Task(error),
        }
    }

    /// Closes the listener at once (tonic drops it before it waits for connections), lets the calls
    /// that came in the last moment end, and returns how many had to be cut at `deadline`.
    pub(crate) async fn stop(mut self, deadline: Instant) -> u32 {
        self.stop.cancel();
        self.layer.cut_probes();
        let closing = timeout_at(deadline, async {
            loop {
                idle(&self.load).await;
                // Connections close when their last call has ended; then the server ends. A call that came
                // in between starts the waiting anew.
                let closed = timeout(CLOSE_TIMEOUT, &mut self.task).await.is_ok();
                if closed || self.load.view(Instant::now()).in_flight == 0 {
                    return closed;
                }
            }
        });
        match closing.await {
            Ok(true) => return 0,
            Ok(false) => debug!("some connections did not close in time"),
            Err(_deadline) => {}
        }
        let cut = self.load.view(Instant::now()).in_flight;
        self.layer.cut_calls();
        if cut > 0 {
            // So that the clients are told.
            let _ = timeout(CLOSE_TIMEOUT, &mut self.task).await;
        }
        cut
    }
}
