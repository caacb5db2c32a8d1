//! Runs the cases by which `least_load` is judged and writes `docs/results/least_load_evidence.json`.
//!
//! With arguments it only prints: the cases whose name contains the first one, on the seeds that follow it.
#![expect(clippy::print_stdout, reason = "a command for people")]

use std::{env, fs};

use lb_sim::{
    Row, Scenario, Summary,
    evidence::{BLIND, JUDGED, Limit, known_rows, targets},
    run,
};
use serde_json::{Value, json};

const FILE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/results/least_load_evidence.json");

fn main() -> std::io::Result<()> {
    let mut arguments = env::args().skip(1);
    let part = arguments.next();
    let seeds: Vec<u64> = arguments.filter_map(|seed| seed.parse().ok()).collect();
    let chosen = |scenario: &Scenario| {
        part.as_ref().is_none_or(|part| scenario.name.contains(part.as_str()))
    };
    let mut cases = Vec::new();
    for mut target in targets().into_iter().filter(|target| chosen(&target.scenario)) {
        if !seeds.is_empty() {
            target.scenario.seeds.clone_from(&seeds);
        }
        let summary = run(&target.scenario);
        let row = |rule| summary.row(rule).map_or(f64::NAN, |row| row.p99);
        let (found, limit, against) = match target.limit {
            Limit::Oracle(limit) => (summary.ratio(JUDGED).unwrap_or(f64::NAN), limit, "oracle"),
            Limit::Blind(limit) => (row(JUDGED) / row(BLIND), limit, "round_robin"),
        };
        let met = found <= limit;
        println!(
            "{:<52} {found:.3} of {limit:.2} {}",
            summary.name,
            if met { "" } else { "MISSED" }
        );
        let mut case = table(&target.scenario, &summary);
        case["limit"] = json!(limit);
        case["against"] = json!(against);
        case["ratio"] = rounded(found);
        case["met"] = json!(met);
        cases.push(case);
    }
    let mut rows = Vec::new();
    for mut scenario in known_rows().into_iter().filter(chosen) {
        if !seeds.is_empty() {
            scenario.seeds.clone_from(&seeds);
        }
        let summary = run(&scenario);
        println!("{summary}");
        rows.push(table(&scenario, &summary));
    }
    if part.is_some() {
        return Ok(());
    }
    let file = json!({
        "command": "cargo run --release -p lb-sim --example evidence",
        "targets": cases,
        "hundred_workers_of_one_slot": rows,
    });
    fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/results"))?;
    fs::write(FILE, format!("{file:#}\n"))
}

fn table(scenario: &Scenario, summary: &Summary) -> Value {
    let line = |row: &Row| {
        json!({
            "rule": row.rule.name(),
            "mean_ms": rounded(row.mean),
            "p99_ms": rounded(row.p99),
            "p99_over_oracle": summary.ratio(row.rule).map(rounded),
            "mean_over_oracle": summary.oracle().map(|oracle| rounded(row.mean / oracle.mean)),
        })
    };
    json!({
        "case": summary.name,
        "seeds": scenario.seeds,
        "seconds": scenario.length.as_secs(),
        "calls": summary.rows.first().map(|row| row.offered),
        "rules": summary.rows.iter().map(line).collect::<Vec<_>>(),
    })
}

fn rounded(value: f64) -> Value {
    json!((value * 1_000.0).round() / 1_000.0)
}
