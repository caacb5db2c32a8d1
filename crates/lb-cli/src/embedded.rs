//! `lbctl` as a daemon: the demo and the benchmarks start real `lb-server` and `lb-worker` processes
//! without needing them installed, since both are linked in. A process plays the daemon whose name it was started
//! under.
//!
//! Such a daemon never outlives its parent: its standard input is a pipe that nobody writes to, and when the
//! pipe closes, the parent is gone, however it went.

use std::{io::Read as _, path::Path, process::ExitCode, thread};

use clap::Parser as _;

/// The daemons linked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// `lb-server`
    Server,
    /// `lb-worker`
    Worker,
}

impl Daemon {
    /// The name to start this program under.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Server => "lb-server",
            Self::Worker => "lb-worker",
        }
    }
}

/// Set for a daemon that must end with its parent.
pub(crate) const TIED_VARIABLE: &str = "LBCTL_TIED_TO_PARENT";

/// Plays a daemon, if this process was started as one.
pub(crate) fn run() -> Option<ExitCode> {
    let started_as = std::env::args_os().next()?;
    let name = Path::new(&started_as).file_name()?.to_str()?.to_owned();
    let daemon =
        [Daemon::Server, Daemon::Worker].into_iter().find(|daemon| daemon.name() == name)?;
    if std::env::var_os(TIED_VARIABLE).is_some() {
        thread::spawn(end_with_parent);
    }
    Some(match daemon {
        Daemon::Server => lb_server::daemon::run(&lb_server::daemon::Arguments::parse()),
        Daemon::Worker => lb_worker::daemon::run(&lb_worker::daemon::Arguments::parse()),
    })
}

fn end_with_parent() {
    let mut ignored = [0; 64];
    while std::io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
    std::process::exit(0);
}
