//! A balancer from listening to gone.

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{service::Routes, transport};
use tracing::{info, warn};

use lb_core::id::BalancerId;
use lb_discovery::{Advertisement, Announcement, Discovery, DiscoveryError, Role, Scope};
use lb_proto::v1::{
    admin_server::AdminServer, load_balancer_server::LoadBalancerServer,
    registry_server::RegistryServer, scaling_server::ScalingServer,
};
use lb_runtime::net::{self, BindError};
use lb_tls::{
    Incoming, Mode, Tls,
    rights::{self, Guard},
};

use crate::{
    admin::Administration,
    balancer::Balancer,
    config::Settings,
    limits::Streams,
    owner::{Event, Handle, Owner},
    registration::Registration,
    requests::Requests,
    scaling::{self, Offering},
    two_sizes::TwoSizes,
    xds::Xds,
};

/// How long answered streams may take to end when the balancer stops. They end by themselves at once;
/// this is for peers that do not read.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// How often an idle connection is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest message of a session, in bytes. 128 picks that exclude as many as they may and have the longest affinity key, as our client
/// sends at most, have 80 KiB; 1,024 plain ones with as many outcomes 40.
const SESSION_MESSAGE_LIMIT: usize = 128 << 10;
const SESSION_PATH: &str = "/lb.v1.LoadBalancer/Session";

/// Longest other message, in bytes. The largest real ones, a hello with 32 services and labels and a pick that excludes 64 workers,
/// have some 10 KiB.
const MESSAGE_LIMIT: usize = 64 << 10;

/// Streams of one connection. As many as one address may have sessions; more calls of one client wait in it.
const STREAMS: u32 = 1024;

/// Bytes that may come on a stream before they are taken (those of unary calls and of registrations are at once). It is what a session
/// that does not read its answers can fill; on a LAN more makes nothing faster.
const STREAM_WINDOW: u32 = 64 << 10;

/// The same of a connection, as hyper has it. h2 also sees a flood in more small DATA frames than this has room for, and half a
/// second of work that piles up while this process stands still is none.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Bytes of the headers of a request. Ours have a few hundred; gRPC's own default is 8 KiB.
const HEADER_LIST: u32 = 16 << 10;

/// Requests of a connection that were given up before this process saw them: a client's whole load, when it lost patience while
/// this process stood still. More is an attack (CVE-2023-44487), and the connection is closed. How often it happens is bounded by
/// lb-tls `frames`.
const GIVEN_UP: usize = 1024;

/// Requests of a connection that broke the rules of HTTP/2 (RUSTSEC-2024-0003); then it is closed. A client that does not know
/// [`STREAMS`] yet may begin as many too much.
const BROKEN: usize = 1024;

/// Why a balancer cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The listening socket has no address.
    #[error("cannot read the address listened on")]
    Listener(#[source] io::Error),
    /// It cannot be found.
    #[error("cannot announce this balancer by DNS-SD")]
    Discovery(#[from] DiscoveryError),
    /// The gRPC server failed.
    #[error("the gRPC server failed")]
    Serve(#[from] transport::Error),
    /// The reflection service cannot read the contract.
    #[error("the reflection service cannot be built")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A balancer that listens and does not yet serve.
pub struct Server {
    settings: Settings,
    listener: TcpListener,
    xds_plain: Option<TcpListener>,
    address: SocketAddr,
    id: BalancerId,
    owner: Owner,
    handle: Handle,
    streams: Streams,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, address, id, .. } = self;
        let mut shown = formatter.debug_struct("Server");
        shown.field("settings", settings).field("address", address).field("id", id);
        shown.finish_non_exhaustive()
    }
}

/// Changes a balancer while it serves.
#[derive(Clone)]
pub struct Control {
    owner: Handle,
    streams: Streams,
    tls: Tls,
}

impl Control {
    /// Puts the policy, the limits and the numbers for scaling of `settings` in force, and looks for new certificates; everything else needs a new
    /// balancer.
    pub async fn apply(&self, settings: &Settings) {
        let policy = settings.policy;
        if self.owner.snapshot().policy != policy {
            // Fails only when the balancer stops, and then nobody needs a policy.
            drop(self.owner.ask(|reply| Event::SetPolicy { policy, reply }).await);
        }
        self.streams.resize(settings.limits);
        let scale = scaling::Event::Settings(Box::new(settings.scale.clone()));
        drop(self.owner.send(scale.into()).await);
        lb_tls::look(&self.tls);
    }
}

impl Server {
    /// Starts to listen.
    ///
    /// # Errors
    /// [`ServerError::Bind`], naming the address.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(settings: Settings) -> Result<Self, ServerError> {
        let listener = net::bind(&settings.listen)?;
        Self::new(settings, listener)
    }

    /// Takes over a socket that listens already, which must be the one that `settings` describe.
    ///
    /// # Errors
    /// [`ServerError::Bind`], naming both addresses.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn adopt(settings: Settings, socket: std::net::TcpListener) -> Result<Self, ServerError> {
        let listener = net::adopt(socket, &settings.listen)?;
        Self::new(settings, listener)
    }

    fn new(settings: Settings, listener: TcpListener) -> Result<Self, ServerError> {
        let address = listener.local_addr().map_err(ServerError::Listener)?;
        let xds_plain = settings.xds_plain.as_deref().map(net::bind).transpose()?;
        let id = new_id();
        let (owner, handle) = Owner::new(settings.policy, id.clone(), &settings.scale);
        let streams = Streams::new(settings.limits);
        Ok(Self { settings, listener, xds_plain, address, id, owner, handle, streams })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves xDS in plain text, if it does.
    pub fn xds_plain_address(&self) -> Option<SocketAddr> {
        self.xds_plain.as_ref()?.local_addr().ok()
    }

    /// Its id, new at each start.
    pub fn id(&self) -> &BalancerId {
        &self.id
    }

    /// What it listens with.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// For changes while it serves.
    pub fn control(&self) -> Control {
        let (owner, streams) = (self.handle.clone(), self.streams.clone());
        Control { owner, streams, tls: self.settings.tls.clone() }
    }

    /// Serves until `stop`, then ends every stream and leaves the network in order. `ready` is called once it
    /// listens and has been announced; `alive` some times a second, by the owner task.
    ///
    /// # Errors
    /// [`ServerError`] if it cannot be announced or served.
    pub async fn run(
        self,
        stop: CancellationToken,
        ready: impl FnOnce(),
        alive: impl FnMut() + Send + 'static,
    ) -> Result<(), ServerError> {
        let discovery = Discovery::new(self.settings.scope)?;
        let announcement = self.announcement();
        let (id, address) = (self.id.clone(), self.address);
        let (cluster, handle) = (self.settings.cluster.clone(), self.handle.clone());
        let tls = self.settings.tls.clone();
        if tls.is_open() && self.settings.scope == Scope::Lan {
            warn!(
                event = "open_mode",
                "mode open: anybody on the network can listen, register workers and give orders; certificates make it strict \
                 (lbctl pki, [tls] in lb-server.toml)"
            );
        }
        let _renewal = AbortOnDropHandle::new(tokio::spawn(lb_tls::follow(tls)));
        let serving = self.serve(alive, stop.clone())?;
        let advertisement = discovery.advertise(announcement).await?;
        let policy = handle.snapshot().policy;
        info!(
            event = "balancer_ready", balancer = %id, %address, %cluster, %policy,
            "balancer ready"
        );
        drop(handle);
        ready();
        stop.cancelled().await;
        leave(advertisement, serving).await?;
        discovery.shutdown().await;
        Ok(())
    }

    fn announcement(&self) -> Announcement {
        let unspecified = self.address.ip().is_unspecified();
        Announcement {
            role: Role::Balancer,
            id: self.id.to_string(),
            cluster: self.settings.cluster.to_string(),
            port: self.address.port(),
            addresses: if unspecified { vec![] } else { vec![self.address.ip()] },
            txt: vec![
                ("version".into(), env!("CARGO_PKG_VERSION").into()),
                (lb_tls::TXT_KEY.into(), self.settings.tls.mode().to_string()),
            ],
        }
    }

    fn serve(
        self,
        alive: impl FnMut() + Send + 'static,
        stop: CancellationToken,
    ) -> Result<JoinHandle<Result<(), transport::Error>>, ServerError> {
        let (owner, watchers) = (self.handle.clone(), self.streams.watchers.clone());
        let xds = Xds::new(owner, self.id.clone(), watchers, stop.clone());
        let routes = self.routes(&xds, &stop)?;
        if let Some(listener) = self.xds_plain {
            xds.serve_plain(listener);
        }
        tokio::spawn(self.owner.run(alive));
        let tls = self.settings.tls;
        let guard = Guard::new(tls.mode(), rights::AT_SERVER);
        let incoming = Incoming::new(self.listener, tls).bounded(self.streams.connections);
        let server = transport::Server::builder()
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(HEADER_LIST)
            .http2_max_pending_accept_reset_streams(Some(GIVEN_UP))
            .http2_max_local_error_reset_streams(Some(BROKEN))
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .layer(guard)
            .layer(Requests)
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
        Ok(tokio::spawn(server))
    }

    fn routes(&self, xds: &Xds, stop: &CancellationToken) -> Result<Routes, ServerError> {
        let (id, cluster) = (self.id.clone(), self.settings.cluster.clone());
        let (owner, streams) = (self.handle.clone(), self.streams.clone());
        let registration = Registration {
            owner: owner.clone(),
            balancer: id.clone(),
            cluster: cluster.clone(),
            local: self.settings.scope == Scope::Loopback,
            identified: self.settings.tls.mode() == Mode::Mtls,
            places: streams.registrations,
            arrivals: streams.arrivals,
            refused: Arc::default(),
            stop: stop.clone(),
        };
        let offering = Offering {
            owner: owner.clone(),
            balancer: id.clone(),
            cluster: cluster.clone(),
            identified: self.settings.tls.mode() == Mode::Mtls,
            places: streams.scalers,
            stop: stop.clone(),
        };
        let balancer = Balancer {
            owner: owner.clone(),
            id: id.clone(),
            sessions: streams.sessions,
            watchers: streams.watchers,
            stop: stop.clone(),
        };
        let administration = Administration {
            owner,
            balancer: id,
            cluster,
            watchers: streams.event_watchers,
            stop: stop.clone(),
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        tokio::spawn(async move {
            reporter.set_serving::<LoadBalancerServer<Balancer>>().await;
            reporter.set_serving::<RegistryServer<Registration>>().await;
            reporter.set_serving::<ScalingServer<Offering>>().await;
        });
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(lb_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(lb_xds::proto::FILE_DESCRIPTOR_SET)
        };
        let picking = LoadBalancerServer::new(balancer);
        let picking = TwoSizes {
            large_path: SESSION_PATH,
            large: picking.clone().max_decoding_message_size(SESSION_MESSAGE_LIMIT),
            small: picking.max_decoding_message_size(MESSAGE_LIMIT),
        };
        Ok(Routes::new(health)
            .add_service(RegistryServer::new(registration).max_decoding_message_size(MESSAGE_LIMIT))
            .add_service(picking)
            .add_service(ScalingServer::new(offering).max_decoding_message_size(MESSAGE_LIMIT))
            .add_service(AdminServer::new(administration).max_decoding_message_size(MESSAGE_LIMIT))
            .add_service(xds.discovery())
            .add_service(xds.reporting())
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?))
    }
}

/// Says goodbye on the network while open streams end.
async fn leave(
    advertisement: Advertisement,
    serving: JoinHandle<Result<(), transport::Error>>,
) -> Result<(), ServerError> {
    let abort = serving.abort_handle();
    let ((), served) = tokio::join!(advertisement.withdraw(), timeout(STOP_GRACE, serving));
    match served {
        Ok(Ok(outcome)) => outcome?,
        Ok(Err(panicked)) => warn!(error = %panicked, "the gRPC server did not end in order"),
        Err(_elapsed) => {
            warn!(
                seconds = STOP_GRACE.as_secs(),
                "some connections did not end in time and were cut"
            );
            abort.abort();
        }
    }
    Ok(())
}

/// A random id: what a balancer knew before a restart is gone, and tokens of its former life are not its own.
fn new_id() -> BalancerId {
    format!("b-{:08x}", fastrand::u32(..)).parse().expect("letters, digits and '-'")
}
