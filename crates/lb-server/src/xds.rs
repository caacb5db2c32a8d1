//! xDS: any gRPC library's own client follows this balancer.
//!
//! Two services of Envoy's contract. Aggregated discovery tells who the workers of a service are, with a weight for each, from
//! the same snapshots that picks read; what is said is decided in `lb-xds`. Load reporting takes how the calls of such clients
//! ended. Neither is told of single calls: a stock client draws its workers by itself.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport};
use tracing::error;

use lb_core::id::BalancerId;
use lb_tls::{Incoming, Tls};
use lb_xds::{
    Lists,
    proto::{
        DiscoveryRequest, DiscoveryResponse, LoadStatsRequest, LoadStatsResponse,
        discovery::aggregated_discovery_service_server::{
            AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
        },
        load_stats::load_reporting_service_server::{
            LoadReportingService, LoadReportingServiceServer,
        },
    },
};

use crate::{balancer::peer, limits::Places, owner::Handle, session::client_key};

mod board;
mod discovery;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod reports;

/// Longest message, in bytes. The counts of a client name each worker with some 60 bytes: enough for 10,000.
const MESSAGE_LIMIT: usize = 1 << 20;

/// How often a client counts its calls. The shortest that all clients follow.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Both services. Clones are the same.
#[derive(Clone)]
pub(crate) struct Xds {
    owner: Handle,
    balancer: BalancerId,
    places: Places,
    lists: watch::Sender<Option<Arc<Lists>>>,
    wanted: Arc<Notify>,
    stop: CancellationToken,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Xds {
    /// Ready to be served. A stream takes one of `places`.
    pub(crate) fn new(
        owner: Handle,
        balancer: BalancerId,
        places: Places,
        stop: CancellationToken,
    ) -> Self {
        let (lists, _) = watch::channel(None);
        let wanted = Arc::new(Notify::new());
        let board = board::run(owner.clone(), lists.clone(), Arc::clone(&wanted));
        tokio::spawn(stop.clone().run_until_cancelled_owned(board));
        Self { owner, balancer, places, lists, wanted, stop }
    }

    pub(crate) fn discovery(&self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    pub(crate) fn reporting(&self) -> LoadReportingServiceServer<Self> {
        LoadReportingServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    /// Serves both, and nothing else, in plain text on a socket of the loopback, for programs of this machine whose gRPC library
    /// cannot check our certificates.
    pub(crate) fn serve_plain(&self, listener: TcpListener) {
        let server = transport::Server::builder()
            .add_service(self.discovery())
            .add_service(self.reporting())
            .serve_with_incoming_shutdown(
                Incoming::new(listener, Tls::open()),
                self.stop.clone().cancelled_owned(),
            );
        tokio::spawn(async move {
            if let Err(error) = server.await {
                error!(%error, "xDS in plain text is not served any more");
            }
        });
    }

    /// The lists from now on; nothing for a moment if nobody has asked for a while.
    fn lists(&self) -> watch::Receiver<Option<Arc<Lists>>> {
        let lists = self.lists.subscribe();
        self.wanted.notify_one();
        lists
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Xds {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let peer = peer(&request);
        let place = self.places.take(&peer)?;
        let (answers, receiver) = mpsc::channel(1);
        let (requests, lists) = (request.into_inner(), self.lists());
        let stream = discovery::run(requests, lists, self.balancer.clone(), peer, answers);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            stop.run_until_cancelled_owned(stream).await;
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[tonic::async_trait]
impl LoadReportingService for Xds {
    type StreamLoadStatsStream = Answers<LoadStatsResponse>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let peer = peer(&request);
        let place = self.places.take(&peer)?;
        let client = client_key(&peer);
        let (answers, receiver) = mpsc::channel(1);
        let stream = reports::run(request.into_inner(), self.owner.clone(), client, answers);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            stop.run_until_cancelled_owned(stream).await;
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
