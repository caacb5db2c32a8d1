//! The tables for the terminal when runs were repeated: times, calls, workers.
//!
//! Below each median stands its range, so that a difference can be told from noise at a glance.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table, TableComponent};

use crate::load::RunResult;

use super::notes::notes_of_spreads;
use super::plot::{all_workers, of_worker};
use super::spread::{Range, Spread, TimeRanges};
use super::text::printable;
use super::units::{
    NOTHING, count, duration, duration_or_nothing, duration_range, percent, percent_or_nothing,
    rate, ratio,
};

/// What lines between rows are made of.
const ROW_LINES: [TableComponent; 4] = [
    TableComponent::HorizontalLines,
    TableComponent::MiddleIntersections,
    TableComponent::LeftBorderIntersections,
    TableComponent::RightBorderIntersections,
];

/// Free columns between two columns of a table.
const GAP: usize = 2;

pub(super) fn render(spreads: &[Spread], runs: &[RunResult], width: usize) -> String {
    let notes = notes_of_spreads(spreads).into_iter().map(|note| format!("* {note}\n"));
    let tables = [Some(times(spreads, width)), Some(calls(spreads, width)), workers(runs, width)];
    let tables = tables.into_iter().flatten();
    tables.chain(notes).collect()
}

/// Response times, and how they compare with the least there can be.
fn times(spreads: &[Spread], width: usize) -> String {
    let with_limit = spreads.iter().any(|spread| spread.limit_us.is_some());
    let mut head = vec!["policy", "mean", "p50", "p90", "p99", "p99.9", "max"];
    head.extend(with_limit.then_some(["limit", "max ÷ limit"]).into_iter().flatten());
    let rows = spreads.iter().map(|spread| {
        let time = |read: fn(&TimeRanges) -> Range| {
            let range = spread.response.as_ref().map(read);
            range.map_or(NOTHING.to_owned(), |range| with_range(spread, &range))
        };
        let mut row = vec![
            printable(&spread.name),
            time(|times| times.mean_us),
            time(|times| times.p50_us),
            time(|times| times.p90_us),
            time(|times| times.p99_us),
            time(|times| times.p999_us),
            time(|times| times.max_us),
        ];
        if with_limit {
            row.push(duration_or_nothing(spread.limit_us));
            row.push(spread.over_limit().map_or(NOTHING.to_owned(), ratio));
        }
        row
    });
    tables(&head, 1, &rows.collect::<Vec<_>>(), width)
}

fn with_range(spread: &Spread, range: &Range) -> String {
    let median = duration(range.median);
    if spread.repeats < 2 {
        return median;
    }
    format!("{median}\n{}", duration_range(range.min, range.max))
}

/// How many calls, how fast, and what a pick cost.
fn calls(spreads: &[Spread], width: usize) -> String {
    let head = ["policy", "repeats", "calls", "failed", "req/s", "pick p50", "pick p99"];
    let rows = spreads.iter().map(|spread| {
        let pick = |read: fn(&TimeRanges) -> Range| {
            duration_or_nothing(spread.pick.as_ref().map(|times| read(times).median))
        };
        vec![
            printable(&spread.name),
            spread.repeats.to_string(),
            count(spread.requests),
            count(spread.failed()),
            rate(spread.throughput_per_second.median),
            pick(|times| times.p50_us),
            pick(|times| times.p99_us),
        ]
    });
    tables(&head, 1, &rows.collect::<Vec<_>>(), width)
}

/// What each worker did in the run, or in the repeat of it, that is shown.
pub(super) fn workers(runs: &[RunResult], width: usize) -> Option<String> {
    let workers = all_workers(runs);
    if workers.is_empty() {
        return None;
    }
    let names: Vec<String> =
        runs.iter().map(|run| format!("{}\nshare, util", printable(&run.name))).collect();
    let head: Vec<&str> =
        ["worker", "slots"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let rows = workers.iter().map(|(worker_id, slots)| {
        let slots = slots.map_or(NOTHING.to_owned(), |slots| slots.to_string());
        let of_runs = runs.iter().map(|run| {
            let worker = of_worker(run, worker_id);
            let share = percent_or_nothing(worker.map(|worker| worker.share));
            let used = worker.and_then(|worker| worker.utilisation).map(percent);
            format!("{share}  {:>4}", used.unwrap_or_else(|| NOTHING.to_owned()))
        });
        [printable(worker_id), slots].into_iter().chain(of_runs).collect()
    });
    Some(tables(&head, 2, &rows.collect::<Vec<_>>(), width))
}

/// One table, or as many as it takes to keep to so many columns of text; each begins with the first `fixed` columns.
pub(super) fn tables(head: &[&str], fixed: usize, rows: &[Vec<String>], width: usize) -> String {
    let needed = |column: usize| {
        let cells = rows.iter().map(|row| row[column].as_str()).chain([head[column]]);
        let widths = cells.flat_map(str::lines).map(|line| line.chars().count());
        widths.max().unwrap_or(0) + GAP
    };
    let of_fixed: usize = (0..fixed).map(needed).sum();
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut taken = 0;
    for column in fixed..head.len() {
        let more = needed(column);
        match parts.last_mut() {
            // The last column needs no gap after it.
            Some(part) if taken + more <= width + GAP => part.push(column),
            _ => {
                parts.push((0..fixed).chain([column]).collect());
                taken = of_fixed;
            }
        }
        taken += more;
    }
    let part = |columns: &Vec<usize>| {
        let head: Vec<&str> = columns.iter().map(|column| head[*column]).collect();
        let row = |row: &Vec<String>| columns.iter().map(|column| row[*column].clone()).collect();
        table(&head, rows.iter().map(row).collect())
    };
    parts.iter().map(part).collect()
}

fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_preset(UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head);
    // A line between rows helps where rows have two lines themselves.
    if !rows.iter().flatten().any(|cell| cell.contains('\n')) {
        for line in ROW_LINES {
            table.remove_style(line);
        }
    }
    table.add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        let side = if index == 0 { CellAlignment::Left } else { CellAlignment::Right };
        column.set_cell_alignment(side);
        column.set_padding((0, u16::from(index + 1 < head.len())));
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}
