//! The `lb-worker` daemon.

use std::process::ExitCode;

use clap::Parser as _;

use lb_worker::daemon::{self, Arguments};

fn main() -> ExitCode {
    daemon::run(&Arguments::parse())
}
