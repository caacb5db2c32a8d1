//! A worker that stands beside a service which runs by itself, in any language: it registers the service with every balancer, looks
//! after its health, and takes it out of rotation before it stops.
//!
//! Calls do not pass through here, so they cannot be counted. What is reported:
//! - whether the service is well, asked once a second (`health`); while it is not, it is out of rotation;
//! - how many calls are inside, if the service says so by ORCA (`load`), else none. Balancers know that no call is counted
//!   (`LoadReport.measured`) and add what they have sent themselves;
//! - CPU and memory of the machine.
//!
//! On a stop the balancers stop picking the service first. Then what was picked arrives, which takes one lease of a token at most, and if
//! the service says how many calls it has, they end. The service itself is left alone.

mod health;
mod load;
mod target;

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use lb_core::id::WorkerId;
use lb_tls::{Connector, Expected, Tls};

use self::health::Checker;
pub(crate) use self::target::Target;
pub use self::{health::Health, target::AttachError};
use crate::{
    load::Load,
    registration, usage,
    worker::{Control, Profile, ServeError, spawn},
};

/// A service that runs by itself, and will be a worker.
#[derive(Debug)]
pub struct Attached {
    profile: Profile,
    target: Target,
    health: Health,
    /// Awakes with each answer to a question after the health, whatever it was.
    looked: watch::Sender<()>,
}

impl Attached {
    pub(crate) fn new(profile: Profile, target: Target, health: Health) -> Self {
        Self { profile, target, health, looked: watch::Sender::new(()) }
    }

    /// Its identity.
    pub fn id(&self) -> &WorkerId {
        &self.profile.id
    }

    /// Where the service is.
    pub fn address(&self) -> SocketAddr {
        self.target.dialled()
    }

    /// For changes while it is a worker.
    pub fn control(&self) -> Control {
        self.profile.control()
    }

    /// What the service says of its load.
    pub fn load(&self) -> &Load {
        &self.profile.load
    }

    /// Turns true when the worker is announced, and false when it begins to stop.
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.profile.ready.subscribe()
    }

    /// Awakes whenever it has been found out whether the service is well: a sign of life of the worker itself.
    pub fn looks(&self) -> watch::Receiver<()> {
        self.looked.subscribe()
    }

    /// Keeps the service registered until `shutdown`, drains and returns.
    ///
    /// Must run in a tokio runtime. Dropping the future stops without a drain.
    ///
    /// # Errors
    /// See [`ServeError`]. A service that is not there is no error: it may come.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self { profile, target, health, looked } = self;
        let registrar = Arc::new(profile.registrar());
        // Not offered before it is known to be well.
        registrar.state.set_well(false);
        let tls = profile.settings.tls.clone();
        let channel = channel(target.dialled(), &profile.id, tls.clone());
        let services = profile.settings.services.clone();
        let checker = Checker::new(health, target, channel.clone(), services);
        let _health = spawn(health::follow(checker, registrar.state.clone(), looked));
        let _load = spawn(load::follow(channel, profile.load.clone()));
        let _sampler = spawn(usage::sample(registrar.usage.clone(), profile.load.clone()));
        let _renewal = spawn(lb_tls::follow(tls));
        let discovery = profile.discovery()?;
        let source = profile.source(discovery.as_ref());
        let registrations = spawn(registration::follow(Arc::clone(&registrar), source));
        let advertisement = profile.live(discovery.as_ref(), &shutdown).await?;
        let leaving = profile.leave(&registrar, registrations, advertisement).await;
        leaving.end(&profile.id, discovery).await;
        Ok(())
    }
}

/// To the service, which has the worker's own certificate where there are certificates.
fn channel(address: SocketAddr, id: &WorkerId, tls: Tls) -> Channel {
    let connector = Connector::new(tls, Expected::Worker(id.clone()), None);
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.expect("an address makes a URI");
    endpoint.connect_timeout(health::TIMEOUT).connect_with_connector_lazy(connector)
}
