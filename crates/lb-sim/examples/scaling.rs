//! Compares the planner with one that knows what is to come, and writes `docs/results/scaling.json`.
//!
//! With arguments it only prints: the cases whose name contains the first one, on the seeds that follow it.
#![expect(clippy::print_stdout, reason = "a command for people")]

use std::{env, fs, time::Duration};

use lb_sim::{
    evidence::JUDGED,
    scaling::{
        Outcome,
        cases::{LIMIT, STEP_AT, cases, step},
        compare, outcome,
    },
};
use serde_json::{Value, json};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/results/scaling.json");

fn main() -> std::io::Result<()> {
    let mut arguments = env::args().skip(1);
    let part = arguments.next();
    let seeds: Vec<u64> = arguments.filter_map(|seed| seed.parse().ok()).collect();
    let mut rows = Vec::new();
    for case in cases() {
        let mut scenario = case.scenario;
        if part.as_ref().is_some_and(|part| !scenario.name.contains(part.as_str())) {
            continue;
        }
        if !seeds.is_empty() {
            scenario.seeds.clone_from(&seeds);
        }
        let found = compare(&scenario, JUDGED);
        let ratio = found.ratio();
        println!(
            "{:<48} {ratio:.3} of {LIMIT:.2} {}\n  {:?}\n  {:?} {:?}",
            scenario.name,
            if ratio <= LIMIT { "" } else { "MISSED" },
            found.planner,
            found.clairvoyant,
            found.staffing
        );
        rows.push(json!({
            "case": scenario.name,
            "seeds": scenario.seeds,
            "seconds": scenario.length.as_secs(),
            "ratio": rounded(ratio),
            "limit": LIMIT,
            "met": ratio <= LIMIT,
            "planner": table(&found.planner),
            "clairvoyant": table(&found.clairvoyant),
            "staffing": format!("{:?}", found.staffing),
        }));
    }
    let cold = cold_starts();
    if part.is_none() {
        let file = json!({
            "command": "cargo run --release -p lb-sim --example scaling",
            "scaling": rows,
            "cold_starts": cold,
        });
        fs::write(FILE, format!("{file:#}\n"))?;
    }
    Ok(())
}

/// What it costs that new workers are slow at first, in the half minute after a step in load: as much as a slow start could
/// gain, if it were perfect and cost nothing.
fn cold_starts() -> Vec<Value> {
    let cases = [2.0, 3.0, 4.0].map(|times| {
        let mut scenario = step(times);
        scenario.seeds = (21..=40).collect();
        (scenario.warm_up, scenario.length) = (STEP_AT, STEP_AT + Duration::from_secs(30));
        let cold = outcome(&scenario, JUDGED);
        if let Some(scaling) = &mut scenario.scaling {
            scaling.cold = Duration::ZERO;
        }
        let warm = outcome(&scenario, JUDGED);
        let ratio = cold.p99 / warm.p99;
        println!(
            "{}: p99 {:.0} ms, without cold workers {:.0} ms, {ratio:.3}",
            scenario.name, cold.p99, warm.p99
        );
        json!({
            "case": scenario.name,
            "seconds_after_the_step": 30,
            "seeds": scenario.seeds,
            "p99_ms": rounded(cold.p99),
            "p99_without_cold_workers_ms": rounded(warm.p99),
            "ratio": rounded(ratio),
        })
    });
    cases.to_vec()
}

fn table(outcome: &Outcome) -> Value {
    json!({
        "p99_ms": rounded(outcome.p99),
        "worker_hours": rounded(outcome.worker_hours),
        "changes": outcome.changes,
        "failed": outcome.failed,
        "most_workers": outcome.most,
    })
}

fn rounded(value: f64) -> Value {
    json!((value * 1_000.0).round() / 1_000.0)
}
