//! Compares the planner with one that knows what is to come, and writes `docs/results/scaling.json`.
//!
//! With arguments it only prints: the cases whose name contains the first one, on the seeds that follow it.
#![expect(clippy::print_stdout, reason = "a command for people")]

use std::{env, fs};

use lb_sim::{
    evidence::JUDGED,
    scaling::{
        Outcome,
        cases::{LIMIT, cases},
        compare,
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
        if part.is_none() {
            let file = json!({
                "command": "cargo run --release -p lb-sim --example scaling",
                "scaling": rows,
            });
            fs::write(FILE, format!("{file:#}\n"))?;
        }
    }
    Ok(())
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
