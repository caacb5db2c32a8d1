//! Puts figures into the places that a template leaves for them.
//!
//! | placeholder | becomes |
//! |---|---|
//! | `{{machines}}` | where, when and how each case was measured |
//! | `{{CASE.about}}` | what was measured |
//! | `{{CASE.table}}` | the figures of all policies |
//! | `{{CASE.POLICY.FIGURE}}` | one figure: the median over the repeats |
//! | `{{CASE.POLICY.FIGURE/OTHER}}` | how many times the same figure of another policy |

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    commands::bench::run::BUILT_IN,
    environment::COMMIT,
    outcome::Outcome,
    report::{
        Range, Spread, TimeRanges,
        units::{
            NOTHING, count, duration, duration_or_nothing, duration_range, percent, rate, ratio,
            times,
        },
    },
};

/// A mistake in a template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FillError {
    #[error("placeholder {{{{{0}}}}} is not known")]
    Unknown(String),
    #[error("a placeholder is not closed: {0:?}")]
    Open(String),
}

/// Stands for the table of a case that has no result.
const NOT_MEASURED: &str = "*Not measured.*";

/// The template with all placeholders filled. A case without a result says so.
pub(super) fn fill(
    template: &str,
    results: &BTreeMap<String, Outcome>,
) -> Result<String, FillError> {
    let mut text = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let (placeholder, after) = after
            .split_once("}}")
            .ok_or_else(|| FillError::Open(after.chars().take(40).collect()))?;
        let filled = value(placeholder, results);
        text.push_str(&filled.ok_or_else(|| FillError::Unknown(placeholder.to_owned()))?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

/// What a placeholder stands for; `None` when it is not known.
fn value(placeholder: &str, results: &BTreeMap<String, Outcome>) -> Option<String> {
    if placeholder == "machines" {
        return Some(machines(results));
    }
    let mut words = placeholder.split('.');
    let (case, what) = (words.next()?, words.next()?);
    BUILT_IN.iter().find(|(name, _)| *name == case)?;
    let result = results.get(case);
    match (what, words.next()) {
        ("table", None) => Some(result.map_or(NOT_MEASURED.to_owned(), table)),
        ("about", None) => {
            Some(result.map_or(String::new(), |result| markdown(&result.report.description)))
        }
        (policy, Some(figure)) => one(result, policy, figure),
        _ => None,
    }
}

/// One figure, or a ratio of two.
fn one(result: Option<&Outcome>, policy: &str, figure: &str) -> Option<String> {
    let spread = |name: &str| {
        let spreads = &result?.report.spreads;
        spreads.iter().find(|spread| spread.name == name)
    };
    match figure.split_once('/') {
        None => {
            let (read, show) = reader(figure)?;
            Some(spread(policy).and_then(read).map_or(NOTHING.to_owned(), show))
        }
        Some((figure, other)) => {
            let (read, _) = reader(figure)?;
            let pair = spread(policy).and_then(read).zip(spread(other).and_then(read));
            Some(pair.map_or(NOTHING.to_owned(), |(one, other)| times(one / other)))
        }
    }
}

type Reader = (fn(&Spread) -> Option<f64>, fn(f64) -> String);

/// How to read a figure, and how to show it.
fn reader(figure: &str) -> Option<Reader> {
    Some(match figure {
        "mean" => (|spread| Some(spread.response.as_ref()?.mean_us.median), duration),
        "p50" => (|spread| Some(spread.response.as_ref()?.p50_us.median), duration),
        "p90" => (|spread| Some(spread.response.as_ref()?.p90_us.median), duration),
        "p99" => (|spread| Some(spread.response.as_ref()?.p99_us.median), duration),
        "p999" => (|spread| Some(spread.response.as_ref()?.p999_us.median), duration),
        "max" => (|spread| Some(spread.response.as_ref()?.max_us.median), duration),
        "pick_p50" => (|spread| Some(spread.pick.as_ref()?.p50_us.median), duration),
        "pick_p99" => (|spread| Some(spread.pick.as_ref()?.p99_us.median), duration),
        "limit" => (|spread| spread.limit_us, duration),
        "over" => (Spread::over_limit, ratio),
        "rate" => (|spread| Some(spread.throughput_per_second.median), rate),
        "failed" => (failed_part, percent),
        _ => return None,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "one of several readers")]
fn failed_part(spread: &Spread) -> Option<f64> {
    Some(spread.failed() as f64 / spread.requests.max(1) as f64)
}

/// All figures of a case: medians, and for the most quoted ones the range.
fn table(outcome: &Outcome) -> String {
    let spreads = &outcome.report.spreads;
    let with_limit = spreads.iter().any(|spread| spread.limit_us.is_some());
    let mut head = vec![
        "policy", "mean", "p50", "p90", "p99", "p99.9", "max", "req/s", "failed", "pick p50",
        "pick p99",
    ];
    if with_limit {
        head.splice(7..7, ["limit", "max ÷ limit"]);
    }
    let mut text = format!("| {} |\n|---|{}\n", head.join(" | "), "---:|".repeat(head.len() - 1));
    for spread in spreads {
        let _infallible = writeln!(text, "| {} |", row(spread, with_limit).join(" | "));
    }
    let repeats = spreads.iter().map(|spread| spread.repeats).max().unwrap_or(0);
    let calls: u64 = spreads.iter().map(|spread| spread.requests).sum();
    let of = match repeats {
        0 | 1 => "One run".to_owned(),
        _ => format!(
            "Medians of {repeats} interleaved repeats, in brackets the least and the greatest"
        ),
    };
    let _infallible = write!(text, "\n{of}; {} calls in all.", count(calls));
    for spread in spreads.iter().filter(|spread| spread.late > 0) {
        let _infallible = write!(
            text,
            " Under `{}` the generator itself did not keep the rate in {} of the repeats, whose times are left \
             out.",
            spread.name, spread.late
        );
    }
    text
}

fn row(spread: &Spread, with_limit: bool) -> Vec<String> {
    let median = |times: &Option<TimeRanges>, read: fn(&TimeRanges) -> Range| {
        duration_or_nothing(times.as_ref().map(|times| read(times).median))
    };
    let with_range = |read: fn(&TimeRanges) -> Range| {
        let Some(range) = spread.response.as_ref().map(read) else { return NOTHING.to_owned() };
        if spread.repeats < 2 {
            return duration(range.median);
        }
        format!("{} ({})", duration(range.median), duration_range(range.min, range.max))
    };
    let mut row = vec![
        format!("`{}`", spread.name),
        with_range(|times| times.mean_us),
        median(&spread.response, |times| times.p50_us),
        median(&spread.response, |times| times.p90_us),
        with_range(|times| times.p99_us),
        median(&spread.response, |times| times.p999_us),
        with_range(|times| times.max_us),
    ];
    if with_limit {
        row.push(duration_or_nothing(spread.limit_us));
        row.push(spread.over_limit().map_or(NOTHING.to_owned(), ratio));
    }
    let failures: Vec<String> = spread
        .failures
        .iter()
        .map(|(status, failed)| format!("{} {status}", count(*failed)))
        .collect();
    row.extend([
        rate(spread.throughput_per_second.median),
        if failures.is_empty() { "0".to_owned() } else { markdown(&failures.join(", ")) },
        median(&spread.pick, |times| times.p50_us),
        median(&spread.pick, |times| times.p99_us),
    ]);
    row
}

/// Where, when, from which source and by which command each case was measured.
fn machines(results: &BTreeMap<String, Outcome>) -> String {
    if results.is_empty() {
        return NOT_MEASURED.to_owned();
    }
    let mut text = String::from(
        "| case | machine | processors | date | version | commit | command |\n|---|---|---:|---|---|---|---|\n",
    );
    for (name, _) in BUILT_IN {
        let Some(result) = results.get(name) else { continue };
        let environment = &result.report.environment;
        let version = |program: &str| {
            environment
                .versions
                .get(program)
                .map_or(NOTHING.to_owned(), |version| markdown(version))
        };
        let _infallible = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | `{}` |",
            markdown(&environment.machine),
            environment.cores,
            markdown(&environment.date),
            version("lbctl"),
            version(COMMIT),
            markdown(&environment.command_line).replace('`', "'"),
        );
    }
    text.trim_end().to_owned()
}

/// Text from a file, fit for a line and for a cell of a table.
fn markdown(text: &str) -> String {
    let printable = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    printable.collect::<String>().replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn range(median: f64) -> serde_json::Value {
        json!({ "median": median, "min": median * 0.9, "max": median * 1.1 })
    }

    fn spread(name: &str, scale: f64) -> serde_json::Value {
        let times = |scale: f64| {
            json!({
                "mean_us": range(300.0 * scale), "p50_us": range(250.0 * scale),
                "p90_us": range(400.0 * scale), "p99_us": range(500.0 * scale),
                "p999_us": range(510.0 * scale), "max_us": range(520.0 * scale),
            })
        };
        json!({
            "name": name, "repeats": 5, "cancelled": 0, "late": 0, "held": 0, "requests": 500,
            "failures": { "UNAVAILABLE": 5 }, "throughput_per_second": range(190.0),
            "response": times(scale), "pick": times(1.0), "limit_us": 500.0 * scale,
        })
    }

    fn results() -> BTreeMap<String, Outcome> {
        let outcome = json!({
            "kind": "lbctl bench run", "scenario": "sleep-10x10", "settings": {},
            "title": "t", "description": "What | was <measured>.", "runs": [], "repeats": [],
            "environment": {
                "command_line": "lbctl bench run sleep-10x10", "date": "today", "machine": "m",
                "cores": 2, "versions": { "lbctl": "0.1.0", "commit": "abc" },
            },
            "spreads": [spread("pick_first", 10_000.0), spread("least_load", 1000.0)],
        });
        BTreeMap::from([("sleep-10x10".to_owned(), serde_json::from_value(outcome).unwrap())])
    }

    fn filled(template: &str) -> String {
        fill(template, &results()).unwrap()
    }

    #[test]
    fn figures_and_ratios_are_put_in() {
        assert_eq!(
            filled(
                "max {{sleep-10x10.least_load.max}}, {{sleep-10x10.least_load.over}} of the limit"
            ),
            "max 520 ms, 1.04 of the limit"
        );
        assert_eq!(filled("{{sleep-10x10.pick_first.mean/least_load}}"), "10×");
        assert_eq!(filled("{{sleep-10x10.least_load.failed}}"), "1%");
        assert_eq!(filled("{{sleep-10x10.about}}"), "What \\| was &lt;measured>.");
        assert_eq!(filled("{{burst.table}} {{burst.least_load.p99}}"), "*Not measured.* –");
        let table = filled("{{sleep-10x10.table}}");
        assert!(table.contains("| `least_load` | 300 ms (270–330 ms) | 250 ms |"), "{table}");
        assert!(table.contains("| 500 ms | 1.04 | 190 | 5 UNAVAILABLE |"), "{table}");
        let machines = filled("{{machines}}");
        assert!(machines.ends_with(
            "| sleep-10x10 | m | 2 | today | 0.1.0 | abc | `lbctl bench run sleep-10x10` |"
        ));
    }

    #[test]
    fn a_broken_template_is_named() {
        for unknown in
            ["nothing", "sleep-9x9.table", "burst.least_load.p98", "burst", "burst.least_load"]
        {
            let error = fill(&format!("a {{{{{unknown}}}}}"), &results()).unwrap_err();
            assert_eq!(error, FillError::Unknown(unknown.to_owned()));
        }
        assert!(matches!(fill("a {{b", &results()), Err(FillError::Open(_))));
    }

    #[test]
    fn the_template_is_sound_and_shows_every_built_in_scenario() {
        let template = super::super::TEMPLATE;
        let document = fill(template, &BTreeMap::new()).unwrap();
        assert!(document.contains(NOT_MEASURED) && !document.contains("{{"));
        for (name, text) in BUILT_IN {
            assert!(
                template.contains(&format!("{{{{{name}.table}}}}")),
                "the template lacks {name}"
            );
            let policies = ["pick_first", "round_robin", "least_load"];
            let placeholders =
                template.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
            for placeholder in placeholders.filter(|words| words.starts_with(&format!("{name}."))) {
                let words: Vec<&str> = placeholder.split(['.', '/']).skip(1).collect();
                let named =
                    words.iter().filter(|word| word.contains('_') && !word.starts_with("pick_p"));
                for policy in named {
                    assert!(policies.contains(policy), "{placeholder}");
                    assert!(!text.contains("policies =") || text.contains(policy), "{placeholder}");
                }
            }
        }
    }
}
