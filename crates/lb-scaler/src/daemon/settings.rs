//! From flags, variables and files to settings that hold.

use std::{fmt, path::PathBuf, thread, time::Duration};

use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use lb_core::{
    id::{ClusterName, HostId, LABEL_LIMIT, ServiceName},
    scale::{Bounds, Needs},
};
use lb_discovery::Scope;
use lb_proto::parse::{
    SERVICE_LIMIT,
    scaler::{HOST_INSTANCE_LIMIT, Report},
};
use lb_runtime::{
    config::{self, ConfigError, FileChoice, Loaded, Sources},
    logging,
};
use lb_tls::{Choice, Tls};

use super::Arguments;
use crate::{Program, plans::Orders, registration::Registrar};

/// The documented defaults, also installed as `/etc/lb/lb-scaler.toml`.
const DEFAULTS: &str = include_str!("../../../../packaging/lb-scaler.toml");
/// What the defaults do not have, since it has no default.
const EXAMPLES: &str = "id = \"box-1\"\nmax = 8\n[tls]\nmode = \"mtls\"\nca = \"ca\"\ncertificate = \"crt\"\nkey = \"key\"\n";
const ENVIRONMENT_PREFIX: &str = "LB_SCALER_";
/// Most CPU and memory of an instance: far above any machine, it bounds a typing error.
const CPU_LIMIT: f64 = 1_000.0;
const MEMORY_LIMIT_MB: u32 = 10_000_000;
/// Longest time that instances may take to stop: a day.
const STOP_LIMIT_S: u32 = 86_400;

/// The configuration as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    id: Option<String>,
    cluster: String,
    services: Vec<String>,
    balancers: Vec<String>,
    min: u32,
    max: Option<u32>,
    cpu: f64,
    memory_mb: u32,
    executor: String,
    unit: String,
    program: String,
    arguments: Vec<String>,
    stop_timeout_s: u32,
    local: bool,
    pub(super) log: String,
    #[serde(default)]
    tls: Choice,
}

/// What this machine offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) bounds: Bounds,
    pub(crate) needs: Needs,
}

impl fmt::Display for Capacity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} to {} workers", self.bounds.min(), self.bounds.max())
    }
}

/// What starts and stops instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExecutorKind {
    Systemd {
        /// Template of the units, such as `lb-worker@.service`.
        unit: String,
    },
    Processes(Program),
}

impl ExecutorKind {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Systemd { .. } => "systemd",
            Self::Processes(_) => "processes",
        }
    }
}

/// What the daemon runs with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(super) host: HostId,
    pub(super) cluster: ClusterName,
    services: Vec<ServiceName>,
    pub(super) balancers: Vec<String>,
    pub(super) capacity: Capacity,
    pub(super) executor: ExecutorKind,
    stop_timeout: Duration,
    pub(super) scope: Scope,
    pub(super) tls: Tls,
}

impl Settings {
    pub(super) fn registrar(
        &self,
        capacity: &watch::Sender<Capacity>,
        reports: &watch::Sender<Report>,
        orders: &watch::Sender<Orders>,
        leave: CancellationToken,
    ) -> Registrar {
        Registrar {
            host: self.host.clone(),
            cluster: self.cluster.clone(),
            services: self.services.clone(),
            executor: self.executor.name(),
            instance: fastrand::u64(..),
            tls: self.tls.clone(),
            capacity: capacity.subscribe(),
            reports: reports.subscribe(),
            orders: orders.clone(),
            leave,
        }
    }

    /// How long a stop of the daemon may take for the sake of instances.
    pub(super) fn stop_limit(&self) -> Duration {
        match self.executor {
            ExecutorKind::Systemd { .. } => Duration::ZERO,
            ExecutorKind::Processes(_) => self.stop_timeout,
        }
    }
}

impl Raw {
    /// Reads all layers, and checks every value.
    pub(super) fn load(
        arguments: &Arguments,
        file: FileChoice,
    ) -> Result<(Loaded<Self>, Settings), ConfigError> {
        let loaded: Loaded<Self> = config::load(Sources {
            embedded: DEFAULTS,
            examples: EXAMPLES,
            file,
            environment: config::process_environment(),
            environment_prefix: ENVIRONMENT_PREFIX,
            overrides: config::overrides(arguments)?,
        })?;
        let settings = resolve(&loaded)?;
        Ok((loaded, settings))
    }
}

fn resolve(loaded: &Loaded<Raw>) -> Result<Settings, ConfigError> {
    let raw = &loaded.value;
    logging::check(&raw.log).map_err(|error| loaded.refuse("log", error))?;
    let cluster: ClusterName =
        raw.cluster.parse().map_err(|error| loaded.refuse("cluster", error))?;
    let tls = Tls::of_scaler(&raw.tls, &cluster)
        .map_err(|error| loaded.refuse(&format!("tls.{}", error.setting()), error))?;
    if let Some(address) = raw.balancers.iter().find(|address| !lb_link::check_address(address)) {
        let shown: String = address.chars().take(80).collect();
        let problem = format!("balancer address {shown:?} is not valid: expected \"host:port\"");
        return Err(loaded.refuse("balancers", problem));
    }
    Ok(Settings {
        host: host(loaded, &tls)?,
        services: services(loaded)?,
        balancers: raw.balancers.clone(),
        capacity: capacity(loaded)?,
        executor: executor(loaded)?,
        stop_timeout: stop_timeout(loaded)?,
        scope: if raw.local { Scope::Loopback } else { Scope::Lan },
        cluster,
        tls,
    })
}

fn host(loaded: &Loaded<Raw>, tls: &Tls) -> Result<HostId, ConfigError> {
    let set = loaded.value.id.as_ref().map(|id| id.parse::<HostId>()).transpose();
    let set = set.map_err(|error| loaded.refuse("id", error))?;
    let certified = tls.identity();
    match (set, certified) {
        (Some(id), Some(certificate)) if certificate.name.as_str() != id.as_str() => {
            let problem = format!(
                "id is {id}, but the certificate is that of {certificate}: leave the id out, or make it the same"
            );
            Err(loaded.refuse("id", problem))
        }
        (Some(id), _) => Ok(id),
        (None, Some(certificate)) => certificate
            .name
            .as_str()
            .parse()
            .map_err(|error| loaded.refuse("tls.certificate", error)),
        (None, None) => {
            let label = lb_link::host::label(LABEL_LIMIT, "host");
            label.parse().map_err(|error| loaded.refuse("id", error))
        }
    }
}

fn services(loaded: &Loaded<Raw>) -> Result<Vec<ServiceName>, ConfigError> {
    let names = &loaded.value.services;
    let refuse = |problem: String| loaded.refuse("services", problem);
    if !(1..=SERVICE_LIMIT).contains(&names.len()) {
        let count = names.len();
        return Err(refuse(format!(
            "number of services is {count}: expected 1 to {SERVICE_LIMIT}"
        )));
    }
    let parsed = names.iter().map(|name| name.parse());
    let parsed: Result<Vec<ServiceName>, lb_core::id::NameError> = parsed.collect();
    parsed.map_err(|error| refuse(error.to_string()))
}

fn capacity(loaded: &Loaded<Raw>) -> Result<Capacity, ConfigError> {
    let raw = &loaded.value;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let max = raw.max.unwrap_or(u32::try_from(cores).unwrap_or(u32::MAX).min(HOST_INSTANCE_LIMIT));
    if max > HOST_INSTANCE_LIMIT {
        let problem = format!("max is {max}: expected 0 to {HOST_INSTANCE_LIMIT}");
        return Err(loaded.refuse("max", problem));
    }
    let bounds = Bounds::new(raw.min, max).map_err(|error| loaded.refuse("min", error))?;
    if !(0.0..=CPU_LIMIT).contains(&raw.cpu) {
        let problem = format!("cpu is {}: expected 0 to {CPU_LIMIT} cores", raw.cpu);
        return Err(loaded.refuse("cpu", problem));
    }
    if raw.memory_mb > MEMORY_LIMIT_MB {
        let problem = format!("memory_mb is {}: expected 0 to {MEMORY_LIMIT_MB}", raw.memory_mb);
        return Err(loaded.refuse("memory_mb", problem));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let millicores = (raw.cpu * 1000.0) as u32;
    let memory = u64::from(raw.memory_mb) << 20;
    Ok(Capacity { bounds, needs: Needs { millicores, memory } })
}

fn executor(loaded: &Loaded<Raw>) -> Result<ExecutorKind, ConfigError> {
    let Raw { executor, unit, program, arguments, .. } = &loaded.value;
    match executor.as_str() {
        "systemd" => {
            let prefix = unit.strip_suffix("@.service").unwrap_or_default();
            let sound = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
            if prefix.is_empty() || !prefix.chars().all(sound) {
                let shown: String = unit.chars().take(80).collect();
                let problem = format!(
                    "unit {shown:?} is not valid: expected a template such as \"lb-worker@.service\""
                );
                return Err(loaded.refuse("unit", problem));
            }
            Ok(ExecutorKind::Systemd { unit: unit.clone() })
        }
        "processes" if program.is_empty() => {
            Err(loaded.refuse("program", "program is empty: expected the path of a program"))
        }
        "processes" => {
            let (path, arguments) = (PathBuf::from(program), arguments.clone());
            let environment = environment(&loaded.value);
            Ok(ExecutorKind::Processes(Program { path, arguments, environment }))
        }
        other => {
            let shown: String = other.chars().take(80).collect();
            let problem = format!("unknown executor {shown:?}: expected systemd or processes");
            Err(loaded.refuse("executor", problem))
        }
    }
}

/// Workers belong where their scaler does.
fn environment(raw: &Raw) -> Vec<(&'static str, String)> {
    let local = if raw.local { "1" } else { "0" };
    vec![
        ("LB_CLUSTER", raw.cluster.clone()),
        ("LB_LOCAL", local.to_owned()),
        ("LB_WORKER_BALANCERS", raw.balancers.join(",")),
        ("LB_WORKER_SERVICES", raw.services.join(",")),
    ]
}

fn stop_timeout(loaded: &Loaded<Raw>) -> Result<Duration, ConfigError> {
    let found = loaded.value.stop_timeout_s;
    if found > STOP_LIMIT_S {
        let problem = format!("stop_timeout_s is {found}: expected 0 to {STOP_LIMIT_S}");
        return Err(loaded.refuse("stop_timeout_s", problem));
    }
    Ok(Duration::from_secs(found.into()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn load(arguments: &[&str]) -> Result<Settings, ConfigError> {
        let arguments = Arguments::parse_from(["lb-scaler"].iter().chain(arguments));
        Raw::load(&arguments, FileChoice::None).map(|(_, settings)| settings)
    }

    #[test]
    fn the_defaults_hold() {
        let settings = load(&[]).unwrap();
        assert_eq!(settings.executor, ExecutorKind::Systemd { unit: "lb-worker@.service".into() });
        let Capacity { bounds, needs } = settings.capacity;
        assert_eq!((bounds.min(), bounds.max() >= 1), (0, true));
        assert_eq!((needs.millicores, needs.memory), (1000, 64 << 20));
        assert_eq!(settings.stop_limit(), Duration::ZERO, "units outlive the daemon");
    }

    #[test]
    fn every_flag_arrives() {
        let settings = load(&[
            "--id",
            "box",
            "--cluster",
            "lab",
            "--local",
            "--lb",
            "a:1",
            "--lb",
            "b:2",
            "--service",
            "x.Y",
            "--min",
            "1",
            "--max",
            "4",
            "--executor",
            "processes",
            "--program",
            "/bin/w",
            "--argument",
            "--local",
            "--argument",
            "x",
            "--log",
            "debug",
        ])
        .unwrap();
        assert_eq!((settings.host.as_str(), settings.cluster.as_str()), ("box", "lab"));
        assert_eq!((settings.balancers.len(), settings.services.len()), (2, 1));
        assert_eq!(settings.capacity.to_string(), "1 to 4 workers");
        assert_eq!(settings.scope, Scope::Loopback);
        let ExecutorKind::Processes(Program { path, arguments, environment }) = settings.executor
        else {
            panic!("processes")
        };
        assert_eq!(
            (path.to_str(), arguments),
            (Some("/bin/w"), vec!["--local".into(), "x".into()])
        );
        assert!(environment.contains(&("LB_WORKER_BALANCERS", "a:1,b:2".into())));
    }

    #[test]
    fn bad_values_are_named() {
        for (flags, key, problem) in [
            (&["--min", "5", "--max", "4"][..], "min", "min is 5 and max is 4: expected min"),
            (&["--max", "1025"], "max", "max is 1025: expected 0 to 1024"),
            (&["--id", "No"], "id", "host id \"No\" is not valid"),
            (&["--cluster", "A B"], "cluster", "cluster name \"A B\" is not valid"),
            (&["--lb", "nowhere"], "balancers", "balancer address \"nowhere\""),
            (&["--service", "a b"], "services", "service name \"a b\""),
            (&["--executor", "magic"], "executor", "unknown executor \"magic\": expected systemd"),
            (&["--executor", "processes", "--program", ""], "program", "program is empty"),
            (&["--log", "loud"], "log", "log filter \"loud\" is not valid"),
        ] {
            let error = load(flags).unwrap_err().to_string();
            let expected = format!("key `{key}` in the command line: {problem}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
