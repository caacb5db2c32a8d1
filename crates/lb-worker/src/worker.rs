//! The life of a worker: serve, announce, register, and in the end leave without failing a call.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::service::Routes;
use tracing::{info, warn};

use lb_core::id::{ClusterName, ServiceName, WorkerId};
use lb_discovery::{Advertisement, Discovery, DiscoveryError, Role, Scope};
use lb_link::Source;
use lb_proto::v1;
use lb_tls::Tls;

use crate::{
    builder::{BuildError, Builder},
    drain::drain,
    load::Load,
    orca::Reports,
    presence, probes,
    registration::{self, Registrar, board::Board},
    server::{GrpcServer, ServerError},
    state::StateCell,
    usage::{self, Usage},
};

/// Longest time a drain may take: a week. The clock can count it, and whoever asks for more means "for ever".
const LONGEST_DRAIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A server that is, or soon will be, a worker.
#[derive(Debug)]
pub struct Worker {
    profile: Profile,
    listener: TcpListener,
}

/// Everything about a worker that does not change.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) id: WorkerId,
    pub(crate) address: SocketAddr,
    pub(crate) settings: Settings,
    pub(crate) load: Load,
    pub(crate) ready: watch::Sender<bool>,
    drain_timeout: watch::Sender<Duration>,
}

/// Changes a worker while it serves.
#[derive(Debug, Clone)]
pub struct Control {
    load: Load,
    drain_timeout: watch::Sender<Duration>,
    tls: Tls,
}

impl Control {
    /// Puts slots, queue and drain timeout of `wanted` in force, and looks for new certificates; everything else needs a new worker. Balancers hear of it
    /// with the next report.
    ///
    /// # Errors
    /// The first setting that is not valid; then nothing has changed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn apply(&self, wanted: &Builder) -> Result<(), BuildError> {
        let settings = wanted.settings()?;
        let (slots, queue) = wanted.limits()?;
        self.load.resize(slots, queue);
        self.drain_timeout.send_replace(settings.drain_timeout);
        lb_tls::look(&self.tls);
        Ok(())
    }

    /// How long a stop may take before the calls that are left are cut.
    pub fn drain_timeout(&self) -> Duration {
        *self.drain_timeout.borrow()
    }
}

/// What the builder has found to be sound.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) cluster: ClusterName,
    pub(crate) services: Vec<ServiceName>,
    pub(crate) scope: Scope,
    pub(crate) zone: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) balancers: Vec<String>,
    pub(crate) descriptor_sets: Vec<&'static [u8]>,
    pub(crate) drain_timeout: Duration,
    pub(crate) version: String,
    pub(crate) tls: Tls,
}

/// Why a worker could not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A descriptor set cannot be read.
    #[error("cannot serve reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The worker cannot find balancers, or cannot be found.
    #[error("cannot use DNS-SD")]
    Discovery(#[from] DiscoveryError),
    /// The gRPC server ended.
    #[error("the gRPC server failed")]
    Server(#[from] ServerError),
}

impl Worker {
    /// Describes a worker that offers `service`, a full gRPC service name such as `greeter.Greeter`.
    pub fn builder(service: impl Into<String>) -> Builder {
        Builder::new(vec![service.into()])
    }

    pub(crate) fn new(
        id: WorkerId,
        settings: Settings,
        listener: TcpListener,
        address: SocketAddr,
        load: Load,
    ) -> Self {
        Self { profile: Profile::new(id, settings, address, load), listener }
    }

    /// Its identity.
    pub fn id(&self) -> &WorkerId {
        &self.profile.id
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.profile.address
    }

    /// For changes while it serves.
    pub fn control(&self) -> Control {
        self.profile.control()
    }

    /// Its counters, which live on after it has stopped.
    pub fn load(&self) -> &Load {
        &self.profile.load
    }

    /// Turns true when the worker serves and is announced, and false when it begins to stop.
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.profile.ready.subscribe()
    }

    /// Serves `routes`, together with health checks and reflection, until `shutdown`; then drains and
    /// returns.
    ///
    /// Must run in a tokio runtime. Dropping the future stops without a drain.
    ///
    /// # Errors
    /// See [`ServeError`]. Once it is ready, only the failure of the gRPC server itself is an error: a lost
    /// balancer is not.
    pub async fn serve(
        self,
        routes: Routes,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        let Self { profile, listener } = self;
        let registrar = Arc::new(profile.registrar());
        let routes = probes::add_reflection(routes, &profile.settings.descriptor_sets)?;
        let (routes, reporter) = probes::add_health(routes);
        let services = profile.settings.services.clone();
        let _health = spawn(probes::follow_state(reporter, services, registrar.state.clone()));
        let _sampler = spawn(usage::sample(registrar.usage.clone(), profile.load.clone()));
        let tls = profile.settings.tls.clone();
        if tls.is_open() && profile.settings.scope == Scope::Lan {
            warn!(
                event = "open_mode",
                "mode open: anybody on the network can call this worker and listen to it; certificates make it strict \
                 (lbctl pki, [tls] in lb-worker.toml)"
            );
        }
        let _renewal = spawn(lb_tls::follow(tls.clone()));
        let reports = Reports::new(profile.load.clone(), registrar.usage.subscribe());
        let mut server = GrpcServer::start(listener, routes, profile.load.clone(), reports, tls);
        let discovery = profile.discovery()?;
        let source = profile.source(discovery.as_ref());
        let registrations = spawn(registration::follow(Arc::clone(&registrar), source));

        let life = profile.live(discovery.as_ref(), &shutdown);
        let advertisement = tokio::select! {
            advertisement = life => advertisement?,
            error = server.failure() => return Err(error.into()),
        };
        let leaving = profile.leave(&registrar, registrations, advertisement).await;
        let cut = server.stop(leaving.deadline).await;
        if cut > 0 {
            let drain_timeout = *profile.drain_timeout.borrow();
            warn!(
                event = "calls_cut",
                calls = cut,
                ?drain_timeout,
                "the time to drain is over, calls were cut"
            );
        }
        leaving.end(&profile.id, discovery).await;
        Ok(())
    }
}

impl Profile {
    pub(crate) fn new(id: WorkerId, settings: Settings, address: SocketAddr, load: Load) -> Self {
        let drain_timeout = watch::Sender::new(settings.drain_timeout);
        let ready = watch::Sender::new(false);
        Self { id, address, settings, load, ready, drain_timeout }
    }

    pub(crate) fn control(&self) -> Control {
        let Self { load, drain_timeout, settings, .. } = self;
        let (load, drain_timeout) = (load.clone(), drain_timeout.clone());
        Control { load, drain_timeout, tls: settings.tls.clone() }
    }

    pub(crate) fn registrar(&self) -> Registrar {
        let settings = &self.settings;
        let hello = v1::Hello {
            worker_id: self.id.to_string(),
            instance: fastrand::u64(..),
            cluster: settings.cluster.to_string(),
            address: presence::reachable_at(self.address),
            services: settings.services.iter().map(ToString::to_string).collect(),
            slots: self.load.slots().into(),
            zone: settings.zone.clone(),
            labels: settings.labels.clone(),
            version: settings.version.clone(),
        };
        Registrar {
            hello,
            source: presence::explicit_ip(self.address),
            tls: settings.tls.clone(),
            load: self.load.clone(),
            usage: watch::Sender::new(Usage::default()),
            state: StateCell::new(),
            board: Board::new(),
            leave: CancellationToken::new(),
        }
    }

    /// None when all balancers are given by hand.
    pub(crate) fn discovery(&self) -> Result<Option<Discovery>, DiscoveryError> {
        let by_hand = !self.settings.balancers.is_empty();
        if by_hand { Ok(None) } else { Discovery::new(self.settings.scope).map(Some) }
    }

    pub(crate) fn source(&self, discovery: Option<&Discovery>) -> Source {
        let cluster = self.settings.cluster.as_str();
        match discovery {
            Some(discovery) => Source::Browse(discovery.browse(Role::Balancer, cluster)),
            None => Source::Static(self.settings.balancers.clone()),
        }
    }

    /// Announces the worker, says that it is ready, and waits until it shall stop.
    pub(crate) async fn live(
        &self,
        discovery: Option<&Discovery>,
        shutdown: &CancellationToken,
    ) -> Result<Option<Advertisement>, DiscoveryError> {
        let announced = async {
            let Some(discovery) = discovery else { return Ok(None) };
            let announcing = presence::announce(discovery, &self.id, &self.settings, self.address);
            announcing.await.map(Some)
        };
        let advertisement = tokio::select! {
            announced = announced => announced?,
            () = shutdown.cancelled() => return Ok(None),
        };
        info!(
            event = "worker_ready", worker = %self.id, address = %self.address, slots = self.load.slots(),
            queue = self.load.queue(), "ready"
        );
        self.ready.send_replace(true);
        shutdown.cancelled().await;
        Ok(advertisement)
    }

    /// Drains and says goodbye.
    pub(crate) async fn leave(
        &self,
        registrar: &Registrar,
        registrations: AbortOnDropHandle<()>,
        advertisement: Option<Advertisement>,
    ) -> Leaving {
        self.ready.send_replace(false);
        // Beside the draining: nobody should find a worker that leaves.
        let withdrawing = advertisement.map(|advertisement| spawn(advertisement.withdraw()));
        let drain_timeout = *self.drain_timeout.borrow();
        let deadline = Instant::now() + drain_timeout.min(LONGEST_DRAIN);
        drain(registrar, deadline).await;
        registrar.leave.cancel();
        let _ = registrations.await;
        Leaving { deadline, withdrawing }
    }
}

/// A worker that balancers know no more.
pub(crate) struct Leaving {
    /// When all must have ended.
    deadline: Instant,
    withdrawing: Option<AbortOnDropHandle<()>>,
}

impl Leaving {
    /// The last steps, when no call is left.
    pub(crate) async fn end(self, id: &WorkerId, discovery: Option<Discovery>) {
        if let Some(withdrawing) = self.withdrawing {
            let _ = withdrawing.await;
        }
        if let Some(discovery) = discovery {
            discovery.shutdown().await;
        }
        info!(event = "stopped", worker = %id, "stopped");
    }
}

pub(crate) fn spawn<F>(task: F) -> AbortOnDropHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(task))
}
