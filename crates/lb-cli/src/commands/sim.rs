//! `lbctl sim`: one scenario in the simulator, without a single process.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use lb_sim::{Moment, Row, Scenario, Summary};
use serde_json::{Value, json};

use crate::{context::Common, failure::Failure, output::check_writable, report::Plots};

/// What to simulate.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Scenario file; crates/lb-sim/scenarios has some
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
    /// Draw response times and how full the fleet was, as an SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

pub(crate) fn run(common: &Common, arguments: &Arguments) -> Result<(), Failure> {
    let scenario = Scenario::load(&arguments.scenario)
        .map_err(|error| Failure::Refused(lb_runtime::exit::describe(&error)))?;
    if let Some(path) = &arguments.plot {
        check_writable(path)?;
    }
    let summary = lb_sim::run(&scenario);
    if let Some(path) = &arguments.plot {
        let plots = Plots::of_simulation(&summary, scenario.length.as_secs_f64());
        let svg = plots.context("cannot draw the plots")?.svg();
        fs::write(path, svg).map_err(|source| Failure::write(path, source))?;
    }
    let json = json(&arguments.scenario, &scenario, &summary);
    Ok(common.printer().print(summary.to_string().trim_end(), &json)?)
}

/// Everything the summary knows.
fn json(path: &Path, scenario: &Scenario, summary: &Summary) -> Value {
    let seconds = scenario.length.as_secs_f64();
    let rules: Vec<Value> = summary.rows.iter().map(|row| rule(row, summary, seconds)).collect();
    json!({
        "scenario": path,
        "name": summary.name,
        "about": summary.about,
        "seeds": scenario.seeds,
        "seconds": seconds,
        "oracle": summary.oracle().map(|row| row.rule.name()),
        "rules": rules,
    })
}

fn rule(row: &Row, summary: &Summary, seconds: f64) -> Value {
    let point = |(share, time): &(f64, f64)| json!({ "share": share, "ms": time });
    let moment = |moment: &Moment| {
        json!({
            "at_seconds": moment.passed * seconds,
            "busy": moment.busy,
            "waiting": moment.waiting,
        })
    };
    json!({
        "rule": row.rule.name(),
        "is_oracle": row.rule.is_oracle(),
        "calls": row.offered,
        "failed": row.failed,
        "retried": row.retried,
        "mean_ms": row.mean,
        "p50_ms": row.p50,
        "p90_ms": row.p90,
        "p99_ms": row.p99,
        "p999_ms": row.p999,
        "max_ms": row.max,
        "least_busy": row.least_busy,
        "most_busy": row.most_busy,
        "p99_over_oracle": summary.ratio(row.rule),
        "distribution": row.distribution.iter().map(point).collect::<Vec<_>>(),
        "over_time": row.moments.iter().map(moment).collect::<Vec<_>>(),
    })
}
