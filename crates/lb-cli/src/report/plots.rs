//! Plots apart from the page of a bench: as a file of their own, or for a page that somebody else writes.

use lb_sim::Summary;

use super::plot::{self, Figure};
use super::scaling::{Answer, Scaled};
use super::sweep::IntervalSweep;
use super::{Report, ReportError, html, sheet};

/// Some figures under one title.
#[derive(Debug)]
pub(crate) struct Plots {
    title: String,
    /// What they show, in a few sentences.
    about: String,
    figures: Vec<Figure>,
}

impl Plots {
    /// Of a simulation that ran for so many seconds.
    ///
    /// # Errors
    /// When one cannot be drawn.
    pub(crate) fn of_simulation(summary: &Summary, seconds: f64) -> Result<Self, ReportError> {
        let seeds = match summary.seeds {
            1 => "One seed".to_owned(),
            seeds => format!("{seeds} seeds pooled"),
        };
        Ok(Self {
            title: summary.name.clone(),
            about: format!("{}. Simulated; {seeds}.", summary.about.trim_end_matches('.')),
            figures: plot::of_simulation(summary, seconds)?,
        })
    }

    /// Of workers that came and went.
    ///
    /// # Errors
    /// When one cannot be drawn.
    pub(crate) fn of_scaling(moments: &[Scaled], answers: &[Answer]) -> Result<Self, ReportError> {
        Ok(Self {
            title: "Workers that come and go".to_owned(),
            about: String::new(),
            figures: plot::of_scaling(moments, answers)?,
        })
    }

    /// Of p99 against the time between reports.
    ///
    /// # Errors
    /// When one cannot be drawn.
    pub(crate) fn of_sweep(sweep: &IntervalSweep) -> Result<Self, ReportError> {
        Ok(Self {
            title: "p99 against the time between two reports".to_owned(),
            about: format!("Simulated: {}.", sweep.what.trim_end_matches('.')),
            figures: plot::by_interval(sweep)?,
        })
    }

    /// The two figures of a measured case that say most.
    ///
    /// # Errors
    /// When one cannot be drawn.
    pub(crate) fn main_of(report: &Report) -> Result<Self, ReportError> {
        Ok(Self {
            title: report.title.clone(),
            about: report.description.clone(),
            figures: plot::main_figures(&report.runs)?,
        })
    }

    /// All figures of a measured case.
    ///
    /// # Errors
    /// When one cannot be drawn.
    pub(crate) fn all_of(report: &Report) -> Result<Self, ReportError> {
        Ok(Self { figures: plot::figures(&report.runs)?, ..Self::main_of(report)? })
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// Whether there is nothing to draw.
    pub(crate) fn is_empty(&self) -> bool {
        self.figures.is_empty()
    }

    /// One file that stands alone.
    pub(crate) fn svg(&self) -> String {
        sheet::render(&self.title, &self.about, &self.figures)
    }

    /// An element for a page with our style sheet. Without empty lines, which would end it in Markdown.
    pub(crate) fn html(&self) -> String {
        let figures = html::figures(&self.figures);
        let lines = figures.lines().filter(|line| !line.trim().is_empty());
        lines.collect::<Vec<_>>().join("\n")
    }
}
