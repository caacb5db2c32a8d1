//! `lbctl bench merge`: one result of those that several machines measured together.
//!
//! Results belong together that have the same scenario, the same policy and the same `--start-at`. Those of one moment
//! become one run, whose times are those of all calls; runs of one policy at several moments become its repeats.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use clap::Args;

use crate::{
    context::Common,
    environment,
    failure::Failure,
    load::{self, RunResult},
    outcome::Outcome,
    report::{Report, Spread, middle},
};

use super::run::{self, Files, START_AT};

/// What to merge.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Files result.json of `bench run --found --start-at`, of all machines and all runs
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Folder for result.json and report.html
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// When a run began, and under which policy.
type Moment = (String, String);

pub(crate) fn run(common: &Common, arguments: &Arguments) -> Result<(), Failure> {
    check(arguments)?;
    let mut parts: BTreeMap<Moment, Vec<RunResult>> = BTreeMap::new();
    let mut first: Option<Outcome> = None;
    let mut policies = Vec::new();
    for file in &arguments.files {
        let shown = file.display();
        let outcome = Outcome::read(file).map_err(|error| Failure::Refused(error.to_string()))?;
        let outcome = outcome.filter(|outcome| outcome.settings[START_AT].is_string());
        let Some(mut outcome) = outcome else {
            return Err(Failure::Refused(format!(
                "{shown}: expected a file made by `lbctl bench run --found --start-at`"
            )));
        };
        let scenario = first.as_ref().map_or(&outcome.scenario, |first| &first.scenario);
        if *scenario != outcome.scenario {
            return Err(Failure::Refused(format!(
                "{shown} is of scenario {}: expected {scenario}, as in the first file",
                outcome.scenario
            )));
        }
        let at = outcome.settings[START_AT].as_str().unwrap_or_default().to_owned();
        for run in outcome.report.runs.drain(..) {
            if !policies.contains(&run.name) {
                policies.push(run.name.clone());
            }
            parts.entry((at.clone(), run.name.clone())).or_default().push(run);
        }
        first.get_or_insert(outcome);
    }
    let Some(first) = first else { return Err(Failure::Interrupted) };
    let machines = machines(&parts)?;
    let runs = parts.values().map(|parts| load::merged(parts));
    let Some(runs) = runs.collect::<Option<Vec<_>>>() else {
        return Err(Failure::Refused("a file has no counts of times to merge".to_owned()));
    };
    let outcome = merged(first, machines, &policies, &runs);
    run::show(common, &outcome, Some(&Files::prepare(&arguments.out)?))
}

/// Each file counts once, and stays what it is.
fn check(arguments: &Arguments) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for file in &arguments.files {
        let shown = file.display();
        if Files::overwrite(&arguments.out, file) {
            return Err(Failure::Refused(format!(
                "{shown} would be overwritten: expected another folder for --out"
            )));
        }
        if !seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())) {
            return Err(Failure::Refused(format!(
                "{shown} is named twice: expected one file of each machine and run"
            )));
        }
    }
    Ok(())
}

/// How many machines measured: as many in each run, or some result is missing.
fn machines(parts: &BTreeMap<Moment, Vec<RunResult>>) -> Result<usize, Failure> {
    let sizes: BTreeSet<usize> = parts.values().map(Vec::len).collect();
    let most = sizes.last().copied().unwrap_or_default();
    match parts.iter().find(|(_, parts)| parts.len() < most) {
        None => Ok(most),
        Some(((at, policy), parts)) => Err(Failure::Refused(format!(
            "there are {} results of {policy} at {at}: expected {most}, as of the others",
            parts.len()
        ))),
    }
}

fn merged(first: Outcome, machines: usize, policies: &[String], runs: &[RunResult]) -> Outcome {
    let mut report = Report {
        description: format!(
            "{machines} machines called at the same time, each as follows. {}",
            first.report.description
        ),
        environment: environment::describe(),
        runs: Vec::new(),
        spreads: Vec::new(),
        ..first.report
    };
    for policy in policies {
        let repeats: Vec<RunResult> =
            runs.iter().filter(|run| run.name == *policy).cloned().collect();
        report.runs.extend(middle(&repeats).cloned());
        report.spreads.extend(Spread::of(&repeats, None));
    }
    let settings = serde_json::json!({ "found": true, "machines": machines });
    Outcome::new(first.scenario, settings, report, runs)
}
