//! The result as tables in Markdown: printed after a run, and a section of docs/performance.md. Other results have sections in other
//! pages.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;

use super::{
    bound::ratios,
    result::{Group, Judgement, Measured, Report, Series, median},
};
use crate::tools::root;

const PAGE: &str = "docs/performance.md";

/// A section of a page that is made: the lines that it stands between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    pub(crate) page: &'static str,
    pub(crate) begin: &'static str,
    pub(crate) end: &'static str,
}

pub(super) const WIRE: Section = Section {
    page: PAGE,
    begin: "<!-- wire: made by `cargo xtask bench --save`, not by hand -->\n",
    end: "<!-- wire: end -->\n",
};
pub(super) const HOSTILE: Section = Section {
    page: PAGE,
    begin: "<!-- hostile: made by `cargo xtask hostile --save`, not by hand -->\n",
    end: "<!-- hostile: end -->\n",
};

/// Puts the tables into the page.
///
/// # Errors
/// When the page has no place for them.
pub(crate) fn fill(section: Section, tables: &str) -> anyhow::Result<()> {
    let (before, _, after) = section.parts()?;
    let page = section.page;
    fs::write(root().join(page), before + section.begin + tables + section.end + &after)
        .with_context(|| format!("cannot write {page}"))
}

/// Whether the page holds the tables of the committed result, once there is one.
///
/// # Errors
/// When it does not.
pub(crate) fn check<R: DeserializeOwned>(
    section: Section,
    committed: &str,
    chore: &str,
    render: impl Fn(&R) -> String,
) -> anyhow::Result<()> {
    let path = root().join(committed);
    if !path.exists() {
        return Ok(());
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {committed}"))?;
    let report =
        serde_json::from_str(&text).with_context(|| format!("{committed} is no result"))?;
    let (_, found, _) = section.parts()?;
    ensure!(
        found == render(&report),
        "a section of {} is not what {committed} says: run `{chore}`",
        section.page
    );
    Ok(())
}

impl Section {
    /// The page before, in and after the section.
    fn parts(self) -> anyhow::Result<(String, String, String)> {
        let Self { page, begin, end } = self;
        let text =
            fs::read_to_string(root().join(page)).with_context(|| format!("cannot read {page}"))?;
        let (before, rest) =
            text.split_once(begin).with_context(|| format!("{page} lacks the line {begin}"))?;
        let (section, after) =
            rest.split_once(end).with_context(|| format!("{page} lacks the line {end}"))?;
        Ok((before.to_owned(), section.to_owned(), after.to_owned()))
    }
}

/// All tables.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    let environment = &report.environment;
    let versions: Vec<_> =
        report.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    push(
        &mut text,
        &format!(
            "\n{}, {} cores; commit {}, {}. {} rounds, {} s for each way in each round. {}",
            environment.machine,
            environment.cores,
            environment.commit,
            environment.date,
            report.rounds,
            report.seconds,
            if versions.is_empty() { String::new() } else { versions.join(", ") + "." },
        ),
    );
    for (name, why) in &report.not_measured {
        push(&mut text, &format!("\nNot measured: {name}. {why}"));
    }
    if !report.bounds.is_empty() {
        push(&mut text, "\n| | bound | median | rounds | |\n|---|---|---|---|---|");
        report.bounds.iter().for_each(|bound| push(&mut text, &judgement(bound)));
    }
    for group in &report.groups {
        push(&mut text, &format!("\n### {}\n", group.title));
        push(&mut text, &table(group));
    }
    text.push('\n');
    text
}

fn push(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

fn judgement(bound: &Judgement) -> String {
    let least = bound.values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = bound.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (sign, reached) = (
        if bound.at_least { "≥" } else { "≤" },
        if bound.reached { "reached" } else { "**missed**" },
    );
    format!(
        "| {} | {sign} {} | {:.2} | {least:.2} to {most:.2} | {reached} |",
        bound.what, bound.limit, bound.median
    )
}

/// A line for each way; ratios are against the first.
fn table(group: &Group) -> String {
    let Some(first) = group.ways.first() else { return String::new() };
    let names: BTreeSet<&String> =
        group.ways.iter().flat_map(|way| &way.rounds).flat_map(|one| one.cpu_us.keys()).collect();
    let processes: Vec<_> = names.iter().map(|name| format!("{name} |")).collect();
    let mut text = format!("| | /s | × | p50 µs | p99 µs | {} CPU µs | × |\n", processes.join(" "));
    text += &("|---".repeat(7 + names.len()) + "|");
    for way in &group.ways {
        let middle = |of: &dyn Fn(&Measured) -> f64| median(way.rounds.iter().map(of));
        let cpu = |name: &&String| match middle(&|one| one.cpu_us_of(name)) {
            time if time.is_nan() => " |".to_owned(),
            time => format!(" {time:.2} |"),
        };
        let failed: u64 = way.rounds.iter().map(|one| one.failed).sum();
        let _ = write!(
            text,
            "\n| {}{} | {} | {:.2} | {} | {} |{} {:.2} | {:.2} |",
            way.name,
            if failed == 0 { String::new() } else { format!(" ({failed} failed)") },
            thousands(middle(&|one| one.per_second)),
            ratio(way, first, |one| one.per_second),
            thousands(middle(&|one| one.p50_us)),
            thousands(middle(&|one| one.p99_us)),
            names.iter().map(cpu).collect::<String>(),
            middle(&Measured::cpu_us_total),
            ratio(way, first, Measured::cpu_us_total),
        );
    }
    text
}

fn ratio(way: &Series, first: &Series, of: fn(&Measured) -> f64) -> f64 {
    median(ratios(way, first, of))
}

/// A whole number with its thousands set apart.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_can_be_read() {
        assert_eq!(
            ["7", "77", "777", "7,777", "1,234,567"],
            [7.0, 77.0, 777.0, 7777.0, 1_234_567.0].map(thousands).each_ref().map(String::as_str)
        );
    }
}
