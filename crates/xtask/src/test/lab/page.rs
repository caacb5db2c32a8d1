//! `docs/drills.md`, made from the committed result.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, ensure};

use super::report::{Figures, Report, Run};
use crate::tools::root;

/// The committed result.
pub(super) const COMMITTED: &str = "docs/results/lab.json";
const PAGE: &str = "docs/drills.md";

/// The page of a report.
pub(super) fn render(report: &Report) -> String {
    let Report { date, commit, cores, load_before, calls, abandoned, drills } = report;
    let reached = drills.iter().filter(|drill| drill.missed.is_empty()).count();
    format!(
        "# Fault drills\n\n\
         <!-- made by `cargo xtask drills --save`, not by hand -->\n\n\
         Eight hosts with a real systemd, on one network: two balancers, four workers, two clients, installed from the signed\n\
         repository, found without configuration. Both clients call all the time, 30 times a second, a task of 200 ms; every call is\n\
         written down. Then something fails. {reached} of {count} drills kept their limits; {calls} calls in all, and {abandoned}\n\
         were still under way when clients were told to end.\n\n\
         - *Failed*: calls that failed; in brackets, those that had begun after the failure. A client does not repeat a call that may\n  \
         have run.\n\
         - *In flight*: calls that were at the worker when it failed; after the slash, the most that another worker had at one moment.\n\
         - *Out*: until the last balancer had it out of rotation, and the last call had gone to it.\n\
         - *Back*: from the return (a process starts, a cable is whole) until all balancers had all workers in rotation, and the\n  \
         worker had answered.\n\
         - *Whole*: the same, until both clients had an answer of every worker. At this rate that takes half a second by itself.\n\
         - *Longest*: the slowest call that was answered.\n\n\
         {table}\n\
         All hosts share {cores} cores with whatever else ran there ({load_before} processes wanted one at the beginning), so times \
         are\nupper bounds. A drill that is too slow is run once more, and both attempts are in the table. One with too many failures is not.\n\n\
         Missed: at a silent host no more calls should fail than were in flight there. Until it is missed it is sent calls like any other,\n\
         as long as it has not more of them; balancers do not know of each other's picks there, so each fills it up.\n\n\
         Source: `{COMMITTED}`, {date}, commit {commit}.\n",
        count = drills.len(),
        table = table(drills),
    )
}

/// The table of drills.
pub(super) fn table(drills: &[Run]) -> String {
    let mut table = String::from(
        "| Drill | Calls | Failed | In flight | Out | Back | Whole | Longest | Limits | |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for drill in drills {
        if let Some(first) = &drill.first {
            row(&mut table, drill, first, "too slow");
        }
        let verdict = match (drill.missed.as_slice(), &drill.first) {
            ([], None) => "kept".to_owned(),
            ([], Some(_)) => "kept in the second attempt".to_owned(),
            (missed, _) => format!("**missed**: {}", missed.join("; ")),
        };
        row(&mut table, drill, &drill.figures, &verdict);
    }
    table
}

fn row(table: &mut String, drill: &Run, figures: &Figures, verdict: &str) {
    let Figures { calls, failed, failed_later, in_flight, elsewhere, .. } = figures;
    let Figures { out_after, back_after, whole_after, longest, .. } = figures;
    let later = if *failed_later > 0 { format!(" ({failed_later})") } else { String::new() };
    let there =
        if *elsewhere > 0 { format!("{in_flight} / {elsewhere}") } else { "–".to_owned() };
    let out = out_after.map_or("–".to_owned(), |out| format!("{out:.2} s"));
    writeln!(
        table,
        "| {} | {calls} | {failed}{later} | {there} | {out} | {back_after:.2} s | {whole_after:.2} s | \
         {longest:.2} s | {} | {verdict} |",
        drill.name, drill.limits
    )
    .expect("a string takes everything");
}

/// Writes the page.
///
/// # Errors
/// When it cannot be written.
pub(super) fn save(report: &Report) -> anyhow::Result<()> {
    fs::write(root().join(PAGE), render(report)).context(PAGE)
}

/// The page must be that of the result.
///
/// # Errors
/// When they differ.
pub(super) fn check() -> anyhow::Result<()> {
    let text = fs::read_to_string(root().join(COMMITTED)).context(COMMITTED)?;
    let page = fs::read_to_string(root().join(PAGE)).context(PAGE)?;
    let report: Report = serde_json::from_str(&text).context(COMMITTED)?;
    ensure!(page == render(&report), "{PAGE} is not what `cargo xtask drills --save` would write");
    Ok(())
}
