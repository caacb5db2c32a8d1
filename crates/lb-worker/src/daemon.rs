//! The daemon around the Compute service: flags, configuration, log, signals, systemd.
#![expect(clippy::doc_markdown, reason = "clap prints the comments of flags as they stand")]

mod part;
mod settings;
mod watchdog;

use std::{convert::Infallible, io, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use serde::Serialize;
use tokio::{runtime::Runtime, sync::watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use lb_runtime::{
    config::{ConfigError, FileChoice, Loaded},
    exit,
    logging::{self, LogError, LogHandle},
    net::BindError,
    reload::Reloads,
    service,
    signals::Signals,
    tied,
};

use lb_tls::{ModeFlag, Tls};

#[cfg(any(test, fuzzing))]
pub(crate) use self::settings::fuzz;
use self::settings::{Label, Raw, as_table};
use crate::{
    BuildError, Control, ListenError, ServeError,
    attach::{AttachError, Health},
};

const NAME: &str = "lb-worker";
/// A task that was cut ends its thread within milliseconds; the process does not wait for longer.
const THREADS_TIMEOUT: Duration = Duration::from_secs(1);
/// Keys that take effect while the worker runs.
const LIVE: [&str; 4] = ["slots", "queue", "drain_timeout_s", "log"];
/// After the drain: goodbyes, connections that close, threads that end. Each has its own limit; this is above their sum.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// Worker of the load balancer: serves small tasks of known cost (lb.v1.Compute), or stands beside another service
#[derive(Debug, Parser, Serialize)]
#[command(name = NAME, version)]
pub struct Arguments {
    /// Where to listen: ip:port, [ip]:port or :port; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<String>,
    /// Serve nothing, and register the service that runs at this address of this machine: ip:port or :port
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    attach: Option<String>,
    /// How to find out whether the attached service is well; without it by grpc
    #[arg(long, value_enum, value_name = "HOW")]
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
    /// Who this worker is: a-z, 0-9 and '-', the same over restarts
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// gRPC service to offer, by its full name; may be repeated
    #[arg(long = "service", value_name = "NAME")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    services: Vec<String>,
    /// Calls that run at once; without it one per core
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<u32>,
    /// Calls that may wait for a slot; without it four per slot, at least 16
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<u32>,
    /// Cluster to belong to
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// Serve this machine only, by the loopback interface, mDNS included (or LB_LOCAL=1)
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    local: bool,
    /// Balancer to register with, instead of looking for them; may be repeated
    #[arg(long = "lb", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    balancers: Vec<String>,
    /// Failure domain or site
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    /// Property that a pick can require; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_table")]
    labels: Vec<Label>,
    /// How long a stop may take before the calls that are left are cut
    #[arg(long = "drain-timeout", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_timeout_s: Option<u32>,
    /// Take so many times as long over sleep and burn, 0.1 to 100: tries unequal machines on equal ones
    #[arg(long, value_name = "FACTOR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    slowdown: Option<f64>,
    /// How to speak: open, tls or mtls; without it the strictest that there are keys for
    #[arg(long, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<ModeFlag>,
    /// What to log: error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "LB_WORKER_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Check the configuration, say what is wrong, and exit
    #[arg(long)]
    #[serde(skip)]
    check_config: bool,
}

/// Why the daemon ends before it was told to.
#[derive(Debug, thiserror::Error)]
enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the operating system refuses what every daemon needs")]
    System(#[from] io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl DaemonError {
    fn exit_code(&self) -> u8 {
        match self {
            // What an attached service needs may come with the network.
            Self::Build(
                BuildError::Listen(
                    ListenError::NoAddress(_)
                    | ListenError::Bind(BindError::InUse { .. } | BindError::Refused { .. }),
                )
                | BuildError::Attach(AttachError::Elsewhere { .. }),
            )
            | Self::Serve(ServeError::Discovery(_)) => exit::UNAVAILABLE,
            Self::Config(_) | Self::Build(_) | Self::Log(_) => exit::CONFIG,
            Self::System(_) | Self::Serve(_) => exit::SOFTWARE,
        }
    }
}

/// Runs the daemon until it is told to stop and has drained. Exit codes are those of [`lb_runtime::exit`].
pub fn run(arguments: &Arguments) -> ExitCode {
    tied::end_with_parent();
    match try_run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fail(NAME, error.exit_code(), &error),
    }
}

fn try_run(arguments: &Arguments) -> Result<(), DaemonError> {
    let read = || Raw::load(arguments, FileChoice::new(arguments.config.clone(), NAME));
    let (loaded, tls) = read()?;
    if arguments.check_config {
        return Ok(());
    }
    let log = logging::init(NAME, &loaded.value.log)?;
    let runtime = Runtime::new()?;
    let served = runtime.block_on(serve(&loaded, tls, &log, read));
    runtime.shutdown_timeout(THREADS_TIMEOUT);
    served
}

async fn serve(
    loaded: &Loaded<Raw>,
    tls: Tls,
    log: &LogHandle,
    read: impl Fn() -> Result<(Loaded<Raw>, Tls), ConfigError>,
) -> Result<(), DaemonError> {
    let signals = Signals::install()?;
    let shutdown = signals.shutdown();
    let part = loaded.value.part(&tls)?;
    let status = part.to_string();
    let reloads = Reloads::new(status.clone(), loaded, &LIVE);
    let (control, ready) = (part.control(), part.readiness());
    let _service = spawn(tell_systemd(ready.clone(), status, control.clone(), shutdown.clone()));
    let _watchdog = part.watchdog(tls);
    tokio::select! {
        served = part.serve(shutdown) => Ok(served?),
        never = follow_reloads(signals, ready, reloads, control, log, read) => match never {},
    }
}

/// READY when the worker listens and is announced, STOPPING when it begins to drain.
async fn tell_systemd(
    mut ready: watch::Receiver<bool>,
    status: String,
    control: Control,
    shutdown: CancellationToken,
) {
    let becomes_ready = async {
        if ready.wait_for(|ready| *ready).await.is_ok() {
            service::ready(&status);
        }
        shutdown.cancelled().await;
    };
    tokio::select! {
        () = becomes_ready => {}
        () = shutdown.cancelled() => {}
    }
    service::stopping(control.drain_timeout().saturating_add(LEAVE_LIMIT));
}

/// On SIGHUP, everything that can be changed is changed; the rest needs a restart, which drains.
async fn follow_reloads(
    mut signals: Signals,
    mut ready: watch::Receiver<bool>,
    mut reloads: Reloads,
    control: Control,
    log: &LogHandle,
    read: impl Fn() -> Result<(Loaded<Raw>, Tls), ConfigError>,
) -> Infallible {
    // A reload ends with READY, which must not be said too early.
    let _ = ready.wait_for(|ready| *ready).await;
    loop {
        signals.reload().await;
        service::reloading();
        match read() {
            Ok((loaded, tls)) => match apply(&loaded.value, &tls, &control, log) {
                Ok(()) => reloads.applied(&loaded),
                Err(error) => reloads.refused(&error),
            },
            Err(error) => reloads.refused(&error),
        }
    }
}

fn apply(raw: &Raw, tls: &Tls, control: &Control, log: &LogHandle) -> Result<(), DaemonError> {
    log.set_filter(&raw.log)?;
    control.apply(&raw.builder(tls))?;
    Ok(())
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}
