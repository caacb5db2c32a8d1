//! What a reader must know before trusting the figures, in sentences.

use crate::load::{Pace, RunResult};

use super::text::printable;
use super::units::{count, counted, duration, rate, times};

/// Statuses named for one run; beyond, only their number is told.
const MAX_STATUSES: usize = 5;

/// Runs named between the best and the worst: a headline is read at a glance.
const MAX_COMPARED: usize = 3;

/// Which run answered best, against the others. `None` with fewer than two runs to compare.
pub(super) fn headline(runs: &[RunResult]) -> Option<String> {
    let mut ranked: Vec<(f64, &str)> = runs
        .iter()
        .filter_map(|run| Some((run.response.as_ref()?.p99_us as f64, run.name.as_str())))
        .collect();
    ranked.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (&(best_us, best), others) = ranked.split_first()?;
    let (&(worst_us, worst), between) = others.split_last()?;
    let compared = |p99_us: f64, name: &str| {
        let ratio = times(p99_us / best_us.max(1.0));
        format!("{name} {} ({ratio})", duration(p99_us))
    };
    let between: String = between
        .iter()
        .take(MAX_COMPARED)
        .map(|(p99_us, name)| compared(*p99_us, name) + ", ")
        .collect();
    Some(format!(
        "99 of 100 calls were answered within {} under {best}; {between}{}.",
        duration(best_us),
        compared(worst_us, worst),
    ))
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
            notes.push(format!("{name}: {}.", failures(run)));
        }
        if let Some(pace) = run.pace.as_ref().filter(|pace| !pace.kept) {
            notes.push(format!("{name}: {}.", late(pace)));
        }
    }
    notes
}

fn failures(run: &RunResult) -> String {
    let mut statuses: Vec<(&String, &u64)> = run.failures.iter().collect();
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
        counted(run.failed(), "call", "calls"),
        named.join(", ")
    )
}

fn late(pace: &Pace) -> String {
    let behind = if pace.held_starts > 0 {
        "too many calls were outstanding"
    } else {
        "the generator was too slow"
    };
    format!(
        "the rate was not kept, {behind}: {} of {} calls/s, {} of {} calls begun late; \
         response times include the delay",
        rate(pace.achieved_per_second),
        rate(pace.intended_per_second),
        count(pace.late_starts),
        count(pace.starts),
    )
}
