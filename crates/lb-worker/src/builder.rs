//! What can be said about a worker before it starts; everything has a default except the service.

use std::{
    collections::BTreeMap, num::NonZeroUsize, str::FromStr, thread::available_parallelism,
    time::Duration,
};

use tokio::time::Instant;

use lb_core::id::{ClusterName, NameError, ServiceName, WorkerId};
use lb_discovery::Scope;
use lb_tls::{Identity, Tls};

use crate::{
    attach::{AttachError, Attached, Health, Target},
    identity,
    listen::{self, ListenError},
    load::Load,
    worker::{Profile, Settings, Worker},
};

/// Calls that may wait, per slot: with short calls a queue hides the time a pick is on its way; with a longer one
/// callers wait where another worker would be free.
const QUEUE_PER_SLOT: u32 = 4;
/// And at least this many, so that a small worker can take a burst.
const QUEUE_LEAST: u32 = 16;
/// The most calls that may wait: each holds a request in memory.
const QUEUE_LIMIT: u32 = 100_000;
/// How long a stop may take. The service manager must wait a little longer before it kills.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(90);
/// The cluster of everybody who did not name one.
const CLUSTER: &str = "default";

/// Most services, as the protocol allows.
const SERVICES_LIMIT: usize = 32;
/// Most labels, as the protocol allows.
const LABELS_LIMIT: usize = 32;
/// Longest label key, label value and zone, in characters, as the protocol allows.
const LABEL_LENGTH_LIMIT: usize = 63;

/// A worker that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An id, cluster or service name is not valid.
    #[error("{source}")]
    Name {
        /// The setting.
        field: &'static str,
        /// What is wrong with it.
        source: NameError,
    },
    /// A number is out of range.
    #[error("{field} is {found}: expected {least} to {most}")]
    Range {
        /// The setting.
        field: &'static str,
        /// What it was.
        found: u64,
        /// The least allowed.
        least: u64,
        /// The most allowed.
        most: u64,
    },
    /// A text is too long.
    #[error("{field} {found:?} is not valid: expected {least} to {LABEL_LENGTH_LIMIT} characters")]
    Text {
        /// The setting.
        field: &'static str,
        /// What it was.
        found: String,
        /// The least length.
        least: usize,
    },
    /// A balancer's address cannot be dialled.
    #[error("balancer address {0:?} is not valid: expected \"host:port\"")]
    Balancer(String),
    /// The certificate is that of another worker.
    #[error(
        "id is {id}, but the certificate is that of {certificate}{}: leave the id out, or make it the same",
        certificate.with_instances()
    )]
    OtherId {
        /// The one that was set.
        id: WorkerId,
        /// Whose certificate it is.
        certificate: Box<Identity>,
    },
    /// The certificate is of another cluster.
    #[error("cluster is {cluster}, but the certificate is that of {certificate}")]
    OtherCluster {
        /// The one that was set.
        cluster: ClusterName,
        /// Whose certificate it is.
        certificate: Box<Identity>,
    },
    /// The certificate does not give a service that is to be offered.
    #[error(
        "service {service} is not in the certificate of {certificate}: issue it with that service, or leave the service out"
    )]
    NotCertified {
        /// The service.
        service: ServiceName,
        /// Whose certificate it is.
        certificate: Box<Identity>,
    },
    /// There is nothing to listen on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// There is nothing to stand beside.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

impl BuildError {
    /// The setting at fault, as [`Builder`] calls it, in the plural where there may be several.
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Range { field: "number of services", .. } | Self::NotCertified { .. } => {
                "services"
            }
            Self::Range { field: "number of labels", .. }
            | Self::Text { field: "label key" | "label value", .. } => "labels",
            Self::Name { field, .. } | Self::Range { field, .. } | Self::Text { field, .. } => {
                field
            }
            Self::Balancer(_) => "balancers",
            Self::OtherId { .. } => "id",
            Self::OtherCluster { .. } => "cluster",
            Self::Listen(_) => "listen",
            Self::Attach(_) => "attach",
        }
    }
}

/// Describes a worker. Mistakes are reported by [`Builder::build`], all in one place.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    services: Vec<String>,
    id: Option<String>,
    cluster: String,
    listen: String,
    scope: Scope,
    slots: Option<u32>,
    queue: Option<u32>,
    zone: String,
    labels: BTreeMap<String, String>,
    balancers: Vec<String>,
    descriptor_sets: Vec<&'static [u8]>,
    drain_timeout: Duration,
    version: String,
    tls: Tls,
}

impl Builder {
    pub(crate) fn new(services: Vec<String>) -> Self {
        Self {
            services,
            id: None,
            cluster: CLUSTER.to_owned(),
            listen: ":0".to_owned(),
            scope: Scope::Lan,
            slots: None,
            queue: None,
            zone: String::new(),
            labels: BTreeMap::new(),
            balancers: Vec::new(),
            descriptor_sets: Vec::new(),
            drain_timeout: DRAIN_TIMEOUT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tls: Tls::open(),
        }
    }

    /// One more service that this server offers, by its full gRPC name. At most 32 in all.
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.services.push(name.into());
        self
    }

    /// Stable identity, 1 to 63 characters of a-z, 0-9 and '-'. By default it is that of the certificate; without one it is kept in systemd's state directory, or else
    /// made of the host's name and the port.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The cluster to belong to; by default `default`.
    pub fn cluster(mut self, name: impl Into<String>) -> Self {
        self.cluster = name.into();
        self
    }

    /// Where to listen: `host:port`, or `:port` for every address (in [`Scope::Loopback`]: for 127.0.0.1).
    /// Port 0, the default, takes a free one.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// Whether to serve the network (the default) or this machine alone, multicast included.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// How many calls run at once, 1 to 65535; by default one per core.
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = Some(slots);
        self
    }

    /// How many more calls may wait for a slot, 0 to 100000; by default four per slot, and at least 16.
    pub fn queue(mut self, queue: u32) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Failure domain or site, at most 63 characters.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// One more property that a pick can require. At most 32, key and value of at most 63 characters.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Balancers by hand, each as `host:port`. With any of them DNS-SD is not used at all, neither to find nor to announce.
    pub fn balancers<T: Into<String>>(mut self, addresses: impl IntoIterator<Item = T>) -> Self {
        self.balancers.extend(addresses.into_iter().map(Into::into));
        self
    }

    /// Serves reflection over this encoded `FileDescriptorSet`.
    pub fn reflection(mut self, file_descriptor_set: &'static [u8]) -> Self {
        self.descriptor_sets.push(file_descriptor_set);
        self
    }

    /// How long a stop may take before the calls that are left are cut; by default 90 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Version of the worker's software, shown to people; by default this library's.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// How to speak with balancers and clients; by default openly. See [`Tls::of_worker`].
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Checks everything without listening.
    ///
    /// # Errors
    /// The first setting that is not valid.
    pub fn check(&self) -> Result<(), BuildError> {
        self.settings().map(drop)
    }

    /// Checks everything, and listens: from now on the port is this worker's.
    ///
    /// # Errors
    /// The first setting that is not valid, or why nothing can listen.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn build(self) -> Result<Worker, BuildError> {
        let settings = self.settings()?;
        let (listener, address) = listen::listen(&self.listen, self.scope)?;
        let id = self.own_id(address.port())?;
        let (slots, queue) = self.limits()?;
        let load = Load::new(slots, queue, Instant::now());
        Ok(Worker::new(id, settings, listener, address, load))
    }

    /// Checks everything, for a worker that stands beside a service which runs by itself at `address`: `ip:port` of this machine, or
    /// `:port`. Where to listen and the queue do not matter then.
    ///
    /// # Errors
    /// The first setting that is not valid.
    pub fn attach(self, address: &str, health: Health) -> Result<Attached, BuildError> {
        let settings = self.settings()?;
        let target = Target::of(address, self.scope)?;
        target.check_is_here()?;
        let id = self.own_id(target.told().port())?;
        let (slots, _) = self.limits()?;
        let load = Load::measured(slots, Instant::now());
        Ok(Attached::new(Profile::new(id, settings, target.told(), load), target, health))
    }

    fn own_id(&self, port: u16) -> Result<WorkerId, BuildError> {
        Ok(match (&self.id, self.tls.identity()) {
            (Some(id), _) => parse("id", id)?,
            (None, Some(certificate)) => certificate.name.clone(),
            (None, None) => identity::default_id(port),
        })
    }

    pub(crate) fn settings(&self) -> Result<Settings, BuildError> {
        let id = self.id.as_ref().map(|id| parse::<WorkerId>("id", id)).transpose()?;
        let cluster: ClusterName = parse("cluster", &self.cluster)?;
        let services: Result<Vec<ServiceName>, _> =
            self.services.iter().map(|name| parse("services", name)).collect();
        let mut services = services?;
        services.sort();
        services.dedup();
        if let Some(certificate) = self.tls.identity() {
            agree(id, &cluster, &services, &certificate)?;
        }
        in_range("number of services", services.len() as u64, 1, SERVICES_LIMIT as u64)?;
        in_range("number of labels", self.labels.len() as u64, 0, LABELS_LIMIT as u64)?;
        for (key, value) in &self.labels {
            short("label key", key, 1)?;
            short("label value", value, 0)?;
        }
        short("zone", &self.zone, 0)?;
        short("version", &self.version, 0)?;
        self.limits()?;
        listen::check(&self.listen, self.scope).map_err(ListenError::Bind)?;
        for address in &self.balancers {
            if !lb_link::check_address(address) {
                return Err(BuildError::Balancer(address.chars().take(80).collect()));
            }
        }
        Ok(Settings {
            cluster,
            services,
            scope: self.scope,
            zone: self.zone.clone(),
            labels: self.labels.clone(),
            balancers: self.balancers.clone(),
            descriptor_sets: self.descriptor_sets.clone(),
            drain_timeout: self.drain_timeout,
            version: self.version.clone(),
            tls: self.tls.clone(),
        })
    }

    /// Slots and queue.
    pub(crate) fn limits(&self) -> Result<(u16, u32), BuildError> {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        let slots = self.slots.unwrap_or_else(|| u32::try_from(cores).unwrap_or(u32::MAX));
        in_range("slots", slots.into(), 1, u16::MAX.into())?;
        let queue =
            self.queue.unwrap_or_else(|| (QUEUE_PER_SLOT * slots).clamp(QUEUE_LEAST, QUEUE_LIMIT));
        in_range("queue", queue.into(), 0, QUEUE_LIMIT.into())?;
        Ok((u16::try_from(slots).expect("in range"), queue))
    }
}

fn parse<T: FromStr<Err = NameError>>(field: &'static str, text: &str) -> Result<T, BuildError> {
    text.parse().map_err(|source| BuildError::Name { field, source })
}

/// A worker that says something else than its certificate would be refused everywhere.
fn agree(
    id: Option<WorkerId>,
    cluster: &ClusterName,
    services: &[ServiceName],
    certificate: &Identity,
) -> Result<(), BuildError> {
    let boxed = || Box::new(certificate.clone());
    if let Some(id) = id.filter(|id| !certificate.is_worker(id)) {
        return Err(BuildError::OtherId { id, certificate: boxed() });
    }
    if *cluster != certificate.cluster {
        let cluster = cluster.clone();
        return Err(BuildError::OtherCluster { cluster, certificate: boxed() });
    }
    match services.iter().find(|service| !certificate.services.contains(service)) {
        None => Ok(()),
        Some(service) => {
            let service = service.clone();
            Err(BuildError::NotCertified { service, certificate: boxed() })
        }
    }
}

fn in_range(field: &'static str, found: u64, least: u64, most: u64) -> Result<(), BuildError> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(BuildError::Range { field, found, least, most })
    }
}

fn short(field: &'static str, text: &str, least: usize) -> Result<(), BuildError> {
    if (least..=LABEL_LENGTH_LIMIT).contains(&text.chars().count()) {
        return Ok(());
    }
    Err(BuildError::Text { field, found: text.chars().take(80).collect(), least })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> Builder {
        Builder::new(vec!["a.B".to_owned()]).scope(Scope::Loopback)
    }

    #[tokio::test]
    async fn defaults_are_enough() {
        let worker = builder().slots(2).build().unwrap();
        assert!(worker.address().ip().is_loopback());
        assert!(worker.id().as_str().ends_with(&format!("-{}", worker.address().port())));
        assert_eq!((worker.load().slots(), worker.load().queue()), (2, 16));
        assert_eq!(builder().slots(8).build().unwrap().load().queue(), 32);
    }

    #[tokio::test]
    async fn each_mistake_is_named() {
        let mistake = |builder: Builder| builder.build().unwrap_err().to_string();
        assert!(mistake(builder().service("a b")).starts_with("service name \"a b\" is not valid"));
        assert!(mistake(builder().id("A")).starts_with("worker id \"A\" is not valid"));
        assert!(mistake(builder().cluster("")).starts_with("cluster name \"\" is not valid"));
        assert_eq!(mistake(builder().slots(0)), "slots is 0: expected 1 to 65535");
        assert_eq!(mistake(builder().slots(65_536)), "slots is 65536: expected 1 to 65535");
        assert_eq!(mistake(builder().queue(100_001)), "queue is 100001: expected 0 to 100000");
        assert!(mistake(builder().zone("z".repeat(64))).ends_with("expected 0 to 63 characters"));
        assert!(mistake(builder().label("", "x")).starts_with("label key \"\" is not valid"));
        assert!(
            mistake(builder().balancers(["box"]))
                .starts_with("balancer address \"box\" is not valid")
        );
        assert!(mistake(builder().listen("nowhere")).starts_with("cannot listen on"));
        let many = (0..33).fold(builder(), |builder, n| builder.label(format!("k{n}"), "v"));
        assert_eq!(mistake(many), "number of labels is 33: expected 0 to 32");
        let many = (0..33).fold(builder(), |builder, n| builder.service(format!("a.S{n}")));
        assert_eq!(mistake(many), "number of services is 34: expected 1 to 32");
    }

    #[test]
    fn a_service_named_twice_is_one() {
        assert!(builder().service("a.B").check().is_ok());
    }
}
