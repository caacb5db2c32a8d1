//! Describing a channel, and opening it.

use std::{collections::BTreeMap, time::Duration};

use lb_discovery::Scope;
use lb_tls::Tls;
use tokio::time::timeout;

use crate::{
    balanced::{Balanced, Shared},
    pick::Source,
    search::{ConnectError, Search},
    state::{State, Wanted},
};

/// A channel about to be opened. Every setting has a default.
#[derive(Debug, Clone)]
pub struct Builder {
    service: String,
    search: Search,
    labels: BTreeMap<String, String>,
    picks: Source,
}

impl Builder {
    pub(crate) fn new(service: String) -> Self {
        Self { service, search: Search::default(), labels: BTreeMap::new(), picks: Source::Session }
    }

    /// How to find balancers, all at once.
    #[must_use]
    pub fn search(mut self, search: Search) -> Self {
        self.search = search;
        self
    }

    /// The cluster to look in. Default: `default`.
    #[must_use]
    pub fn cluster(mut self, cluster: impl Into<String>) -> Self {
        self.search.cluster = cluster.into();
        self
    }

    /// How far DNS-SD looks. Default: the local network.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.search.scope = scope;
        self
    }

    /// Addresses of balancers, `host:port`, instead of DNS-SD.
    #[must_use]
    pub fn balancers(mut self, addresses: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.search.balancers = addresses.into_iter().map(Into::into).collect();
        self
    }

    /// How long to look for a balancer: when connecting, and later when a call finds neither a
    /// balancer nor a list of workers. Default: 3 s.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.search.wait = wait;
        self
    }

    /// How to speak with balancers and workers, see [`Tls::of_client`]. Default: openly.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.search.tls = tls;
        self
    }

    /// Labels that a worker must have. At most 32.
    #[must_use]
    pub fn labels(
        mut self,
        labels: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        self.labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self
    }

    /// Who chooses the worker of a call, as long as it can. Default: [`Source::Session`].
    ///
    /// With [`Source::Local`] a call costs no message to the balancer and does not wait for one. This
    /// client then knows the capacity of each worker and its own calls, but not those of others:
    /// good for one client with many calls, worse the more clients share the workers. Calls with an
    /// affinity key, and all calls of a channel with labels, are chosen by the balancer either way,
    /// since the list says nothing about them.
    #[must_use]
    pub fn picks(mut self, source: Source) -> Self {
        self.picks = source;
        self
    }

    /// Opens the channel: resolves when a balancer has opened a session, and has sent its list if
    /// that is to be picked from.
    ///
    /// # Errors
    /// See [`ConnectError`]; [`ConnectError::NoBalancer`] when none has within the wait.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(self) -> Result<Balanced, ConnectError> {
        let search = self.search.clone();
        let shared = self.start()?;
        match timeout(search.wait, shared.state.opened()).await {
            Ok(()) => Ok(Balanced::new(shared)),
            Err(_) => Err(search.no_balancer(shared.state.trouble())),
        }
    }

    /// Opens the channel without waiting for a balancer; calls wait instead.
    ///
    /// # Errors
    /// Every [`ConnectError`] but [`ConnectError::NoBalancer`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect_lazy(self) -> Result<Balanced, ConnectError> {
        self.start().map(Balanced::new)
    }

    fn start(self) -> Result<std::sync::Arc<Shared>, ConnectError> {
        let service = self.service.parse()?;
        let labels = lb_proto::parse::labels("labels", self.labels)?;
        let found = self.search.start()?;
        let local = self.picks == Source::Local && labels.is_empty();
        let Search { wait, tls, .. } = self.search;
        let wanted = Wanted { service, labels, local, wait, tls };
        Ok(Shared::start(State::new(wanted), found))
    }
}
