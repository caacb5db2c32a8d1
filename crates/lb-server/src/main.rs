//! The `lb-server` daemon.

use std::process::ExitCode;

use clap::Parser as _;

use lb_server::daemon::{self, Arguments};

fn main() -> ExitCode {
    daemon::run(&Arguments::parse())
}
