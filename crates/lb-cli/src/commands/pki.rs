//! `lbctl pki`: the certificates of a cluster, for who has no other way to make them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use lb_core::id::{ClusterName, ServiceName, WorkerId};
use lb_pki::{Folder, LIFETIME, RENEW_WITHIN};
use lb_tls::{INSTANCES_LIMIT, Identity, Role};

use crate::{context::Common, failure::Failure, workload};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Most days of a lifetime: as long as the authority itself.
const LONGEST: i64 = 3650;

/// Where, and what to make.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folder of the authority and of what it signs
    #[arg(long, global = true, value_name = "DIRECTORY", default_value = "pki")]
    directory: PathBuf,
    /// How long a new certificate is good
    #[arg(long, global = true, value_name = "DAYS", default_value_t = days(LIFETIME), value_parser = clap::value_parser!(u32).range(1..=LONGEST))]
    days: u32,
    /// Replace what is there already, keys too
    #[arg(long, global = true)]
    force: bool,
    #[command(subcommand)]
    action: Action,
}

/// What to make.
#[derive(Debug, Subcommand)]
enum Action {
    /// Make the authority of a cluster, once; its key lb-ca.key is what everything rests on
    Init,
    /// Make a certificate, in a folder of its own that belongs into /etc/lb/tls of one machine
    #[command(subcommand)]
    Issue(Holder),
    /// Make new certificates for those that end soon
    Renew {
        /// What soon means
        #[arg(long, value_name = "DAYS", default_value_t = days(RENEW_WITHIN), value_parser = clap::value_parser!(u32).range(1..=LONGEST))]
        within: u32,
    },
}

/// For whom.
#[derive(Debug, Subcommand)]
enum Holder {
    /// For a worker
    Worker {
        /// Its id
        id: WorkerId,
        /// gRPC service that it may offer, by its full name; may be repeated
        #[arg(long = "service", value_name = "NAME", default_value = workload::SERVICE)]
        services: Vec<ServiceName>,
        /// Also for this many further workers of the same machine: ID-1 to ID-COUNT, which a scaler starts
        #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=i64::from(INSTANCES_LIMIT)))]
        instances: u32,
    },
    /// For who starts and stops workers on a host
    Scaler {
        /// Id of the host
        id: WorkerId,
    },
    /// For a balancer
    Server {
        /// What it is called, for people; the machine's name, say
        name: WorkerId,
    },
    /// For who calls workers
    Client {
        /// What it is called
        name: WorkerId,
    },
    /// For who operates the cluster: drains, changes the policy, reads events
    Admin {
        /// What it is called
        name: WorkerId,
    },
}

impl Holder {
    fn identity(self, cluster: ClusterName) -> Identity {
        let of = |role, name| Identity { cluster, role, name, services: Vec::new(), instances: 0 };
        match self {
            Self::Worker { id, services, instances } => {
                Identity { services, instances, ..of(Role::Worker, id) }
            }
            Self::Scaler { id } => of(Role::Scaler, id),
            Self::Server { name } => of(Role::Server, name),
            Self::Client { name } => of(Role::Client, name),
            Self::Admin { name } => of(Role::Admin, name),
        }
    }
}

const fn days(duration: Duration) -> u32 {
    // No lifetime is anywhere near the end of the type.
    #[expect(clippy::cast_possible_truncation, reason = "see above")]
    let days = (duration.as_secs() / DAY.as_secs()) as u32;
    days
}

pub(crate) fn run(common: &Common, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { directory, days, force, action } = arguments;
    let lifetime = DAY * days;
    let (text, json) = match action {
        Action::Init => init(common, &directory, force)?,
        Action::Issue(holder) => {
            let folder = Folder::open(&directory)?;
            let identity = holder.identity(folder.cluster().clone());
            let place = folder.issue(&identity, lifetime, force)?;
            let text = format!(
                "{identity} for {days} days: {}\nput its files into /etc/lb/tls of its machine",
                place.display()
            );
            (text, json!({ "issued": [entry(&place, &identity)] }))
        }
        Action::Renew { within } => {
            let renewed = Folder::open(&directory)?.renew(DAY * within, lifetime)?;
            let lines = renewed.iter().map(|(place, who)| format!("{who}: {}", place.display()));
            let lines: Vec<String> = lines.collect();
            let text = if lines.is_empty() {
                format!("nothing ends within {within} days")
            } else {
                lines.join("\n")
            };
            let entries = renewed.iter().map(|(place, who)| entry(place, who));
            (text, json!({ "issued": entries.collect::<Vec<_>>() }))
        }
    };
    Ok(common.printer().print(&text, &json)?)
}

fn init(common: &Common, directory: &Path, force: bool) -> Result<(String, Value), Failure> {
    let cluster = common.cluster.parse().map_err(|error| Failure::Refused(format!("{error}")))?;
    let folder = Folder::init(directory, cluster, force)?;
    let (cluster, place) = (folder.cluster(), directory.display());
    let text = format!(
        "authority of cluster {cluster}: {place}\nkeep {place}/lb-ca.key where nobody else can read it"
    );
    let json = json!({ "cluster": cluster.as_str(), "directory": place.to_string() });
    Ok((text, json))
}

fn entry(place: &Path, identity: &Identity) -> Value {
    json!({ "identity": identity.to_string(), "directory": place.display().to_string() })
}
