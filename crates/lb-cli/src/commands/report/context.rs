//! What templates know: every figure as a number, and what may be claimed about it.
//!
//! | value | is |
//! |---|---|
//! | `cases.NAME` | a measured scenario; not defined without a result |
//! | `….about`, `….table`, `….plots`, `….runs` | for the document as they stand; the runs one by one |
//! | `….analysed` | all policies were measured to the end, and those that are compared have times often enough |
//! | `….POLICY.FIGURE` | the median over the repeats: times in µs, parts from 0 to 1 |
//! | `….compare.ONE.OTHER.FIGURE` | `less`, `more` or `same`, see [`super::compare`] |
//! | `….phases` | where the rate changes, `rate`, `answered` and `failed` a second at each |
//! | `measured`, `same_machine` | where, when and how each case was measured |
//! | `evidence`, `wire` | other result files, as they are; `none` without |
//! | `sweep` | `loads`, one for each load with the worst of each rule, and `plots` |

use serde_json::{Map, Value, json};

use crate::{
    commands::bench::run::BUILT_IN,
    environment::COMMIT,
    load::{PhaseResult, RunResult},
    outcome::Outcome,
    report::{Plots, ReportError, Spread, TimeRanges, sweep::IntervalSweep},
};

use super::{
    compare::comparisons,
    results::{Bound, Evidence, EvidenceTarget, Results, Wire},
    table,
};

/// Fewer repeats than these prove nothing.
const ENOUGH_REPEATS: usize = 3;

/// What the document is written in.
#[derive(Debug)]
pub(super) enum Form {
    /// Its plots are files in this folder.
    Markdown { folder: String },
    /// Its plots stand inside.
    Html,
}

/// Plots of a document: their file names and what stands in the files.
pub(super) type Files = Vec<(String, String)>;

/// Everything, and the plots that have to be written as files.
pub(super) fn context(results: &Results, form: &Form) -> Result<(Value, Files), ReportError> {
    let mut files = Vec::new();
    let mut cases = Map::new();
    for (name, outcome) in &results.cases {
        let plots = match form {
            Form::Markdown { .. } => Plots::main_of(&outcome.report)?,
            Form::Html => Plots::all_of(&outcome.report)?,
        };
        cases.insert(name.clone(), case(name, outcome, shown(&plots, name, form, &mut files)));
    }
    let sweep = match &results.sweep {
        None => Value::Null,
        Some(sweep) => {
            let plots = Plots::of_sweep(sweep)?;
            sweep_values(sweep, &shown(&plots, "p99-by-interval", form, &mut files))
        }
    };
    let measured: Vec<Value> =
        results.cases.iter().map(|(name, case)| origin(name, case)).collect();
    let same_machine = measured
        .windows(2)
        .all(|two| two[0]["machine"] == two[1]["machine"] && two[0]["cores"] == two[1]["cores"]);
    let values = json!({
        "cases": cases,
        "measured": measured,
        "same_machine": same_machine,
        "sweep": sweep,
        "evidence": results.evidence.as_ref().map(evidence_values),
        "wire": results.wire.as_ref().map(wire_values),
    });
    Ok((values, files))
}

/// Plots as they stand in the text.
fn shown(plots: &Plots, name: &str, form: &Form, files: &mut Files) -> String {
    match form {
        _ if plots.is_empty() => String::new(),
        Form::Html => plots.html(),
        Form::Markdown { folder } => {
            let file = format!("{name}.svg");
            let text = format!("![{}]({folder}/{file})", table::markdown(plots.title()));
            files.push((file, plots.svg()));
            text
        }
    }
}

fn case(name: &str, outcome: &Outcome, plots: String) -> Value {
    let spreads = &outcome.report.spreads;
    let mut values = Map::new();
    for spread in spreads {
        values.insert(spread.name.clone(), policy(spread));
    }
    let complete = |policy: &String| {
        let spread = spreads.iter().find(|spread| spread.name == *policy);
        spread.is_some_and(|spread| {
            // Of pick_first the text needs what it answered and what not: times only where it asks for them.
            let times = spread.repeats.saturating_sub(spread.late);
            let has_times = times >= ENOUGH_REPEATS || policy == "pick_first";
            has_times && spread.cancelled == 0
        })
    };
    let runs = outcome.repeats.iter().map(|run| {
        let of_all = spreads.iter().find(|spread| spread.name == run.name);
        json!({
            "policy": run.name,
            "mean": run.response.as_ref().map(|times| times.mean_us),
            "p99": run.response.as_ref().map(|times| times.p99_us),
            "max": run.response.as_ref().map(|times| times.max_us),
            "over": run.response.as_ref().zip(of_all.and_then(|spread| spread.limit_us))
                .map(|(times, limit)| times.max_us as f64 / limit),
            "rate": run.throughput_per_second,
            "calls": run.requests,
            "failed": run.failed(),
        })
    });
    values.insert("runs".to_owned(), runs.collect());
    values.insert("title".to_owned(), outcome.report.title.clone().into());
    values.insert("about".to_owned(), table::markdown(&outcome.report.description).into());
    values.insert("table".to_owned(), table::table(outcome).into());
    values.insert("plots".to_owned(), plots.into());
    values.insert("settings".to_owned(), outcome.settings.clone());
    values.insert("cores".to_owned(), outcome.report.environment.cores.into());
    values.insert("repeats".to_owned(), spreads.iter().map(|spread| spread.repeats).max().into());
    values.insert("analysed".to_owned(), expected_policies(name).iter().all(complete).into());
    values.insert("compare".to_owned(), comparisons(&outcome.repeats));
    values.insert("phases".to_owned(), phases(&outcome.repeats));
    values.into()
}

/// What became of the calls at each rate, where the rate changed: medians over all runs.
fn phases(runs: &[RunResult]) -> Value {
    let count = runs.first().map_or(0, |run| run.phases.len());
    let of = |place: usize| {
        let median = |read: fn(&PhaseResult) -> f64| {
            let mut found: Vec<f64> =
                runs.iter().filter_map(|run| run.phases.get(place)).map(read).collect();
            found.sort_by(f64::total_cmp);
            found.get(found.len() / 2).copied()
        };
        json!({
            "rate": median(|phase| phase.rate_per_second),
            "answered": median(|phase| phase.answered_per_second),
            "failed": median(|phase| phase.failed_per_second),
        })
    };
    (0..count).map(of).collect()
}

/// The policies that the built-in scenario of this name compares: the text speaks of them.
pub(super) fn expected_policies(name: &str) -> Vec<String> {
    let text = BUILT_IN.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| *text);
    let policies = toml::from_str::<toml::Table>(text).ok();
    let policies = policies.and_then(|table| table.get("policies")?.clone().try_into().ok());
    policies
        .unwrap_or_else(|| ["pick_first", "round_robin", "least_load"].map(str::to_owned).to_vec())
}

/// The figures of a policy. What is not known is not defined.
fn policy(spread: &Spread) -> Value {
    let mut values = Map::new();
    let mut put = |name: &str, value: Option<f64>| {
        values.extend(value.map(|value| (name.to_owned(), Value::from(value))));
    };
    let response = |read: fn(&TimeRanges) -> f64| spread.response.as_ref().map(read);
    put("mean", response(|times| times.mean_us.median));
    put("p50", response(|times| times.p50_us.median));
    put("p90", response(|times| times.p90_us.median));
    put("p99", response(|times| times.p99_us.median));
    put("p999", response(|times| times.p999_us.median));
    put("max", response(|times| times.max_us.median));
    put("greatest_max", response(|times| times.max_us.max));
    let pick = |read: fn(&TimeRanges) -> f64| spread.pick.as_ref().map(read);
    put("pick_p50", pick(|times| times.p50_us.median));
    put("pick_p99", pick(|times| times.p99_us.median));
    put("limit", spread.limit_us);
    put("over", spread.over_limit());
    put("rate", Some(spread.throughput_per_second.median));
    put("failed", Some(spread.failed() as f64 / spread.requests.max(1) as f64));
    values.insert("calls".to_owned(), spread.requests.into());
    values.insert("failed_calls".to_owned(), spread.failed().into());
    values.insert("late".to_owned(), spread.late.into());
    values.into()
}

/// Where, when, from which source and by which command a case was measured.
fn origin(name: &str, outcome: &Outcome) -> Value {
    let environment = &outcome.report.environment;
    let version = |program| environment.versions.get(program).map(|text| table::markdown(text));
    json!({
        "case": name,
        "machine": table::markdown(&environment.machine),
        "cores": environment.cores,
        "date": table::markdown(&environment.date),
        "version": version("lbctl"),
        "commit": version(COMMIT),
        "command": table::markdown(&environment.command_line).replace('`', "'"),
    })
}

fn evidence_values(evidence: &Evidence) -> Value {
    let target = |target: &EvidenceTarget| {
        json!({
            "case": table::markdown(&target.case.case),
            "ratio": target.ratio,
            "limit": target.limit,
            "against": target.against,
            "reached": target.is_reached(),
        })
    };
    json!({
        "command": evidence.command,
        "targets": evidence.targets.iter().map(target).collect::<Vec<_>>(),
        "hundred_workers_of_one_slot": evidence.hundred_workers_of_one_slot,
    })
}

fn wire_values(wire: &Wire) -> Value {
    let bound = |bound: &Bound| {
        json!({
            "what": table::markdown(&bound.what),
            "limit": bound.limit,
            "at_least": bound.at_least,
            "median": bound.median,
            "reached": bound.is_reached(),
        })
    };
    let environment = &wire.environment;
    json!({
        "machine": table::markdown(&environment.machine),
        "cores": environment.cores,
        "commit": table::markdown(&environment.commit),
        "date": table::markdown(&environment.date),
        "rounds": wire.rounds,
        "bounds": wire.bounds.iter().map(bound).collect::<Vec<_>>(),
    })
}

/// Who is where when reports grow old.
fn sweep_values(sweep: &IntervalSweep, plots: &str) -> Value {
    let load = |percent: u32| {
        let of = |rule: &str| -> Vec<(f64, f64)> {
            let own = sweep.at(percent).filter(|point| point.rule == rule);
            own.map(|point| (point.interval_ms * 1e3, point.p99_over_oracle)).collect()
        };
        let worst = |rule: &str| {
            let worst = of(rule).into_iter().max_by(|one, other| one.1.total_cmp(&other.1));
            worst.map(|(interval, over)| json!({ "interval": interval, "over": over }))
        };
        let (naive, blind, ours) = (of("naive_least_load"), of("round_robin"), of("least_load"));
        // The points of all rules stand in the same order of intervals.
        let loses = naive.iter().zip(&blind).find(|((_, naive), (_, blind))| naive > blind);
        let most_over_blind = ours.iter().zip(&blind).map(|((_, ours), (_, blind))| ours / blind);
        let most_over_two = ours.iter().zip(of("p2c")).map(|((_, ours), (_, two))| ours / two);
        json!({
            "percent": percent,
            "least_load": worst("least_load"),
            "p2c": worst("p2c"),
            "round_robin": worst("round_robin"),
            "naive": worst("naive_least_load"),
            "naive_loses_from": loses.map(|((interval, _), _)| interval),
            "most_over_round_robin": most_over_blind.reduce(f64::max),
            "most_over_p2c": most_over_two.reduce(f64::max),
        })
    };
    let loads: Vec<Value> = sweep.loads().into_iter().map(load).collect();
    json!({ "what": sweep.what, "command": sweep.command, "loads": loads, "plots": plots })
}
