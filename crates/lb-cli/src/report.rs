//! Results for people: a table for the terminal, a page for the browser, JSON for everything else.
//!
//! All three are made from the same [`Report`] and decide nothing. The page is one file that loads
//! nothing: styles and plots are inside, there is no script, and its colours follow the reader's
//! light or dark theme, because the plots are drawn in names of colours and the style sheet says
//! what the names mean.

mod html;
mod notes;
mod plot;
mod plots;
mod scaling;
mod sheet;
mod spread;
mod spread_table;
pub(crate) mod sweep;
mod table;
mod text;
pub(crate) mod units;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::load::RunResult;

pub(crate) use self::html::document;
pub(crate) use self::plots::Plots;
pub(crate) use self::scaling::{Answer, Scaled};
pub use self::spread::{Range, Spread, TimeRanges, middle};
pub(crate) use self::text::escaped;

/// What the names of colours in plots mean, in both themes.
const PLOT_STYLE: &str = include_str!("report/plot.css");

/// What was measured, where, and what came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// One line.
    pub title: String,
    /// What was compared and how, in a few sentences.
    pub description: String,
    /// Where it was measured.
    pub environment: Environment,
    /// One result for each policy, in the order in which they are shown. Where each was repeated, the
    /// repeat in the middle.
    pub runs: Vec<RunResult>,
    /// Where runs were repeated: all repeats of each, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spreads: Vec<Spread>,
}

/// Where and how a report came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The command that makes this report again.
    pub command_line: String,
    /// When, as people write it.
    pub date: String,
    /// The machine in words: operating system, processor.
    pub machine: String,
    /// Processors the programs could use.
    pub cores: usize,
    /// Versions of programs by name.
    pub versions: BTreeMap<String, String>,
}

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A plot could not be drawn.
    #[error("cannot draw the plot {plot:?}")]
    Plot {
        /// Its title.
        plot: String,
        /// What the drawing library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A figure is not a number.
    #[error("cannot write the report as JSON")]
    Json(#[from] serde_json::Error),
}

impl Report {
    /// The table for a terminal of so many columns, with notes below it. Ids that do not fit are
    /// shortened, and what is still too wide becomes several tables. Repeated runs have tables of their
    /// own.
    pub fn table(&self, width: usize) -> String {
        let text = if self.spreads.is_empty() {
            table::render(&self.runs, width)
        } else {
            spread_table::render(&self.spreads, &self.runs, width)
        };
        let notes =
            notes::notes_of_phases(&self.runs).into_iter().map(|note| format!("* {note}\n"));
        text + &notes.collect::<String>()
    }

    /// The page, as the text of one HTML file.
    ///
    /// # Errors
    /// When a plot cannot be drawn.
    pub fn html(&self) -> Result<String, ReportError> {
        html::render(self)
    }

    /// Everything, as indented JSON. `serde_json` reads it back into a [`Report`].
    ///
    /// # Errors
    /// When a figure is not a number.
    pub fn json(&self) -> Result<String, ReportError> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}

#[cfg(test)]
mod tests;
