//! The daemon: flags, configuration, log, signals, systemd.
#![expect(clippy::doc_markdown, reason = "clap prints the comments of flags as they stand")]

mod settings;

use std::{convert::Infallible, io, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use serde::Serialize;
use tokio::{runtime::Runtime, sync::watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

use lb_discovery::{Discovery, DiscoveryError, Role, Scope};
use lb_link::Source;
use lb_proto::parse::scaler::Report;
use lb_runtime::{
    config::{ConfigError, FileChoice, Loaded},
    exit,
    logging::{self, LogError, LogHandle},
    reload::Reloads,
    service,
    signals::Signals,
    tied,
};
use lb_tls::ModeFlag;

pub(crate) use self::settings::{Capacity, Settings};
use self::settings::{ExecutorKind, Raw};
use crate::{
    executor::{processes::Processes, systemd::Systemd},
    manager::{self, Surroundings},
    plans::Orders,
    registration,
};

const NAME: &str = "lb-scaler";
/// Keys that take effect while the daemon runs.
const LIVE: [&str; 5] = ["min", "max", "cpu", "memory_mb", "log"];
/// After instances have ended: goodbyes to balancers. Above the sum of their limits.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// Scaler of the load balancer: starts and stops workers on this machine as the balancer plans
#[derive(Debug, Parser, Serialize)]
#[command(name = NAME, version)]
#[expect(clippy::struct_field_names, reason = "fields are named as their keys")]
pub struct Arguments {
    /// What this machine is called: a-z, 0-9 and '-'; without it the host's name
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Cluster to belong to
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// Use the loopback interface alone, mDNS included (or LB_LOCAL=1)
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    local: bool,
    /// Balancer to register with, instead of looking for them; may be repeated
    #[arg(long = "lb", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    balancers: Vec<String>,
    /// gRPC service that the workers offer, by its full name; may be repeated
    #[arg(long = "service", value_name = "NAME")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    services: Vec<String>,
    /// Workers that should run here at least
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<u32>,
    /// Workers that may run here at most; without it one per core
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    /// What starts and stops workers: systemd, or processes for plain children of this one
    #[arg(long, value_name = "KIND")]
    #[serde(skip_serializing_if = "Option::is_none")]
    executor: Option<String>,
    /// Program to run with --executor processes
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    /// Argument of that program; may be repeated
    #[arg(long = "argument", value_name = "TEXT", allow_hyphen_values = true)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    arguments: Vec<String>,
    /// How to speak: open, tls or mtls; without it the strictest that there are keys for
    #[arg(long, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<ModeFlag>,
    /// What to log: error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "LB_SCALER_CONFIG")]
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
    Log(#[from] LogError),
    #[error("the operating system refuses what every daemon needs")]
    System(#[from] io::Error),
    #[error("cannot use DNS-SD")]
    Discovery(#[from] DiscoveryError),
}

impl DaemonError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Log(_) => exit::CONFIG,
            Self::Discovery(_) => exit::UNAVAILABLE,
            Self::System(_) => exit::SOFTWARE,
        }
    }
}

/// Runs the daemon until it is told to stop. Exit codes are those of [`lb_runtime::exit`].
pub fn run(arguments: &Arguments) -> ExitCode {
    tied::end_with_parent();
    match try_run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fail(NAME, error.exit_code(), &error),
    }
}

fn try_run(arguments: &Arguments) -> Result<(), DaemonError> {
    let read = || Raw::load(arguments, FileChoice::new(arguments.config.clone(), NAME));
    let (loaded, settings) = read()?;
    if arguments.check_config {
        return Ok(());
    }
    let log = logging::init(NAME, &loaded.value.log)?;
    Runtime::new()?.block_on(serve(&loaded, settings, &log, read))
}

async fn serve(
    loaded: &Loaded<Raw>,
    settings: Settings,
    log: &LogHandle,
    read: impl Fn() -> Result<(Loaded<Raw>, Settings), ConfigError>,
) -> Result<(), DaemonError> {
    let signals = Signals::install()?;
    let stop = signals.shutdown();
    let Settings { host, tls, scope, .. } = &settings;
    if tls.is_open() && *scope == Scope::Lan {
        warn!(
            event = "open_mode",
            "mode open: anybody on the network can pretend to be a balancer and start and stop workers here; certificates make \
             it strict (lbctl pki, [tls] in lb-scaler.toml)"
        );
    }
    let _renewal = AbortOnDropHandle::new(tokio::spawn(lb_tls::follow(tls.clone())));
    let discovery =
        if settings.balancers.is_empty() { Some(Discovery::new(*scope)?) } else { None };
    let source = match &discovery {
        Some(discovery) => {
            Source::Browse(discovery.browse(Role::Balancer, settings.cluster.as_str()))
        }
        None => Source::Static(settings.balancers.clone()),
    };
    let capacity = watch::Sender::new(settings.capacity);
    let (orders, reports) =
        (watch::Sender::new(Orders::new()), watch::Sender::new(Report::default()));
    let leave = CancellationToken::new();
    let registrar = settings.registrar(&capacity, &reports, &orders, leave.clone());
    let status = format!("host {host}, {}", settings.capacity);
    let reloads = Reloads::new(status.clone(), loaded, &LIVE);
    let managing = manage(&settings, &capacity, &reports, &orders, stop.clone());
    let registrations = tokio::spawn(registration::follow(Arc::new(registrar), source));
    info!(event = "scaler_ready", %host, executor = settings.executor.name(), "ready");
    service::ready(&status);
    let managed = async {
        tokio::join!(managing, stopping(stop, settings.stop_limit()));
    };
    tokio::select! {
        () = managed => {}
        never = follow_reloads(signals, reloads, &capacity, &settings, log, read) => match never {},
    }
    leave.cancel();
    // It has a limit of its own.
    drop(registrations.await);
    if let Some(discovery) = discovery {
        discovery.shutdown().await;
    }
    info!(event = "scaler_stopped", %host, "stopped");
    Ok(())
}

/// Tells systemd at once when the daemon begins to stop.
async fn stopping(stop: CancellationToken, limit: Duration) {
    stop.cancelled().await;
    service::stopping(limit.saturating_add(LEAVE_LIMIT));
}

/// Runs instances until the daemon shall stop.
async fn manage(
    settings: &Settings,
    capacity: &watch::Sender<Capacity>,
    reports: &watch::Sender<Report>,
    orders: &watch::Sender<Orders>,
    stop: CancellationToken,
) {
    let surroundings = Surroundings {
        orders: orders.subscribe(),
        reports: reports.clone(),
        capacity: capacity.subscribe(),
        stop,
        stop_limit: settings.stop_limit(),
    };
    match &settings.executor {
        ExecutorKind::Systemd { unit } => manager::run(Systemd::new(unit), surroundings).await,
        ExecutorKind::Processes(program) => {
            let processes = Processes::new(program.clone(), settings.host.clone());
            manager::run(processes, surroundings).await;
        }
    }
}

/// On SIGHUP, everything that can be changed is changed; the rest needs a restart.
async fn follow_reloads(
    mut signals: Signals,
    mut reloads: Reloads,
    capacity: &watch::Sender<Capacity>,
    settings: &Settings,
    log: &LogHandle,
    read: impl Fn() -> Result<(Loaded<Raw>, Settings), ConfigError>,
) -> Infallible {
    loop {
        signals.reload().await;
        service::reloading();
        match read() {
            Ok((loaded, wanted)) => match log.set_filter(&loaded.value.log) {
                Ok(()) => {
                    capacity.send_if_modified(|capacity| {
                        let is_news = *capacity != wanted.capacity;
                        *capacity = wanted.capacity;
                        is_news
                    });
                    lb_tls::look(&settings.tls);
                    reloads.applied(&loaded);
                }
                Err(error) => reloads.refused(&error),
            },
            Err(error) => reloads.refused(&error),
        }
    }
}
