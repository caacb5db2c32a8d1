//! What a reader must know before trusting the figures, in sentences.

use std::collections::BTreeMap;

use crate::load::{Pace, PhaseResult, RunResult};

use super::text::printable;
use super::units::{count, counted, duration, percent, rate, times};
use super::{Report, Spread};

/// Statuses named for one run; beyond, only their number is told.
const MAX_STATUSES: usize = 5;

/// Why a rate was not kept when calls had to wait for others to end.
const HELD: &str = ", too many calls were outstanding";

/// Runs named between the best and the worst: a headline is read at a glance.
const MAX_COMPARED: usize = 3;

/// A part of failed calls from which on response times alone no longer tell who is better.
const MANY_FAILED: f64 = 0.01;

/// One run in the headline.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    name: &'a str,
    p99_us: f64,
    /// 0 to 1.
    failed: f64,
}

/// Which run answered best, against the others. `None` with fewer than two runs to compare.
pub(super) fn headline(report: &Report) -> Option<String> {
    let part = |failed: u64, requests: u64| failed as f64 / requests.max(1) as f64;
    let entries = if report.spreads.is_empty() {
        let of_runs = report.runs.iter().filter_map(|run| {
            let p99_us = run.response.as_ref()?.p99_us as f64;
            Some(Entry { name: &run.name, p99_us, failed: part(run.failed(), run.requests) })
        });
        of_runs.collect()
    } else {
        let of_spreads = report.spreads.iter().filter_map(|spread| {
            let p99_us = spread.response.as_ref()?.p99_us.median;
            let failed = part(spread.failed(), spread.requests);
            Some(Entry { name: &spread.name, p99_us, failed })
        });
        of_spreads.collect()
    };
    compare(entries)
}

fn compare(mut ranked: Vec<Entry<'_>>) -> Option<String> {
    if ranked.len() < 2 {
        return None;
    }
    if ranked.iter().any(|entry| entry.failed > MANY_FAILED) {
        ranked.sort_by(|left, right| left.failed.total_cmp(&right.failed));
        let failed = ranked.iter().take(MAX_COMPARED + 2);
        let failed: Vec<String> =
            failed.map(|entry| format!("{} {}", entry.name, percent(entry.failed))).collect();
        return Some(format!(
            "Failed calls: {}. Response times are of the calls answered.",
            failed.join(", ")
        ));
    }
    ranked.sort_by(|left, right| left.p99_us.total_cmp(&right.p99_us));
    let (best, others) = ranked.split_first()?;
    let (worst, between) = others.split_last()?;
    let compared = |entry: &Entry<'_>| {
        let ratio = times(entry.p99_us / best.p99_us.max(1.0));
        format!("{} {} ({ratio})", entry.name, duration(entry.p99_us))
    };
    let between: String =
        between.iter().take(MAX_COMPARED).map(|entry| compared(entry) + ", ").collect();
    Some(format!(
        "99 of 100 calls were answered within {} under {}; {between}{}.",
        duration(best.p99_us),
        best.name,
        compared(worst),
    ))
}

/// One note for each thing that went other than planned in the repeats.
pub(super) fn notes_of_spreads(spreads: &[Spread]) -> Vec<String> {
    let mut notes = Vec::new();
    for spread in spreads {
        let name = printable(&spread.name);
        let of = |count: usize| format!("{count} of {} repeats", spread.repeats);
        if spread.cancelled > 0 {
            let kept =
                if spread.cancelled == spread.repeats { "shown as it is" } else { "left out" };
            notes.push(format!("{name}: a repeat was cut short and is {kept}."));
        }
        if spread.failed() > 0 {
            notes.push(format!("{name}: {}.", failures(&spread.failures)));
        }
        if spread.late > 0 {
            notes.push(format!(
                "{name}: in {} the generator itself did not keep the rate{}; their response times are \
                 not the system's and are left out.",
                of(spread.late),
                if spread.held > 0 { HELD } else { "" },
            ));
        }
    }
    notes
}

/// One note for each rate that was held for a while in a run in which it changed.
pub(super) fn notes_of_phases(runs: &[RunResult]) -> Vec<String> {
    let note = |run: &RunResult| -> Vec<String> {
        let name = printable(&run.name);
        let of = |phase: &PhaseResult| {
            format!(
                "{name}: from {:.0} s on {} calls/s came; after two seconds {} were answered and {} \
                 failed a second.",
                phase.from_seconds,
                rate(phase.rate_per_second),
                rate(phase.answered_per_second),
                rate(phase.failed_per_second),
            )
        };
        run.phases.iter().map(of).collect()
    };
    runs.iter().flat_map(note).collect()
}

/// One note for each thing that went other than planned.
pub(super) fn notes(runs: &[RunResult]) -> Vec<String> {
    let mut notes = Vec::new();
    for run in runs {
        let name = printable(&run.name);
        if run.cancelled {
            let abandoned = match run.abandoned {
                0 => String::new(),
                abandoned => format!("; {} dropped in flight", counted(abandoned, "call", "calls")),
            };
            notes.push(format!("{name}: cancelled before its end{abandoned}."));
        }
        if run.failed() > 0 {
            notes.push(format!("{name}: {}.", failures(&run.failures)));
        }
        if let Some(pace) = run.pace.as_ref().filter(|pace| !pace.kept) {
            notes.push(format!("{name}: {}.", late(pace)));
        }
    }
    notes
}

fn failures(by_status: &BTreeMap<String, u64>) -> String {
    let mut statuses: Vec<(&String, &u64)> = by_status.iter().collect();
    statuses.sort_by_key(|(status, failed)| (std::cmp::Reverse(**failed), *status));
    let more = statuses.len().saturating_sub(MAX_STATUSES);
    let mut named: Vec<String> = statuses
        .into_iter()
        .take(MAX_STATUSES)
        .map(|(status, failed)| format!("{} {}", count(*failed), printable(status)))
        .collect();
    if more > 0 {
        named.push(format!("{more} more statuses"));
    }
    format!(
        "{} failed ({}); response times are of the others",
        counted(by_status.values().sum(), "call", "calls"),
        named.join(", ")
    )
}

fn late(pace: &Pace) -> String {
    let behind = if pace.was_held() { HELD } else { ", the generator was too slow" };
    format!(
        "the rate was not kept{behind}: {} of {} calls/s, {} of {} calls begun late; its response \
         times are not the system's and are left out",
        rate(pace.achieved_per_second),
        rate(pace.intended_per_second),
        count(pace.late_starts),
        count(pace.starts),
    )
}
