//! The one table for the terminal: a block of lines for each policy, a line for each worker.
//!
//! Workers stand below each other and not side by side: that reads the same for two workers and for
//! ten, and the lines of a policy fit into a hundred columns. Where there are fewer, the workers have a
//! table of their own.

use std::fmt::Write as _;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use crate::load::{ResponseTimes, RunResult, WorkerUse};

use super::notes::notes;
use super::spread_table;
use super::text::{printable, shortened};
use super::units::{NOTHING, count, duration_or_nothing, percent, percent_or_nothing, rate};

/// Lines of workers shown for one policy. The page shows all of them.
const MAX_WORKER_LINES: usize = 16;

/// Shortest form of a worker's id and of a policy's name that can still be told from another.
const MIN_NAME_COLUMNS: usize = 8;

/// Free columns between two columns of the table.
const GAP: usize = 2;

const HEADERS: [&str; 12] = [
    "policy", "requests", "failed", "mean", "p50", "p99", "max", "req/s", "worker", "slots",
    "share", "util",
];

/// The columns of names: aligned to the left, and shortened when there is no room.
const POLICY: usize = 0;
const WORKER: usize = 8;

type Row = [String; HEADERS.len()];

pub(super) fn render(runs: &[RunResult], width: usize) -> String {
    let mut rows: Vec<Row> = runs.iter().map(row).collect();
    fit(&mut rows, width);
    let notes = notes(runs).into_iter().map(|note| format!("* {note}\n"));
    let text = one_table(&rows);
    let widest = text.lines().map(|line| line.chars().count()).max();
    if widest <= Some(width) {
        return text + &notes.collect::<String>();
    }
    let rows: Vec<Vec<String>> = runs.iter().map(|run| row(run)[..WORKER].to_vec()).collect();
    let of_policies = spread_table::tables(&HEADERS[..WORKER], 1, &rows, width);
    let of_workers = spread_table::workers(runs, width);
    [of_policies].into_iter().chain(of_workers).chain(notes).collect()
}

fn one_table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table
        .load_preset(UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(HEADERS.iter().enumerate().map(aligned));
    for row in rows {
        table.add_row(row.iter().enumerate().map(aligned));
    }
    let last = HEADERS.len() - 1;
    for (index, column) in table.column_iter_mut().enumerate() {
        // The other half of the gap is where other tables have their upright lines.
        column.set_padding((0, u16::from(index < last)));
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

/// Shortens names until the rows fit into so many columns, or cannot be shortened any more.
fn fit(rows: &mut [Row], width: usize) {
    let needed = |column: usize| {
        let cells = rows.iter().flat_map(|row| row[column].lines());
        let widths = cells.map(|line| line.chars().count());
        widths.chain([HEADERS[column].len()]).max().unwrap_or(0)
    };
    let figures = (0..HEADERS.len()).filter(|column| ![POLICY, WORKER].contains(column));
    let taken: usize = figures.map(needed).sum::<usize>() + GAP * (HEADERS.len() - 1);
    let free = width.saturating_sub(taken);
    let worker = needed(WORKER).min(free / 2);
    let policy = needed(POLICY).min((free - worker).max(MIN_NAME_COLUMNS));
    let worker = needed(WORKER).min(free.saturating_sub(policy).max(MIN_NAME_COLUMNS));
    for row in rows {
        row[POLICY] = shortened(&row[POLICY], policy);
        let names = row[WORKER].lines().map(|name| shortened(name, worker));
        row[WORKER] = names.collect::<Vec<String>>().join("\n");
    }
}

fn aligned((column, text): (usize, impl ToString)) -> Cell {
    let alignment =
        if [POLICY, WORKER].contains(&column) { CellAlignment::Left } else { CellAlignment::Right };
    Cell::new(text).set_alignment(alignment)
}

fn row(run: &RunResult) -> Row {
    let time =
        |read: fn(&ResponseTimes) -> f64| duration_or_nothing(run.response.as_ref().map(read));
    let worker = |show: fn(&WorkerUse) -> String| worker_lines(&run.workers, show);
    let mut names = worker(|worker| printable(&worker.worker_id));
    if let Some(more @ 1..) = run.workers.len().checked_sub(MAX_WORKER_LINES) {
        let _infallible = write!(names, "\n+{more} more");
    }
    [
        printable(&run.name),
        count(run.requests),
        count(run.failed()),
        time(|times| times.mean_us),
        time(|times| times.p50_us as f64),
        time(|times| times.p99_us as f64),
        time(|times| times.max_us as f64),
        rate(run.throughput_per_second),
        names,
        worker(|worker| worker.slots.map_or(NOTHING.to_owned(), |slots| slots.to_string())),
        worker(|worker| percent(worker.share)),
        worker(|worker| percent_or_nothing(worker.utilisation)),
    ]
}

/// One column of the workers' lines.
fn worker_lines(workers: &[WorkerUse], show: fn(&WorkerUse) -> String) -> String {
    let lines: Vec<String> = workers.iter().take(MAX_WORKER_LINES).map(show).collect();
    lines.join("\n")
}
