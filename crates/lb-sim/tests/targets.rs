//! The rule of least load reaches what it is meant to reach, on fixed seeds, in the same run as its oracle.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use lb_sim::{
    evidence::{BLIND, JUDGED, Limit, Target, targets},
    run,
};

fn check(part: usize, parts: usize) {
    let missed: Vec<String> = targets()
        .iter()
        .enumerate()
        .filter(|(place, _)| place % parts == part)
        .filter_map(|(_, target)| miss(target))
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

fn miss(target: &Target) -> Option<String> {
    let summary = run(&target.scenario);
    let p99 = |rule| summary.row(rule).expect("it was run").p99;
    let oracle = summary.oracle().expect("it was run").p99;
    let (found, limit) = match target.limit {
        Limit::Oracle(limit) => (p99(JUDGED) / oracle, limit),
        Limit::Blind(limit) => (p99(JUDGED) / p99(BLIND), limit),
    };
    let limit = target.held.unwrap_or(limit);
    (found > limit).then(|| format!("{}: {found:.3}, limit {limit}", summary.name))
}

// Two halves, so that two cores share the work.
#[test]
fn even_cases_are_reached() {
    check(0, 2);
}

#[test]
fn odd_cases_are_reached() {
    check(1, 2);
}
