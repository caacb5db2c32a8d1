//! Describing a channel, and opening it.

use std::{collections::BTreeMap, time::Duration};

use lb_discovery::Scope;
use tokio::time::timeout;

use crate::{
    balanced::{Balanced, Shared},
    search::{ConnectError, Search},
    state::{State, Wanted},
};

/// Most labels a worker can be asked for: the contract's limit.
const LABELS: usize = 32;

/// A channel about to be opened. Every setting has a default.
#[derive(Debug, Clone)]
pub struct Builder {
    service: String,
    search: Search,
    labels: BTreeMap<String, String>,
}

impl Builder {
    pub(crate) fn new(service: String) -> Self {
        Self { service, search: Search::default(), labels: BTreeMap::new() }
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

    /// Labels that a worker must have. At most 32.
    #[must_use]
    pub fn labels(
        mut self,
        labels: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        self.labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self
    }

    /// Opens the channel: resolves when a balancer has opened a session.
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
        if self.labels.len() > LABELS {
            return Err(ConnectError::Labels { found: self.labels.len(), limit: LABELS });
        }
        let found = self.search.start()?;
        let wanted = Wanted { service, labels: self.labels, wait: self.search.wait };
        Ok(Shared::start(State::new(wanted), found))
    }
}
