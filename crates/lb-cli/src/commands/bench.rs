//! `lbctl bench`: what things cost.

use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::{context::Common, failure::Failure};

mod pick;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The cost of a pick on the wire: unary, over a session, and locally from the watched list
    Pick(pick::Arguments),
}

pub(crate) async fn run(
    common: &Common,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    match &arguments.what {
        What::Pick(arguments) => pick::run(common, arguments, stop).await,
    }
}
