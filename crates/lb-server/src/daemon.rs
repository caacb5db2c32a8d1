//! The daemon around the balancer: flags, configuration, log, signals, systemd.
#![expect(clippy::doc_markdown, reason = "clap prints the comments of flags as they stand")]

use std::{
    convert::Infallible, future::pending, io, path::PathBuf, process::ExitCode, time::Duration,
};

use clap::Parser;
use serde::Serialize;
use tokio::{runtime::Runtime, sync::oneshot};
use tokio_util::sync::CancellationToken;

use lb_runtime::{
    activation::{self, ActivationError, Sockets},
    config::{self, ConfigError, FileChoice, Loaded, Sources},
    exit,
    logging::{self, LogError, LogHandle},
    net::BindError,
    reload::Reloads,
    service::{self, Watchdog},
    signals::Signals,
    tied,
};
use lb_tls::ModeFlag;

use crate::{
    Server, ServerError, Settings,
    config::{DEFAULTS, EXAMPLES, Raw},
    server::Control,
};

const NAME: &str = "lb-server";
const ENVIRONMENT_PREFIX: &str = "LB_SERVER_";
/// `FileDescriptorName=` in `lb-server.socket`.
const SOCKET: &str = "grpc";
/// Keys that take effect while the balancer runs.
const LIVE: [&str; 17] = [
    "policy",
    "log",
    "limits.sessions",
    "limits.watchers",
    "limits.connections",
    "limits.per_peer",
    "scale.target",
    "scale.tolerance",
    "scale.sync_s",
    "scale.stabilization_s",
    "scale.cooldown_s",
    "scale.settle_s",
    "scale.step_share",
    "scale.step_count",
    "scale.min",
    "scale.max",
    "scale.schedule",
];
/// A stop takes two seconds at most and a goodbye to the network; this is ample.
const STOP_LIMIT: Duration = Duration::from_secs(10);

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
    /// How to speak: open, tls or mtls; without it the strictest that there are keys for
    #[arg(long, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<ModeFlag>,
    /// What to log: error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "LB_SERVER_CONFIG")]
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
    Activation(#[from] ActivationError),
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
            Self::Config(_) | Self::Activation(_) | Self::Log(_) => exit::CONFIG,
            Self::Server(ServerError::Bind(error)) if error.is_mistake() => exit::CONFIG,
            Self::Server(ServerError::Bind(_) | ServerError::Discovery(_)) => exit::UNAVAILABLE,
            Self::System(_) | Self::Server(_) => exit::SOFTWARE,
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
    let (loaded, settings) = read(arguments)?;
    if arguments.check_config {
        return Ok(());
    }
    let log = logging::init(NAME, &loaded.value.log)?;
    let sockets = activation::take(SOCKET)?;
    Runtime::new()?.block_on(async {
        let signals = Signals::install()?;
        let server = listen(settings, sockets)?;
        serve(server, signals, &loaded, &log, || read(arguments)).await
    })
}

/// Reads all layers.
fn read(arguments: &Arguments) -> Result<(Loaded<Raw>, Settings), ConfigError> {
    let loaded = config::load(Sources {
        embedded: DEFAULTS,
        examples: EXAMPLES,
        file: FileChoice::new(arguments.config.clone(), NAME),
        environment: config::process_environment(),
        environment_prefix: ENVIRONMENT_PREFIX,
        overrides: config::overrides(arguments)?,
    })?;
    let settings = Settings::resolve(&loaded)?;
    Ok((loaded, settings))
}

/// On the socket of the socket unit, on the one that was open before a restart, or on a new one.
fn listen(settings: Settings, sockets: Sockets) -> Result<Server, ServerError> {
    if let Some(socket) = sockets.unit {
        if sockets.kept.is_some() {
            activation::forget();
        }
        return Server::adopt(settings, socket);
    }
    let server = match sockets.kept.map(|socket| Server::adopt(settings.clone(), socket)) {
        Some(Err(ServerError::Bind(BindError::Mismatch { .. }))) => {
            // The address has been changed since.
            activation::forget();
            Server::bind(settings)?
        }
        Some(adopted) => return adopted,
        None => Server::bind(settings)?,
    };
    activation::keep(server.socket());
    Ok(server)
}

async fn serve(
    server: Server,
    signals: Signals,
    loaded: &Loaded<Raw>,
    log: &LogHandle,
    read: impl Fn() -> Result<(Loaded<Raw>, Settings), ConfigError>,
) -> Result<(), DaemonError> {
    let status = format!("serving on {}", server.address());
    let reloads = Reloads::new(status.clone(), loaded, &LIVE);
    let control = server.control();
    let stop = signals.shutdown();
    stop_is_announced(&stop);
    let (tell, told) = oneshot::channel();
    let ready = move || {
        service::ready(&status);
        // Nobody listens any more when the daemon stops already.
        let _ = tell.send(());
    };
    let mut watchdog = Watchdog::from_environment();
    let serving = server.run(stop, ready, move || watchdog.feed());
    let reloading = async {
        if told.await.is_err() {
            // It never became ready; `serving` says why.
            pending::<()>().await;
        }
        follow_reloads(signals, reloads, control, log, read).await
    };
    tokio::select! {
        ended = serving => Ok(ended?),
        never = reloading => match never {},
    }
}

/// On SIGHUP, everything that can be changed is changed.
async fn follow_reloads(
    mut signals: Signals,
    mut reloads: Reloads,
    control: Control,
    log: &LogHandle,
    read: impl Fn() -> Result<(Loaded<Raw>, Settings), ConfigError>,
) -> Infallible {
    loop {
        signals.reload().await;
        service::reloading();
        match read() {
            Ok((loaded, settings)) => match log.set_filter(&loaded.value.log) {
                Ok(()) => {
                    control.apply(&settings).await;
                    reloads.applied(&loaded);
                }
                Err(error) => reloads.refused(&error),
            },
            Err(error) => reloads.refused(&error),
        }
    }
}

/// Tells systemd at once when the daemon begins to stop.
fn stop_is_announced(stop: &CancellationToken) {
    let stopping = stop.clone().cancelled_owned();
    tokio::spawn(async move {
        stopping.await;
        service::stopping(STOP_LIMIT);
    });
}
