//! `lbctl`: try, watch, operate and measure the balancer.
//!
//! One file per command; what they share is how to reach a balancer
//! (`context`), how to print (`output`) and how to fail (`failure`).
//! [`load`] generates load and [`report`] shows what came of it, for the demo and the benchmarks.

mod arguments;
mod commands;
mod context;
mod embedded;
mod environment;
mod failure;
mod fleet;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod load;
mod outcome;
mod output;
mod progress;
pub mod report;
mod workload;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::{arguments::Arguments, failure::Failure};

/// The command line of `lbctl`, for its manual and its completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs `lbctl`, or the daemon that it has been started as.
pub fn main() -> ExitCode {
    if let Some(code) = embedded::run() {
        return code;
    }
    match Arguments::try_parse() {
        Ok(arguments) => commands::run(arguments),
        Err(error) => Failure::from(error).report_usage(),
    }
}
