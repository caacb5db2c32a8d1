//! One file per command.

pub(crate) mod bench;
pub(crate) mod demo;
pub(crate) mod discover;
pub(crate) mod drain;
pub(crate) mod pick;
pub(crate) mod pki;
pub(crate) mod policy;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod scale;
pub(crate) mod sim;
pub(crate) mod workers;
pub(crate) mod xds_bootstrap;

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{Arguments, Command},
    failure::Failure,
    output::line,
};

/// Runs a command to its end and returns its exit code.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let json = arguments.common.printer().is_json();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(dispatch(arguments));
            // What still runs in the background (a reading of DNS-SD, say) has nothing to add.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(Failure::Other(error.into())),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A command that was interrupted has printed what was done, and one JSON value is enough.
            if json && !matches!(failure, Failure::Interrupted) {
                // If standard output is closed, the exit code still tells.
                drop(line(&format!("{:#}", failure.json())));
            }
            failure.report()
        }
    }
}

async fn dispatch(Arguments { common, command }: Arguments) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    let reports_what_was_done = matches!(command, Command::Demo(_) | Command::Bench(_));
    let command = async {
        match command {
            Command::Run(arguments) => run::run(&common, arguments).await,
            Command::Discover(arguments) => discover::run(&common, &arguments).await,
            Command::Workers(arguments) => workers::run(&common, &arguments).await,
            Command::Pick(arguments) => pick::run(&common, arguments).await,
            Command::Policy(arguments) => policy::run(&common, arguments).await,
            Command::Drain(arguments) => drain::drain(&common, arguments).await,
            Command::Undrain(arguments) => drain::undrain(&common, arguments).await,
            Command::Scale(arguments) => scale::run(&common, arguments).await,
            Command::Pki(arguments) => pki::run(&common, arguments),
            Command::Demo(arguments) => demo::run(&common, &arguments, &stop).await,
            Command::Sim(arguments) => sim::run(&common, &arguments),
            Command::Report(arguments) => report::run(&common, &arguments),
            Command::XdsBootstrap(arguments) => xds_bootstrap::run(&common, &arguments).await,
            Command::Bench(arguments) => bench::run(&common, &arguments, &stop).await,
        }
    };
    tokio::pin!(command);
    tokio::select! {
        ended = &mut command => return ended,
        _ = tokio::signal::ctrl_c() => stop.cancel(),
    }
    if !reports_what_was_done {
        return Err(Failure::Interrupted);
    }
    // These end by themselves now and report what was done. A second Ctrl-C ends at once.
    tokio::select! {
        ended = command => ended.and(Err(Failure::Interrupted)),
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
    }
}
