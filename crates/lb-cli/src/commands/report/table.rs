//! The table of a case, and text from files that is fit for one.

use std::fmt::Write as _;

use crate::{
    outcome::Outcome,
    report::{
        Range, Spread, TimeRanges,
        units::{NOTHING, count, duration, duration_or_nothing, duration_range, rate, ratio},
    },
};

/// All figures of a case: medians, and for the most quoted ones the range.
pub(super) fn table(outcome: &Outcome) -> String {
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

/// Text from a file, fit for a line and for a cell of a table.
pub(super) fn markdown(text: &str) -> String {
    let printable = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    printable.collect::<String>().replace('|', "\\|").replace('<', "&lt;")
}
