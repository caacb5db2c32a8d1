//! The templates, filled with results that nobody measured.

use serde_json::json;

use crate::{commands::bench::run::BUILT_IN, report::sweep::IntervalSweep};

use super::super::{
    context::{Form, context, expected_policies},
    results::Results,
};
use super::*;

/// How many times as long as the others' `least_load`'s times are, case by case.
fn results(of_least_load: f64) -> Results {
    let mut results = Results::default();
    for (name, _) in BUILT_IN {
        let policies = expected_policies(name);
        let outcome = outcome(name, &policies, of_least_load);
        results.cases.insert(name.to_owned(), serde_json::from_value(outcome).unwrap());
    }
    results
}

fn outcome(name: &str, policies: &[String], of_least_load: f64) -> Value {
    let factor = |policy: &str| match policy {
        "pick_first" => 10.0,
        "least_load" => of_least_load,
        _ => 1.0,
    };
    let run = |policy: &str, repeat: u32| {
        let scale = factor(policy) * (1.0 + f64::from(repeat) / 100.0);
        let time = |us: f64| (us * scale).round();
        json!({
            "name": policy, "load": "l", "elapsed_seconds": 1.0, "requests": 100, "failures": {},
            "cancelled": false, "abandoned": 0, "throughput_per_second": 190.0 / scale,
            "response": {
                "mean_us": 400e3 * scale, "p50_us": whole(time(350e3)), "p90_us": whole(time(450e3)),
                "p99_us": whole(time(500e3)), "p999_us": whole(time(510e3)), "max_us": whole(time(515e3)),
            },
            "response_cdf": [
                { "time_us": 1000, "fraction": 0.0 }, { "time_us": 500_000, "fraction": 1.0 },
            ],
            "pick": null, "queued": null, "service": null, "workers": [], "utilisation": [],
            "pace": null,
        })
    };
    let repeats: Vec<Value> =
        (0..5).flat_map(|repeat| policies.iter().map(move |policy| run(policy, repeat))).collect();
    let spread = |policy: &String| {
        let range = |us: f64| {
            let median = us * factor(policy);
            json!({ "median": median, "min": median * 0.9, "max": median * 1.1 })
        };
        json!({
            "name": policy, "repeats": 5, "cancelled": 0, "late": 0, "held": 0, "requests": 500,
            "failures": {}, "throughput_per_second": range(190.0), "pick": null,
            "response": {
                "mean_us": range(400e3), "p50_us": range(350e3), "p90_us": range(450e3),
                "p99_us": range(500e3), "p999_us": range(510e3), "max_us": range(515e3),
            },
            "limit_us": name.starts_with("sleep-").then_some(500e3),
        })
    };
    json!({
        "kind": "lbctl bench run", "scenario": name, "settings": { "calls": { "clients": 100 } },
        "title": "t", "description": "What | was <measured>.", "repeats": repeats,
        "runs": repeats[..policies.len()],
        "environment": {
            "command_line": format!("lbctl bench run {name}"), "date": "today", "machine": "m",
            "cores": 2, "versions": { "lbctl": "0.1.0", "commit": "abc" },
        },
        "spreads": policies.iter().map(spread).collect::<Vec<_>>(),
    })
}

fn whole(value: f64) -> u64 {
    format!("{value}").parse().unwrap()
}

fn simulated(results: &mut Results, of_least_load: f64) {
    let rules = [("oracle_queue", 1.0), ("least_load", of_least_load), ("p2c", 1.2)];
    let rules = rules.into_iter().chain([("round_robin", 1.5), ("naive_least_load", 90.0)]);
    let points: Vec<Value> = rules
        .flat_map(|(rule, over)| {
            [20.0, 1000.0].map(|interval| {
                json!({
                    "load": 0.9, "interval_ms": interval, "rule": rule, "p99_ms": 200.0 * over,
                    "p99_over_oracle": over,
                })
            })
        })
        .collect();
    let sweep = json!({ "what": "10 workers", "command": "c", "points": points });
    results.sweep = Some(serde_json::from_value::<IntervalSweep>(sweep).unwrap());
    let target = |case: &str, ratio: f64| json!({ "case": case, "rules": [], "ratio": ratio, "limit": 1.1, "against": "oracle" });
    let evidence = json!({
        "command": "c",
        "targets": [target("outcomes known, x", of_least_load), target("a report every 1 s, x", 1.1)],
        "hundred_workers_of_one_slot": [{
            "case": "x",
            "rules": [{ "rule": "least_load", "p99_over_oracle": null, "mean_over_oracle": 1.0 }],
        }],
    });
    results.evidence = Some(serde_json::from_value(evidence).unwrap());
}

fn wire(results: &mut Results, session: f64) {
    let bound = |way: &str, median: f64| {
        json!({
            "what": format!("call, {way} pick: CPU against direct"), "limit": 1.25,
            "at_least": false, "values": [], "median": median, "reached": true,
        })
    };
    let wire = json!({
        "environment": { "machine": "m", "cores": 2, "commit": "abc", "date": "today" },
        "rounds": 5, "bounds": [bound("local", 1.05), bound("session", session), bound("unary", 1.9)],
    });
    results.wire = Some(serde_json::from_value(wire).unwrap());
}

fn filled(results: &Results) -> String {
    let form = Form::Markdown { folder: "report".to_owned() };
    let (values, _) = context(results, &form).unwrap();
    let text = fill(&values).unwrap();
    assert!(!text.contains("{{") && !text.contains("{%"), "{text}");
    text
}

#[test]
fn without_results_the_document_says_so() {
    let text = filled(&Results::default());
    assert!(text.matches("*Not measured.*").count() >= 12, "{text}");
    for claim in ["`least_load` is the default", "every repeat)", "Every client counts"] {
        assert!(!text.contains(claim), "{claim}\n{text}");
    }
}

#[test]
fn claims_follow_the_figures() {
    let mut ahead = results(0.5);
    simulated(&mut ahead, 1.05);
    wire(&mut ahead, 1.2);
    let ahead = filled(&ahead);
    for claim in [
        "`least_load` 250 ms, `round_robin` 500 ms (2.00 times as long under `round_robin`, and longer in every repeat)",
        "it is nowhere behind",
        "longer in none",
        "It is never above round robin.",
        "That difference is what the session is for.",
        "A pick over the session is the dearer one, by 15% of a call",
        "Every client counts: 100 calls in each of 5 repeats, none failed",
        "![t](report/unequal.svg)",
    ] {
        assert!(ahead.contains(claim), "{claim}\n{ahead}");
    }
    assert!(!ahead.contains("*Not measured.*"), "{ahead}");
    let mut behind = results(2.0);
    simulated(&mut behind, 1.8);
    wire(&mut behind, 1.0);
    let behind = filled(&behind);
    for claim in [
        "(2.00 times as long under `least_load`, and longer in every repeat)",
        "`least_load` is the default, though not ahead everywhere",
        "**longer** in homogeneous, unequal,",
        "**worse** than round robin: 1.20 times its p99",
        "**missed** by",
        "In these cases the session gains nothing.",
        "A pick over the session is no dearer than a local one.",
    ] {
        assert!(behind.contains(claim), "{claim}\n{behind}");
    }
    for claim in ["nowhere behind", "what the session is for", "Only the policy that looks at load"]
    {
        assert!(!behind.contains(claim), "{claim}\n{behind}");
    }
    let equal = filled(&results(1.0));
    assert!(equal.contains("(not to be told apart: no difference above 3%"), "{equal}");
}

#[test]
fn a_case_that_was_cut_short_is_shown_and_not_analysed() {
    let mut results = results(0.5);
    let unequal = results.cases.get_mut("unequal").unwrap();
    unequal.report.spreads.retain(|spread| spread.name != "round_robin");
    let sleep = results.cases.get_mut("sleep-10x10").unwrap();
    sleep.report.spreads[0].response = None;
    sleep.report.spreads[0].late = 5;
    let text = filled(&results);
    assert_eq!(text.matches("so this case is not analysed").count(), 2, "{text}");
    assert!(
        text.contains("the generator itself did not keep the rate in 5 of the repeats"),
        "{text}"
    );
}

#[test]
fn tables_hold_text_from_files_as_text() {
    let text = filled(&results(1.0));
    assert!(text.contains("What \\| was &lt;measured>."), "{text}");
    assert!(text.contains("| `least_load` | 400 ms (360–440 ms) | 350 ms |"), "{text}");
    assert!(text.contains("| 500 ms | 1.03 | 190 | 0 |"), "{text}");
    assert!(text.contains("| burst | today | 0.1.0 | abc | `lbctl bench run burst` |"), "{text}");
    assert!(!text.contains("\n\n\n"), "{text}");
}

#[test]
fn the_page_has_its_plots_inside() {
    let mut results = results(0.5);
    simulated(&mut results, 1.1);
    let (values, files) = context(&results, &Form::Html).unwrap();
    assert!(files.is_empty());
    let page = super::super::page::from_markdown(&fill(&values).unwrap());
    assert!(page.contains("<title>Which policy wins where</title>"));
    assert!(page.matches("<figure").count() > BUILT_IN.len());
    for outside in ["http://", "https://", "src=", "href=", "url(", "@import", "<script", "{{"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn every_built_in_scenario_has_its_place() {
    let templates: String = TEMPLATES.iter().map(|(_, text)| *text).collect();
    for (name, _) in BUILT_IN {
        assert!(templates.contains(&format!("\"{name}\"")), "the templates lack {name}");
    }
}
