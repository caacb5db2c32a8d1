//! The handle to the multicast DNS thread of this process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mdns_sd::ServiceDaemon;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::debug;

use crate::{
    Advertisement, Announcement, Browse, DiscoveryError, Role, Scope, advertise, table::View,
    tracker,
};

/// How long the second copy of a goodbye needs: it leaves 120 ms after the first.
pub(crate) const GOODBYE_GRACE: Duration = Duration::from_millis(180);
/// How long the multicast DNS thread may take to answer a command before it is left behind.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// How often a command is offered again to the full queue of the multicast DNS thread (it holds
/// 100 commands and is emptied in well under a millisecond).
const OFFER_LIMIT: u32 = 20;
/// Pause between two offers.
const OFFER_PAUSE: Duration = Duration::from_millis(5);

/// Announces this process's services and finds those of others. Cheap to clone; the multicast DNS
/// thread behind it stops with the last clone, [`Browse`] and [`Advertisement`], or with
/// [`Discovery::shutdown`].
#[derive(Clone)]
pub struct Discovery {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) daemon: ServiceDaemon,
    pub(crate) scope: Scope,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Full names of the instances this process announces.
    pub(crate) announced: BTreeSet<String>,
    /// The published view of each role that was ever looked for.
    views: BTreeMap<Role, watch::Receiver<Arc<View>>>,
}

impl Discovery {
    /// Starts the multicast DNS thread. Nothing is sent before the first announcement or browse.
    ///
    /// # Errors
    /// When port 5353/udp cannot be opened, the loopback refuses the multicast group (in
    /// [`Scope::Loopback`]) or the thread cannot start.
    pub fn new(scope: Scope) -> Result<Self, DiscoveryError> {
        scope.check_socket()?;
        let daemon =
            ServiceDaemon::new().map_err(|error| DiscoveryError::daemon("start", error))?;
        let inner = Inner { daemon, scope, state: Mutex::default() };
        scope.apply(&inner.daemon)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Announces a service and resolves once the announcement was sent, about a second later:
    /// multicast DNS first asks three times whether the name is taken.
    ///
    /// # Errors
    /// [`DiscoveryError::InvalidAnnouncement`] before anything is sent;
    /// [`DiscoveryError::AlreadyAnnounced`] for a second announcement of the same role and id;
    /// [`DiscoveryError::NotAnnounced`] when no interface took it within 5 s.
    pub async fn advertise(
        &self,
        announcement: Announcement,
    ) -> Result<Advertisement, DiscoveryError> {
        advertise::advertise(self, &announcement).await
    }

    /// Looks for peers of `role` whose TXT record says `cluster`. Any number of browses may run at
    /// the same time.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn browse(&self, role: Role, cluster: &str) -> Browse {
        let views =
            self.inner.state().views.entry(role).or_insert_with(|| self.track(role)).clone();
        Browse::new(self.clone(), cluster, views)
    }

    /// Withdraws what is still announced, waits until the goodbyes are out and stops the thread.
    /// Every [`Browse`] falls silent.
    pub async fn shutdown(self) {
        let announced = std::mem::take(&mut self.inner.state().announced);
        for instance in &announced {
            self.unregister(instance).await;
        }
        if !announced.is_empty() {
            sleep(GOODBYE_GRACE).await;
        }
        match self.offer(ServiceDaemon::shutdown).await {
            Ok(answer) => drop(timeout(ANSWER_LIMIT, answer.recv_async()).await),
            Err(error) => debug!(%error, "multicast DNS had stopped already"),
        }
    }

    /// Sends the first goodbye of `instance`; the second leaves [`GOODBYE_GRACE`] later at most.
    pub(crate) async fn unregister(&self, instance: &str) {
        match self.offer(|daemon| daemon.unregister(instance)).await {
            Ok(answer) => drop(timeout(ANSWER_LIMIT, answer.recv_async()).await),
            Err(error) => debug!(instance, %error, "no goodbye"),
        }
    }

    /// Hands a command to the multicast DNS thread, again when its queue is full.
    pub(crate) async fn offer<T>(
        &self,
        command: impl Fn(&ServiceDaemon) -> mdns_sd::Result<T>,
    ) -> mdns_sd::Result<T> {
        for _ in 1..OFFER_LIMIT {
            match command(&self.inner.daemon) {
                Err(mdns_sd::Error::Again) => sleep(OFFER_PAUSE).await,
                settled => return settled,
            }
        }
        command(&self.inner.daemon)
    }

    fn track(&self, role: Role) -> watch::Receiver<Arc<View>> {
        let (publisher, views) = watch::channel(Arc::default());
        let Inner { daemon, scope, .. } = &*self.inner;
        // The task ends with the multicast DNS thread, which ends with `Inner`.
        tokio::spawn(tracker::track(daemon.clone(), role, *scope, publisher));
        views
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Discovery")
            .field("scope", &self.inner.scope)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// A panic while the lock is held cannot leave these sets half-changed.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Sends one goodbye for whatever is still announced. Failing means it has stopped already.
        drop(self.daemon.shutdown());
    }
}
