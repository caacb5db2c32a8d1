//! The table of results when runs were repeated: medians, and below each its range.

use crate::report::spread::{Range, Spread, TimeRanges};
use crate::report::text::escaped;
use crate::report::units::{
    NOTHING, count, duration, duration_or_nothing, duration_range, rate, ratio,
};

use super::concat;

/// One row for each run: response times; and below, calls and picks.
pub(super) fn table(spreads: &[Spread]) -> String {
    let with_limit = spreads.iter().any(|spread| spread.limit_us.is_some());
    let limit = if with_limit { "<th>limit</th><th>max ÷ limit</th>" } else { "" };
    let times = concat(spreads, |spread| times_row(spread, with_limit));
    let calls = concat(spreads, calls_row);
    format!(
        "{}<div class=\"scroll\"><table>\n<thead><tr><th>policy</th><th>mean</th><th>p50</th>\
         <th>p90</th><th>p99</th><th>p99.9</th><th>max</th>{limit}</tr></thead>\n\
         <tbody>\n{times}</tbody>\n</table></div>\n\
         <div class=\"scroll\"><table>\n<thead><tr><th>policy</th><th>repeats</th><th>calls</th>\
         <th>failed</th><th>req/s</th><th>pick p50</th><th>pick p99</th></tr></thead>\n\
         <tbody>\n{calls}</tbody>\n</table></div>\n",
        caption(spreads, with_limit),
    )
}

fn caption(spreads: &[Spread], with_limit: bool) -> String {
    let repeats = spreads.iter().map(|spread| spread.repeats).max().unwrap_or(0);
    let limit = if with_limit {
        " The limit is the least that the longest time can be, set by slots and processors alone."
    } else {
        ""
    };
    match repeats {
        0 | 1 if limit.is_empty() => String::new(),
        0 | 1 => format!("<p>{}</p>\n", limit.trim_start()),
        _ => format!(
            "<p>Medians of {repeats} repeats, taken in turn with the other policies; below each the \
             least and the greatest. Calls and failures are of all repeats; plots and workers show \
             the repeat in the middle by its p99.{limit}</p>\n"
        ),
    }
}

fn times_row(spread: &Spread, with_limit: bool) -> String {
    let time = |read: fn(&TimeRanges) -> Range| {
        times_cell(spread.repeats, spread.response.as_ref().map(read))
    };
    let limit = if with_limit {
        let over = spread.over_limit().map_or(NOTHING.to_owned(), ratio);
        format!("<td>{}</td><td>{over}</td>", duration_or_nothing(spread.limit_us))
    } else {
        String::new()
    };
    format!(
        "<tr><th scope=\"row\">{}</th>{}{}{}{}{}{}{limit}</tr>\n",
        escaped(&spread.name),
        time(|times| times.mean_us),
        time(|times| times.p50_us),
        time(|times| times.p90_us),
        time(|times| times.p99_us),
        time(|times| times.p999_us),
        time(|times| times.max_us),
    )
}

fn calls_row(spread: &Spread) -> String {
    let pick =
        |read: fn(&TimeRanges) -> Range| times_cell(spread.repeats, spread.pick.as_ref().map(read));
    let throughput = &spread.throughput_per_second;
    let rates = format!("{}–{}", rate(throughput.min), rate(throughput.max));
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td>{}{}{}</tr>\n",
        escaped(&spread.name),
        spread.repeats,
        count(spread.requests),
        count(spread.failed()),
        cell(&rate(throughput.median), spread.repeats, &rates),
        pick(|times| times.p50_us),
        pick(|times| times.p99_us),
    )
}

fn times_cell(repeats: usize, range: Option<Range>) -> String {
    match range {
        None => format!("<td>{NOTHING}</td>"),
        Some(range) => {
            cell(&duration(range.median), repeats, &duration_range(range.min, range.max))
        }
    }
}

/// A median above its range.
fn cell(median: &str, repeats: usize, range: &str) -> String {
    if repeats < 2 {
        return format!("<td>{median}</td>");
    }
    format!("<td>{median}<small>{range}</small></td>")
}
