//! `lbctl` as a daemon: the demo and the benchmarks start real `lb-server`, `lb-worker` and `lb-scaler` processes
//! without needing them installed, since all are linked in. A process plays the daemon whose name it was started
//! under.
//!
//! Such a daemon never outlives its parent (`lb_runtime::tied`).

use std::{path::Path, process::ExitCode};

use clap::Parser as _;

/// The daemons linked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// `lb-server`
    Server,
    /// `lb-worker`
    Worker,
    /// `lb-scaler`
    Scaler,
}

impl Daemon {
    /// The name to start this program under.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Server => "lb-server",
            Self::Worker => "lb-worker",
            Self::Scaler => "lb-scaler",
        }
    }
}

/// Plays a daemon, if this process was started as one.
pub(crate) fn run() -> Option<ExitCode> {
    let started_as = std::env::args_os().next()?;
    let name = Path::new(&started_as).file_name()?.to_str()?.to_owned();
    let all = [Daemon::Server, Daemon::Worker, Daemon::Scaler];
    let daemon = all.into_iter().find(|daemon| daemon.name() == name)?;
    Some(match daemon {
        Daemon::Server => lb_server::daemon::run(&lb_server::daemon::Arguments::parse()),
        Daemon::Worker => lb_worker::daemon::run(&lb_worker::daemon::Arguments::parse()),
        Daemon::Scaler => lb_scaler::daemon::run(&lb_scaler::daemon::Arguments::parse()),
    })
}
