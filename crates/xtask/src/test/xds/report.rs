//! What was measured, as it is kept, and the table that docs/any-language.md shows of it.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    bench::{
        page::{self, Section},
        result::{Environment, median},
    },
    tools::{root, say},
};

const COMMITTED: &str = "docs/results/xds.json";
const SECTION: Section = Section {
    page: "docs/any-language.md",
    begin: "<!-- xds: made by `cargo xtask xds --save`, not by hand -->\n",
    end: "<!-- xds: end -->\n",
};

/// Everything that one run found out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    environment: Environment,
    /// Of the libraries.
    versions: BTreeMap<String, String>,
    figures: Vec<Figure>,
}

/// Something that was measured, once or several times.
#[derive(Debug, Serialize, Deserialize)]
struct Figure {
    what: String,
    unit: String,
    /// Most that it may be, in the middle of all.
    limit: Option<f64>,
    values: Vec<f64>,
}

impl Report {
    pub(super) fn new(versions: BTreeMap<String, String>) -> anyhow::Result<Self> {
        Ok(Self { environment: Environment::here()?, versions, figures: Vec::new() })
    }

    /// Takes a figure down, and says it.
    ///
    /// # Errors
    /// When it is above its limit.
    pub(super) fn take(
        &mut self,
        what: impl Into<String>,
        unit: &str,
        limit: Option<f64>,
        values: Vec<f64>,
    ) -> anyhow::Result<()> {
        let figure = Figure { what: what.into(), unit: unit.to_owned(), limit, values };
        say(&figure.to_string());
        let middle = figure.middle();
        ensure!(limit.is_none_or(|limit| middle <= limit), "too much: {figure}");
        self.figures.push(figure);
        Ok(())
    }

    /// Keeps the result, and puts the table into the page.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(root().join(COMMITTED), text).context(COMMITTED)?;
        page::fill(SECTION, &render(self))
    }
}

impl Figure {
    fn middle(&self) -> f64 {
        median(self.values.iter().copied())
    }

    fn most(&self) -> f64 {
        self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, unit, values, .. } = self;
        write!(formatter, "{what}: {:.1} {unit}", self.middle())?;
        if values.len() > 1 {
            write!(formatter, ", at most {:.1} ({} times)", self.most(), values.len())?;
        }
        Ok(())
    }
}

/// The committed table must be that of the committed result.
///
/// # Errors
/// When they differ.
pub(super) fn check_page() -> anyhow::Result<()> {
    page::check(SECTION, COMMITTED, "cargo xtask xds --save", render)
}

fn render(report: &Report) -> String {
    let Environment { machine, cores, commit, date } = &report.environment;
    let versions: Vec<_> =
        report.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let mut text = format!(
        "\n{machine}, {cores} cores; commit {commit}, {date}. {}.\n\n\
         | | limit | median | most | times |\n|---|---|---|---|---|\n",
        versions.join(", ")
    );
    for figure in &report.figures {
        let Figure { what, unit, limit, values } = figure;
        let limit = limit.map(|limit| format!("{limit} {unit}")).unwrap_or_default();
        let (middle, most, times) = (figure.middle(), figure.most(), values.len());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {what} | {limit} | {middle:.1} {unit} | {most:.1} {unit} | {times} |"
        );
    }
    text.push('\n');
    text
}
