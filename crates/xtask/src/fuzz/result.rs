//! What a target has done: read from its log, kept as JSON and as a table in a page.

use std::{
    fmt::{self, Write as _},
    fs,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::tools::{command, output, root};

/// The committed result.
const COMMITTED: &str = "docs/results/fuzz.json";

/// Where people read it.
const PAGE: &str = "docs/fuzzing.md";
const BEGIN: &str = "<!-- figures: made by `cargo xtask fuzz --save`, not by hand -->\n";
const END: &str = "<!-- figures: end -->\n";

/// What one target has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) target: String,
    pub(super) date: String,
    pub(super) commit: String,
    /// By the clock on the wall.
    pub(super) seconds: u64,
    /// On a CPU: less, on a machine that others use.
    pub(super) cpu_seconds: u64,
    pub(super) executions: u64,
    /// Edges of the program that were reached.
    pub(super) edges: u64,
    /// The most it took.
    pub(super) memory_mib: u64,
    /// An input was found that breaks it.
    pub(super) broken: bool,
}

impl Figures {
    /// Reads what libFuzzer has written.
    pub(super) fn read(log: &str) -> Self {
        let last = |key: &str| {
            let rest = log.rsplit_once(key)?.1.split_whitespace().next()?;
            rest.parse().ok()
        };
        Self {
            executions: last("stat::number_of_executed_units:").unwrap_or_default(),
            edges: last(" cov: ").unwrap_or_default(),
            memory_mib: last("stat::peak_rss_mb:").unwrap_or_default(),
            ..Self::default()
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, seconds, cpu_seconds, executions, edges, memory_mib, .. } = self;
        write!(
            formatter,
            "{target}: {executions} executions in {seconds} s ({cpu_seconds} s on a CPU), \
             {edges} edges, {memory_mib} MiB{}",
            if self.broken { ", BROKEN" } else { "" }
        )
    }
}

/// Puts these figures in the place of earlier ones of the same targets.
pub(super) fn save(new: Vec<Figures>) -> anyhow::Result<()> {
    let path = root().join(COMMITTED);
    let mut all: Vec<Figures> = match fs::read_to_string(&path) {
        Ok(text) => {
            serde_json::from_str(&text).with_context(|| format!("{COMMITTED} is no result"))?
        }
        Err(_) => Vec::new(),
    };
    let date = output(command("date", &["--utc", "+%Y-%m-%d"]))?.trim().to_owned();
    let commit =
        output(command("git", &["describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]))?;
    for figures in new {
        all.retain(|one| one.target != figures.target);
        all.push(Figures { date: date.clone(), commit: commit.trim().to_owned(), ..figures });
    }
    all.sort_by(|one, other| one.target.cmp(&other.target));
    fs::write(&path, serde_json::to_string_pretty(&all)? + "\n")
        .with_context(|| format!("cannot write {COMMITTED}"))?;
    fill(&all)
}

/// Puts the table into the page.
fn fill(all: &[Figures]) -> anyhow::Result<()> {
    let page = root().join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {PAGE}"))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("{PAGE} has no place for figures"))?;
    fs::write(&page, format!("{before}{BEGIN}{}{END}{after}", table(all)))
        .with_context(|| format!("cannot write {PAGE}"))
}

fn table(all: &[Figures]) -> String {
    let mut text = "\n| Target | Executions | Edges | Time, s | On a CPU, s | Memory, MiB | |\n\
                    |---|---|---|---|---|---|---|\n"
        .to_owned();
    for one in all {
        let Figures { target, executions, edges, seconds, cpu_seconds, memory_mib, .. } = one;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{target}` | {executions} | {edges} | {seconds} | {cpu_seconds} | {memory_mib} | {}, {} |",
            one.date, one.commit
        );
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_end_of_a_log() {
        let log = "INFO: Seed: 1\n#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 60Mb\n\
                   #512\tNEW    cov: 345 ft: 600 corp: 9/2Kb lim: 4 exec/s: 0 rss: 61Mb L: 3/4\n\
                   #70000\tDONE   cov: 352 ft: 690 corp: 12/3Kb lim: 8 exec/s: 3500 rss: 80Mb\n\
                   Done 70000 runs in 20 second(s)\nstat::number_of_executed_units: 70000\n\
                   stat::average_exec_per_sec:     3500\nstat::peak_rss_mb:              80\n";
        let figures = Figures::read(log);
        assert_eq!((figures.executions, figures.edges, figures.memory_mib), (70_000, 352, 80));
        assert!(!figures.broken);
    }
}
