//! What a certificate says about its holder.
//!
//! Exactly one of its subject alternative names is a URI `lb://CLUSTER/ROLE/NAME`; a worker's has one more,
//! `lb://CLUSTER/service/SERVICE`, for each gRPC service that it may offer, and, if several workers of its machine share it,
//! `lb://CLUSTER/instances/N`: it is then good for the workers `NAME-1` to `NAME-N` as well. A URI is what every tool that makes certificates can
//! write as it stands (RFC 5280, 4.2.1.6), and none takes it for the name of a machine. URIs of other schemes are
//! left alone.

use std::fmt;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use lb_core::id::{ClusterName, NameError, ServiceName, WorkerId};

/// What all our URIs begin with.
const SCHEME: &str = "lb://";
/// Stands in the place of a role before the name of a service.
const SERVICE: &str = "service";
/// Stands in the place of a role before a number of instances.
const INSTANCES: &str = "instances";
/// Most instances that a certificate may be good for: as many as a scaler may run on its host.
pub const INSTANCES_LIMIT: u32 = 1024;

/// What somebody is to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A balancer.
    Server,
    /// A worker.
    Worker,
    /// Who starts and stops workers on a host.
    Scaler,
    /// Who calls workers.
    Client,
    /// Who operates the cluster; may do what a client may.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Server, Self::Worker, Self::Scaler, Self::Client, Self::Admin];

    /// As it stands in the URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Worker => "worker",
            Self::Scaler => "scaler",
            Self::Client => "client",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that it belongs to.
    pub cluster: ClusterName,
    /// What it is there.
    pub role: Role,
    /// Its name; of a worker and of a scaler, its id.
    pub name: WorkerId,
    /// The services that it may offer; empty for everybody but workers.
    pub services: Vec<ServiceName>,
    /// How many further workers of its machine share it, up to [`INSTANCES_LIMIT`]: those with "-1", "-2" … behind the name. 0 for
    /// everybody but workers.
    pub instances: u32,
}

/// Why a certificate names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    /// No certificate at all.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// Somebody else's certificate.
    #[error(
        "the certificate names nobody: expected a subject alternative name such as URI:lb://CLUSTER/worker/ID"
    )]
    Nobody,
    /// Two names, of which only one can be meant.
    #[error("the certificate names both {0} and {1}: expected one of them")]
    Several(String, String),
    /// A URI of ours that is none.
    #[error(
        "the certificate's name {0:?} is not valid: expected lb://CLUSTER/ROLE/NAME, where ROLE is server, \
         worker, scaler, client, admin, service or instances"
    )]
    Malformed(String),
    /// A part of it is no name.
    #[error("in the certificate's name {uri:?}: {source}")]
    Name {
        /// The whole URI.
        uri: String,
        /// Which part, and why.
        source: NameError,
    },
    /// Something of another cluster, within one certificate.
    #[error("the certificate's name {0:?} is of another cluster than the rest of it")]
    Clusters(String),
    /// A right that only a worker can have.
    #[error("the certificate of a {0} names services or instances: only that of a worker may")]
    Services(Role),
    /// A number of instances that is none, or a second one.
    #[error(
        "the certificate's name {0:?} is not valid: expected lb://CLUSTER/instances/N once, with N from 1 to {limit}",
        limit = INSTANCES_LIMIT
    )]
    Instances(String),
}

/// Longest part of a foreign name that an error repeats, in characters.
const QUOTE_LIMIT: usize = 120;

fn quote(text: &str) -> String {
    text.chars().take(QUOTE_LIMIT).collect()
}

/// One URI of ours.
enum Name {
    Holder(Identity),
    Service(ClusterName, ServiceName),
    Instances(ClusterName, u32),
}

impl Name {
    fn parse(uri: &str) -> Result<Self, NoIdentity> {
        let malformed = || NoIdentity::Malformed(quote(uri));
        let unsound = |source| NoIdentity::Name { uri: quote(uri), source };
        let path = uri.strip_prefix(SCHEME).ok_or_else(malformed)?;
        let mut parts = path.splitn(3, '/');
        let mut part = || parts.next().ok_or_else(malformed);
        let (cluster, kind, name) = (part()?, part()?, part()?);
        let cluster = cluster.parse().map_err(unsound)?;
        if kind == SERVICE {
            return Ok(Self::Service(cluster, name.parse().map_err(unsound)?));
        }
        if kind == INSTANCES {
            let count = number(name).filter(|count| *count <= INSTANCES_LIMIT);
            let count = count.ok_or_else(|| NoIdentity::Instances(quote(uri)))?;
            return Ok(Self::Instances(cluster, count));
        }
        let role = Role::ALL.into_iter().find(|role| role.as_str() == kind);
        let role = role.ok_or_else(malformed)?;
        let name = name.parse().map_err(unsound)?;
        Ok(Self::Holder(Identity { cluster, role, name, services: Vec::new(), instances: 0 }))
    }
}

/// From 1 on, written in one way only: neither "07" nor "+7".
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| *number > 0 && number.to_string() == text)
}

impl Identity {
    /// Reads it out of a certificate. Whether the certificate is genuine is not looked at.
    ///
    /// # Errors
    /// See [`NoIdentity`].
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, NoIdentity> {
        let certificate =
            EndEntityCert::try_from(certificate).map_err(|_| NoIdentity::Unreadable)?;
        Self::parse(certificate.valid_uri_names())
    }

    fn parse<'a>(uris: impl Iterator<Item = &'a str>) -> Result<Self, NoIdentity> {
        let mut holder: Option<Self> = None;
        let (mut services, mut instances) = (Vec::new(), 0);
        // What else it says, and of which cluster.
        let mut beside = Vec::new();
        for uri in uris.filter(|uri| uri.starts_with(SCHEME)) {
            match (Name::parse(uri)?, &holder) {
                (Name::Service(cluster, service), _) => {
                    beside.push((cluster, uri));
                    services.push(service);
                }
                (Name::Instances(..), _) if instances > 0 => {
                    return Err(NoIdentity::Instances(quote(uri)));
                }
                (Name::Instances(cluster, count), _) => {
                    beside.push((cluster, uri));
                    instances = count;
                }
                (Name::Holder(found), None) => holder = Some(found),
                (Name::Holder(found), Some(first)) => {
                    return Err(NoIdentity::Several(first.to_string(), found.to_string()));
                }
            }
        }
        let holder = holder.ok_or(NoIdentity::Nobody)?;
        if let Some((_, uri)) = beside.iter().find(|(cluster, _)| *cluster != holder.cluster) {
            return Err(NoIdentity::Clusters(quote(uri)));
        }
        if holder.role != Role::Worker && !beside.is_empty() {
            return Err(NoIdentity::Services(holder.role));
        }
        Ok(Self { services, instances, ..holder })
    }

    /// For whom else it is good, in words that follow the name.
    pub fn with_instances(&self) -> String {
        match self.instances {
            0 => String::new(),
            count => format!(" and its instances 1 to {count}"),
        }
    }

    /// Whether this is the certificate of that worker: by its own name, or as one of the instances that share it.
    pub fn is_worker(&self, id: &WorkerId) -> bool {
        let instance = || {
            let behind = id.as_str().strip_prefix(self.name.as_str())?.strip_prefix('-')?;
            number(behind).filter(|number| *number <= self.instances)
        };
        self.role == Role::Worker && (self.name == *id || instance().is_some())
    }

    /// The URIs that say this, the identity first.
    pub fn uris(&self) -> Vec<String> {
        let service = |name| format!("{SCHEME}{}/{SERVICE}/{name}", self.cluster);
        let instances = (self.instances > 0)
            .then(|| format!("{SCHEME}{}/{INSTANCES}/{}", self.cluster, self.instances));
        let services = self.services.iter().map(service);
        std::iter::once(self.to_string()).chain(services).chain(instances).collect()
    }
}

/// The URI.
impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, role, name, .. } = self;
        write!(formatter, "{SCHEME}{cluster}/{role}/{name}")
    }
}

/// Whom somebody who dials wants to reach, in its own cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Any balancer.
    Server,
    /// This worker and no other.
    Worker(WorkerId),
}

impl Expected {
    pub(crate) fn is(&self, found: &Identity) -> bool {
        match self {
            Self::Server => found.role == Role::Server,
            Self::Worker(id) => found.is_worker(id),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => formatter.write_str("a balancer"),
            Self::Worker(id) => write!(formatter, "worker {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uris: &[&str]) -> Result<Identity, NoIdentity> {
        Identity::parse(uris.iter().copied())
    }

    #[test]
    fn a_worker_has_a_name_and_services() {
        let uris =
            ["lb://lab/service/a.B", "spiffe://x/y", "lb://lab/worker/w-1", "lb://lab/service/C"];
        let worker = parse(&uris).unwrap();
        assert_eq!((worker.role, worker.name.as_str()), (Role::Worker, "w-1"));
        let services: Vec<_> = worker.services.iter().map(ServiceName::as_str).collect();
        assert_eq!(services, ["a.B", "C"]);
        let said: Vec<_> = worker.uris();
        assert_eq!(said, ["lb://lab/worker/w-1", "lb://lab/service/a.B", "lb://lab/service/C"]);
        assert_eq!(parse(&said.iter().map(String::as_str).collect::<Vec<_>>()), Ok(worker));
    }

    #[test]
    fn every_role_reads_back_as_itself() {
        for role in Role::ALL {
            let uri = format!("lb://lab/{role}/x");
            assert_eq!(parse(&[&uri]).unwrap().role, role);
        }
    }

    #[test]
    fn what_is_not_clear_is_nobody() {
        for (uris, said) in [
            (&[][..], "names nobody"),
            (&["https://lab/worker/w"][..], "names nobody"),
            (&["lb://lab/service/a.B"][..], "names nobody"),
            (&["lb://lab/worker/w", "lb://lab/admin/w"][..], "names both lb://lab/worker/w and"),
            (&["lb://lab/root/w"][..], "\"lb://lab/root/w\" is not valid"),
            (&["lb://lab/worker"][..], "\"lb://lab/worker\" is not valid"),
            (&["lb://lab/worker/"][..], "worker id \"\" is not valid"),
            (&["lb://lab/worker/a/b"][..], "worker id \"a/b\" is not valid"),
            (&["lb://lab/worker/W"][..], "worker id \"W\" is not valid"),
            (&["lb://lab/worker/w%20"][..], "worker id \"w%20\" is not valid"),
            (&["lb://La b/worker/w"][..], "cluster name \"La b\" is not valid"),
            (&["lb://lab/worker/w", "lb://lab/service/*"][..], "service name \"*\" is not valid"),
            (&["lb://lab/worker/w", "lb://x/service/A"][..], "another cluster"),
            (
                &["lb://lab/client/c", "lb://lab/service/A"][..],
                "certificate of a client names services",
            ),
            (&["lb://lab/scaler/s", "lb://lab/instances/2"][..], "services or instances"),
            (&["lb://lab/worker/w", "lb://x/instances/2"][..], "another cluster"),
            (&["lb://lab/instances/2"][..], "names nobody"),
            (&["lb://lab/worker/w", "lb://lab/instances/0"][..], "with N from 1 to 1024"),
            (&["lb://lab/worker/w", "lb://lab/instances/02"][..], "with N from 1 to 1024"),
            (&["lb://lab/worker/w", "lb://lab/instances/1025"][..], "with N from 1 to 1024"),
            (
                &["lb://lab/worker/w", "lb://lab/instances/1", "lb://lab/instances/2"][..],
                "\"lb://lab/instances/2\" is not valid: expected lb://CLUSTER/instances/N once",
            ),
        ] {
            let error = parse(uris).unwrap_err().to_string();
            assert!(error.contains(said), "{uris:?}: {error}");
        }
    }

    #[test]
    fn workers_of_a_machine_share_a_certificate_that_says_so() {
        let uris = ["lb://lab/worker/box", "lb://lab/service/a.B", "lb://lab/instances/12"];
        let shared = parse(&uris).unwrap();
        assert_eq!((shared.instances, shared.uris()), (12, uris.map(String::from).to_vec()));
        let is = |id: &str| shared.is_worker(&id.parse().unwrap());
        for id in ["box", "box-1", "box-9", "box-12"] {
            assert!(is(id), "{id}");
        }
        for id in ["box-0", "box-13", "box-01", "box-1-1", "box1", "box--1", "bo", "box-a", "b-1"] {
            assert!(!is(id), "{id}");
        }
        let alone = parse(&["lb://lab/worker/box"]).unwrap();
        assert!(!alone.is_worker(&"box-1".parse().unwrap()), "nobody has said so");
        let expected = |id: &str| Expected::Worker(id.parse().unwrap());
        assert!(expected("box-3").is(&shared) && !expected("box-13").is(&shared));
    }

    #[test]
    fn only_who_was_meant_is_expected() {
        let of = |uri: &str| parse(&[uri]).unwrap();
        let worker = Expected::Worker("a".parse().unwrap());
        assert!(worker.is(&of("lb://lab/worker/a")));
        for other in ["lb://lab/worker/b", "lb://lab/server/a", "lb://lab/client/a"] {
            assert!(!worker.is(&of(other)), "{other}");
        }
        assert!(Expected::Server.is(&of("lb://lab/server/any")));
        for other in ["lb://lab/worker/a", "lb://lab/client/a", "lb://lab/admin/a"] {
            assert!(!Expected::Server.is(&of(other)), "{other}");
        }
    }
}
