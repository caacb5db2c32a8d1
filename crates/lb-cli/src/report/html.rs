//! The page: one file with its style sheet and its plots inside.
//!
//! All text that is not written here goes through [`escaped`].

use std::fmt::Write as _;

use crate::load::{ResponseTimes, RunResult};

use super::notes::{headline, notes, notes_of_phases, notes_of_spreads};
use super::plot::{self, Drawing, Figure, Key, Mark};
use super::text::escaped;
use super::units::{
    NOTHING, count, duration, duration_or_nothing, percent, percent_or_nothing, rate,
};
use super::{Environment, Report, ReportError};

mod spreads;

/// Colours, which plots name, and the rest of the page.
const STYLES: [&str; 2] = [super::PLOT_STYLE, include_str!("page.css")];

pub(super) fn render(report: &Report) -> Result<String, ReportError> {
    let title = escaped(&report.title);
    let figures = figures(&plot::figures(&report.runs)?);
    let body = format!(
        "<header>\n<h1>{title}</h1>\n<p>{description}</p>\n<p class=\"date\">{date}</p>\n\
         {headline}</header>\n<main>\n\
         <h2>Results</h2>\n{runs}{notes}\
         <h2>Plots</h2>\n{cut}{figures}\
         <h2>Workers</h2>\n{workers}\
         <h2>How it was measured</h2>\n{environment}</main>\n",
        description = escaped(&report.description),
        date = escaped(&report.environment.date),
        headline = headline_paragraph(report),
        runs = results_table(report),
        notes = notes_list(report),
        cut = cut_short(&report.runs),
        workers = workers_table(&report.runs),
        environment = environment(&report.environment, &report.runs),
    );
    Ok(page(&title, &body))
}

/// A page around the HTML of a document, which has its own headings and may have [`figures`].
pub(crate) fn document(title: &str, body: &str) -> String {
    page(&escaped(title), &format!("<main class=\"document\">\n{body}</main>\n"))
}

fn page(title: &str, body: &str) -> String {
    let style = STYLES.concat();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

/// Figures, as many beside each other as fit.
pub(super) fn figures(figures: &[Figure]) -> String {
    format!("<div class=\"figures\">\n{}</div>\n", concat(figures, figure))
}

fn headline_paragraph(report: &Report) -> String {
    headline(report).map_or(String::new(), |headline| {
        format!("<p class=\"headline\">{}</p>\n", escaped(&headline))
    })
}

fn notes_list(report: &Report) -> String {
    let mut notes = if report.spreads.is_empty() {
        notes(&report.runs)
    } else {
        notes_of_spreads(&report.spreads)
    };
    notes.extend(notes_of_phases(&report.runs));
    let items = concat(notes, |note| format!("<li>{}</li>\n", escaped(&note)));
    if items.is_empty() {
        return items;
    }
    format!("<ul class=\"notes\">\n{items}</ul>\n")
}

/// Says so when the plots leave out runs.
fn cut_short(runs: &[RunResult]) -> String {
    if runs.len() <= plot::MAX_RUNS {
        return String::new();
    }
    let (shown, all) = (plot::MAX_RUNS, runs.len());
    format!("<p>The first {shown} of {all} runs; the tables have them all.</p>\n")
}

fn results_table(report: &Report) -> String {
    if report.spreads.is_empty() {
        runs_table(&report.runs)
    } else {
        spreads::table(&report.spreads)
    }
}

/// One row for each run.
fn runs_table(runs: &[RunResult]) -> String {
    let mut rows = String::new();
    for run in runs {
        let time =
            |read: fn(&ResponseTimes) -> f64| duration_or_nothing(run.response.as_ref().map(read));
        let cells = [
            count(run.requests),
            count(run.failed()),
            time(|times| times.mean_us),
            time(|times| times.p50_us as f64),
            time(|times| times.p90_us as f64),
            time(|times| times.p99_us as f64),
            time(|times| times.p999_us as f64),
            time(|times| times.max_us as f64),
            duration_or_nothing(run.pick.as_ref().map(|times| times.p50_us as f64)),
            duration_or_nothing(run.pick.as_ref().map(|times| times.p99_us as f64)),
            rate(run.throughput_per_second),
            duration(run.elapsed_seconds * 1e6),
        ];
        rows.push_str(&row(&run.name, &cells));
    }
    format!(
        "<div class=\"scroll\"><table>\n<thead><tr><th>policy</th><th>requests</th><th>failed</th>\
         <th>mean</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th>\
         <th>pick p50</th><th>pick p99</th><th>req/s</th><th>took</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

fn row(name: &str, cells: &[String]) -> String {
    let cells = concat(cells, |cell| format!("<td>{}</td>", escaped(cell)));
    format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escaped(name))
}

/// One row for each worker; for each run its calls, share and utilisation there.
fn workers_table(runs: &[RunResult]) -> String {
    let workers = plot::all_workers(runs);
    if workers.is_empty() {
        return "<p>No call told which worker served it.</p>\n".to_owned();
    }
    let mut names = String::new();
    let mut columns = String::new();
    for run in runs {
        let name = escaped(&run.name);
        let _infallible = write!(names, "<th class=\"group edge\" colspan=\"3\">{name}</th>");
        columns.push_str("<th class=\"edge\">calls</th><th>share</th><th>utilisation</th>");
    }
    let mut rows = String::new();
    for (worker_id, slots) in &workers {
        let slots = slots.map_or(NOTHING.to_owned(), |slots| slots.to_string());
        let due = percent_or_nothing(plot::share_of_slots(&workers, worker_id));
        let of_runs = concat(runs, |run| worker_cells(run, worker_id));
        let name = escaped(worker_id);
        let _infallible = writeln!(
            rows,
            "<tr><th scope=\"row\">{name}</th><td>{slots}</td><td>{due}</td>{of_runs}</tr>"
        );
    }
    format!(
        "<div class=\"scroll\"><table>\n<thead><tr><th></th><th></th><th></th>{names}</tr>\n\
         <tr><th>worker</th><th>slots</th><th>share of slots</th>{columns}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

fn worker_cells(run: &RunResult, worker_id: &str) -> String {
    let worker = plot::of_worker(run, worker_id);
    let calls = worker.map_or(NOTHING.to_owned(), |worker| count(worker.requests));
    let share = worker.map_or(NOTHING.to_owned(), |worker| percent(worker.share));
    let utilisation = percent_or_nothing(worker.and_then(|worker| worker.utilisation));
    format!("<td class=\"edge\">{calls}</td><td>{share}</td><td>{utilisation}</td>")
}

fn figure(figure: &Figure) -> String {
    let legend = concat(&figure.legend, legend_entry);
    let drawings = concat(&figure.drawings, drawing);
    let several = figure.drawings.iter().any(|drawing| drawing.heading.is_some());
    let class = if several { " class=\"wide\"" } else { "" };
    format!(
        "<figure{class}>\n<h3>{}</h3>\n<ul class=\"legend\">\n{legend}</ul>\n\
         <div class=\"drawings\">\n{drawings}</div>\n<figcaption>{}</figcaption>\n</figure>\n",
        escaped(&figure.title),
        escaped(&figure.caption),
    )
}

fn drawing(drawing: &Drawing) -> String {
    match &drawing.heading {
        None => format!("{}\n", drawing.svg),
        Some(heading) => format!("<div><h4>{}</h4>\n{}</div>\n", escaped(heading), drawing.svg),
    }
}

fn legend_entry(key: &Key) -> String {
    let colour = format!("var({})", key.ink.variable());
    let (width, mark) = match key.mark {
        Mark::Line => (26, "<line x1=\"0\" y1=\"6\" x2=\"26\" y2=\"6\" stroke-width=\"3\""),
        Mark::Bar => (12, "<rect width=\"12\" height=\"12\""),
    };
    let paint = match key.mark {
        Mark::Line => "stroke",
        Mark::Bar => "fill",
    };
    format!(
        "<li><svg width=\"{width}\" height=\"12\" aria-hidden=\"true\">\
         {mark} {paint}=\"{colour}\"/></svg>{}</li>\n",
        escaped(&key.label)
    )
}

fn environment(environment: &Environment, runs: &[RunResult]) -> String {
    let mut entries = vec![
        ("command", format!("<code>{}</code>", escaped(&environment.command_line))),
        ("machine", escaped(&environment.machine)),
        ("processors", environment.cores.to_string()),
    ];
    let versions: Vec<String> = environment
        .versions
        .iter()
        .map(|(program, version)| escaped(&format!("{program} {version}")))
        .collect();
    if !versions.is_empty() {
        entries.push(("versions", versions.join(", ")));
    }
    entries.extend(loads(runs));
    let entries = concat(entries, |(term, what)| format!("<dt>{term}</dt><dd>{what}</dd>\n"));
    format!("<dl>\n{entries}</dl>\n")
}

/// The load once, when it was the same for all runs, else of each run.
fn loads(runs: &[RunResult]) -> Vec<(&'static str, String)> {
    let Some(first) = runs.first() else {
        return Vec::new();
    };
    if runs.iter().all(|run| run.load == first.load) {
        return vec![("load", escaped(&first.load))];
    }
    runs.iter().map(|run| ("load", escaped(&format!("{}: {}", run.name, run.load)))).collect()
}

/// The pieces made of some things, one after the other.
fn concat<T>(things: impl IntoIterator<Item = T>, piece: impl Fn(T) -> String) -> String {
    things.into_iter().map(piece).collect()
}
