//! The daemon around the balancer: flags, configuration, log, signals, systemd.
#![expect(clippy::doc_markdown, reason = "clap prints the comments of flags as they stand")]

use std::{io, path::PathBuf, process::ExitCode};

use clap::Parser;
use serde::Serialize;

use lb_runtime::{
    config::{self, ConfigError, FileChoice, Sources},
    exit,
    logging::{self, LogError},
    service,
    signals::Signals,
};

use crate::{
    Server, ServerError, Settings,
    config::{DEFAULTS, Raw, SettingsError},
};

const NAME: &str = "lb-server";
const ENVIRONMENT_PREFIX: &str = "LB_SERVER_";

/// Look-aside load balancer for gRPC services on a LAN: tells clients which worker to call.
#[derive(Debug, Parser, Serialize)]
#[command(name = NAME, version)]
pub struct Arguments {
    /// Where to listen: ip:port, [ip]:port or :port; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Cluster to serve
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Policy to start with: pick_first (first), round_robin (rr), least_load (ll), random, weighted_round_robin (wrr), p2c, ring_hash (ring), maglev or prequal
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Serve this machine only, by the loopback interface, mDNS included (or LB_LOCAL=1)
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    local: bool,
    /// What to log: error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
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
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the operating system refuses what every daemon needs")]
    System(#[from] io::Error),
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl DaemonError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Settings(_) | Self::Log(_) => exit::CONFIG,
            Self::Server(ServerError::Bind(error)) if error.is_mistake() => exit::CONFIG,
            Self::Server(ServerError::Bind(_) | ServerError::Discovery(_)) => exit::UNAVAILABLE,
            Self::System(_) | Self::Server(_) => exit::SOFTWARE,
        }
    }
}

/// Runs the daemon until it is told to stop. Exit codes are those of [`lb_runtime::exit`].
pub fn run(arguments: &Arguments) -> ExitCode {
    match try_run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fail(NAME, error.exit_code(), &error),
    }
}

fn try_run(arguments: &Arguments) -> Result<(), DaemonError> {
    let raw: Raw = config::load(Sources {
        embedded: DEFAULTS,
        file: FileChoice::new(arguments.config.clone(), NAME),
        environment: config::process_environment(),
        environment_prefix: ENVIRONMENT_PREFIX,
        overrides: config::overrides(arguments)?,
    })?;
    let log_filter = raw.log.clone();
    let settings = raw.resolve()?;
    if arguments.check_config {
        return Ok(());
    }
    let _log = logging::init(NAME, &log_filter)?;
    tokio::runtime::Runtime::new()?.block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), DaemonError> {
    let signals = Signals::install()?;
    let server = Server::bind(settings)?;
    let status = format!("serving on {}", server.address());
    let stop = signals.shutdown();
    stop_is_announced(&stop);
    server.run(stop, move || service::ready(&status), service::feed_watchdog).await?;
    Ok(())
}

/// Tells systemd at once when the daemon begins to stop.
fn stop_is_announced(stop: &tokio_util::sync::CancellationToken) {
    let stopping = stop.clone().cancelled_owned();
    tokio::spawn(async move {
        stopping.await;
        service::stopping();
    });
}
