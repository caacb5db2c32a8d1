//! How p99 grows with the time between reports, by rule; writes `docs/results/interval_sweep.json`.
#![expect(clippy::print_stdout, reason = "a command for people")]

use std::{fs, time::Duration};

use lb_core::policy::PolicyKind;
use lb_sim::{Reports, Rule, Scenario, run};
use serde_json::json;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/results/interval_sweep.json");

const INTERVALS_MS: [u64; 10] = [5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

const RULES: [Rule; 5] = [
    Rule::ShortestQueue,
    Rule::Core(PolicyKind::LeastLoad),
    Rule::Core(PolicyKind::PowerOfTwo),
    Rule::Core(PolicyKind::RoundRobin),
    Rule::NaiveLeastLoad,
];

fn main() -> std::io::Result<()> {
    let mut points = Vec::new();
    for load in [0.7, 0.9] {
        for milliseconds in INTERVALS_MS {
            let interval = Duration::from_millis(milliseconds);
            let mut scenario = Scenario {
                name: format!("a report every {milliseconds} ms, {:.0} % load", load * 100.0),
                rules: RULES.to_vec(),
                reports: Reports::Periodic { interval },
                warm_up: Duration::from_secs(20),
                ..Scenario::usual()
            };
            scenario.set_load(load);
            let summary = run(&scenario);
            println!("{summary}");
            points.extend(summary.rows.iter().map(|row| {
                json!({
                    "load": load,
                    "interval_ms": milliseconds,
                    "rule": row.rule.name(),
                    "mean_ms": row.mean,
                    "p50_ms": row.p50,
                    "p99_ms": row.p99,
                    "p99_over_oracle": summary.ratio(row.rule),
                })
            }));
        }
    }
    let file = json!({
        "command": "cargo run --release -p lb-sim --example interval_sweep",
        "what": "10 workers of 4 slots, 50 ms exponential calls, one balancer, unary picks, 3 seeds of 120 s",
        "points": points,
    });
    fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/results"))?;
    fs::write(FILE, format!("{file:#}\n"))
}
