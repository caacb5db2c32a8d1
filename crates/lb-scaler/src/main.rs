//! The `lb-scaler` daemon.

use std::process::ExitCode;

use clap::Parser as _;

use lb_scaler::daemon::{self, Arguments};

fn main() -> ExitCode {
    daemon::run(&Arguments::parse())
}
