//! `lbctl sim`: one scenario in the simulator, without a single process.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::{context::Common, failure::Failure};

/// What to simulate.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Scenario file; crates/lb-sim/scenarios has some
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
}

pub(crate) fn run(common: &Common, arguments: &Arguments) -> Result<(), Failure> {
    let scenario = lb_sim::Scenario::load(&arguments.scenario)
        .map_err(|error| tonic::Status::invalid_argument(lb_runtime::exit::describe(&error)))?;
    let table = lb_sim::run(&scenario).to_string();
    let json = json!({ "scenario": arguments.scenario.display().to_string(), "table": table });
    Ok(common.printer().print(table.trim_end(), &json)?)
}
