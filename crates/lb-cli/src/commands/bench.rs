//! `lbctl bench`: what things cost.

use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::{context::Common, failure::Failure};

mod fleet;
mod merge;
pub(crate) mod run;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Response times under several policies, on workers that it starts: a scenario, or what the flags say
    Run(Box<run::Arguments>),
    /// One result of those that several machines measured together, with `run --found --start-at`
    Merge(merge::Arguments),
    /// What many connected workers cost the balancer: CPU, memory, and the time of picks beside them
    Fleet(fleet::Arguments),
}

pub(crate) async fn run(
    common: &Common,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    match &arguments.what {
        What::Run(arguments) => run::run(common, arguments, stop).await,
        What::Merge(arguments) => merge::run(common, arguments),
        What::Fleet(arguments) => fleet::run(common, arguments, stop).await,
    }
}
