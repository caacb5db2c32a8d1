//! `lbctl bench run`: one load under several policies, on real processes.
//!
//! A scenario (`source`, `raw`, `resolve`) says who works, who calls and what happens meanwhile. It is
//! `measure`d under every policy in turn, A B C, A B C, because a shared machine changes its own speed: what is
//! compared must stand close together in time. From the repeats comes one [`Outcome`].

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context as _;
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Common,
    environment,
    failure::Failure,
    load::RunResult,
    outcome::Outcome,
    output::{line, width},
    report::{Report, Spread, middle},
    workload::Distribution,
};

mod calls;
mod limit;
mod measure;
mod raw;
mod resolve;
mod scenario;
mod source;

#[cfg(any(test, fuzzing))]
pub(crate) use resolve::fuzz;

pub(crate) use scenario::ScenarioError;
pub(crate) use source::BUILT_IN;

use calls::Calls as CallList;
use measure::Bench;
use raw::Flags;
use scenario::{Calls, Scenario};
use source::Source;

/// What to measure.
#[derive(Debug, Args)]
#[command(
    after_help = "Built-in scenarios: homogeneous, unequal, bimodal, burst, worker-killed, worker-added, \
                        overload, sleep-10x10, sleep-15x10, burn-2, burn-4.\n\
                        Each is a commented file in crates/lb-cli/scenarios of the source."
)]
pub(crate) struct Arguments {
    /// A scenario: a TOML file, or the name of one that is built in; flags overrule it
    scenario: Option<String>,
    #[command(flatten)]
    flags: Flags,
    /// Call the workers that discovery finds, on any number of machines, instead of starting some
    #[arg(long)]
    found: bool,
    /// Begin the calls of the one run at this moment, so that several machines begin together: 2026-01-31T12:00:00Z. `bench merge` makes one result of theirs
    #[arg(long, value_name = "TIME", requires = "found", value_parser = humantime::parse_rfc3339_weak)]
    start_at: Option<SystemTime>,
    /// Folder for result.json and report.html
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write a line for each call as it ends: policy, when it began, seconds it took, worker, outcome
    #[arg(long, value_name = "FILE.csv")]
    calls: Option<PathBuf>,
}

pub(crate) async fn run(
    common: &Common,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let source = match &arguments.scenario {
        Some(given) => Source::find(given)?,
        None => Source::empty(),
    };
    let mut scenario = resolve::resolve(&source, &arguments.flags)?;
    scenario.start_at = arguments.start_at;
    if arguments.found && !scenario.events.is_empty() {
        return Err(Failure::Refused(format!(
            "--found contradicts the events of scenario {}: workers that others started are not \
             killed, stopped or added",
            scenario.name
        )));
    }
    if scenario.start_at.is_some() && (scenario.policies.len() > 1 || scenario.repeats > 1) {
        return Err(Failure::Refused(
            "--start-at is the beginning of one run: expected one policy, and --repeats 1"
                .to_owned(),
        ));
    }
    let files = arguments.out.as_deref().map(Files::prepare).transpose()?;
    let calls = arguments.calls.as_deref().map(CallList::create).transpose()?.unwrap_or_default();
    let mut bench = Bench::start(common, &scenario, arguments.found, stop).await?;
    let measured = bench.measure(&scenario, &calls, stop).await;
    let workers = bench.workers().to_owned();
    bench.end().await;
    let runs = measured?;
    if runs.iter().all(|run| run.requests == 0) {
        return Err(Failure::Interrupted);
    }
    let outcome = outcome(&scenario, &workers, arguments.found, &runs);
    show(common, &outcome, files.as_ref())?;
    calls.check()?;
    if stop.is_cancelled() { Err(Failure::Interrupted) } else { Ok(()) }
}

/// The setting by which results of several machines find each other.
pub(super) const START_AT: &str = "start_at";

fn outcome(scenario: &Scenario, workers: &str, found: bool, runs: &[RunResult]) -> Outcome {
    let mut shown = Vec::new();
    let mut spreads = Vec::new();
    for policy in &scenario.policies {
        let repeats: Vec<RunResult> =
            runs.iter().filter(|run| run.name == policy.name()).cloned().collect();
        let limit = if found { None } else { limit::longest_us(scenario, *policy) };
        shown.extend(middle(&repeats).cloned());
        spreads.extend(Spread::of(&repeats, limit));
    }
    let report = Report {
        title: scenario.title.clone(),
        description: describe(scenario, workers),
        environment: environment::describe(),
        runs: shown,
        spreads,
    };
    let start_at = scenario.start_at.map(|at| humantime::format_rfc3339(at).to_string());
    let settings = match (found, start_at) {
        (false, _) => scenario.settings(),
        (true, None) => serde_json::json!({ "found": true }),
        (true, Some(at)) => serde_json::json!({ "found": true, (START_AT): at }),
    };
    Outcome::new(scenario.name.clone(), settings, report, runs)
}

/// The scenario in sentences.
fn describe(scenario: &Scenario, workers: &str) -> String {
    let calls = match &scenario.calls {
        Calls::Closed { clients } => format!("{clients} clients, each with one call at a time"),
        Calls::Open { rate_per_second, changes } => {
            let changes = changes
                .iter()
                .map(|change| format!(", from {:?} on {}", change.at, change.rate_per_second));
            format!(
                "{rate_per_second} calls a second{}, arriving independently of one another, timed from \
                 when they were due",
                changes.collect::<String>()
            )
        }
    };
    let spread = match scenario.task.mean() {
        Some(_) if scenario.distribution != Distribution::Constant => {
            format!(" {}", scenario.distribution.describe())
        }
        _ => String::new(),
    };
    let events = scenario
        .events
        .iter()
        .map(|event| format!(" After {:?} {}.", event.at, event.what.describe()));
    let sentences = [
        scenario.description.trim(),
        &format!("{calls}; each call is {}{spread}.", scenario.task),
        &format!("{workers}{}", events.collect::<String>()),
    ];
    let sentences = sentences.iter().filter(|sentence| !sentence.is_empty());
    sentences.copied().collect::<Vec<_>>().join(" ")
}

pub(super) fn show(
    common: &Common,
    outcome: &Outcome,
    files: Option<&Files>,
) -> Result<(), Failure> {
    let written = files.map(|files| files.write(outcome)).transpose()?;
    if common.printer().is_json() {
        let json = serde_json::to_string_pretty(outcome).context("cannot write the result")?;
        return Ok(line(&json)?);
    }
    line(&outcome.report.table(width()))?;
    if let Some(page) = written {
        line(&format!("plots: {page}"))?;
    }
    Ok(())
}

/// Where results go.
pub(super) struct Files {
    result: PathBuf,
    page: PathBuf,
}

impl Files {
    /// Finds out before the work, not after it, whether they can be written.
    pub(super) fn prepare(folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder).map_err(|source| Failure::write(folder, source))?;
        let files = Self { result: folder.join("result.json"), page: folder.join("report.html") };
        for path in [&files.result, &files.page] {
            let opened = fs::OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|source| Failure::write(path, source))?;
        }
        Ok(files)
    }

    /// Whether this file would be overwritten.
    pub(super) fn overwrite(folder: &Path, file: &Path) -> bool {
        let (result, file) = (folder.join("result.json").canonicalize(), file.canonicalize());
        result.is_ok_and(|result| file.is_ok_and(|file| file == result))
    }

    /// Writes both, and returns the page's path for people.
    fn write(&self, outcome: &Outcome) -> Result<String, Failure> {
        let json = serde_json::to_string(outcome).context("cannot write the result")? + "\n";
        fs::write(&self.result, json).map_err(|source| Failure::write(&self.result, source))?;
        let page = outcome.report.html().context("cannot make the report")?;
        fs::write(&self.page, page).map_err(|source| Failure::write(&self.page, source))?;
        let shown = self.page.canonicalize().unwrap_or_else(|_| self.page.clone());
        Ok(shown.display().to_string())
    }
}
