//! The plots of the page: one module for each kind, all drawn in the same [`frame`].
//!
//! A plot is drawn in [`ink::Ink`]s, which are names of colours; the page's style sheet gives the
//! names their values for the light and for the dark theme.

mod bars;
mod frame;
mod ink;
mod interval;
mod latency;
mod lines;
mod scaling;
mod simulation;
mod ticks;
mod timeline;
mod workers;

pub(super) use self::ink::Ink;
pub(super) use self::interval::by_interval;
pub(super) use self::scaling::of_scaling;
pub(super) use self::simulation::of_simulation;
pub(super) use self::workers::{all_workers, of_worker, share_of_slots};

use crate::load::RunResult;

use super::ReportError;

/// Runs in one plot: more lines than colours cannot be told apart. The tables show all.
pub(super) const MAX_RUNS: usize = 8;

/// Workers in a plot of bars: as many as have room for a name of six letters.
const MAX_BAR_WORKERS: usize = 10;

/// Workers in a plot of lines.
const MAX_LINE_WORKERS: usize = 8;

/// One figure of the page.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) title: String,
    /// What each colour stands for.
    pub(super) legend: Vec<Key>,
    /// One drawing or several side by side.
    pub(super) drawings: Vec<Drawing>,
    /// One sentence: what to see.
    pub(super) caption: String,
}

/// One entry of a legend.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) ink: Ink,
    pub(super) mark: Mark,
    pub(super) label: String,
}

/// What the plot draws in the colour of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Line,
    Bar,
}

/// One drawing of a figure.
#[derive(Debug)]
pub(super) struct Drawing {
    /// Above the drawing, when there are several.
    pub(super) heading: Option<String>,
    /// In CSS pixels.
    pub(super) size: (u32, u32),
    /// An `<svg>` element that refers to nothing outside the page but its style sheet.
    pub(super) svg: String,
}

/// All figures there is something to draw for.
pub(super) fn figures(runs: &[RunResult]) -> Result<Vec<Figure>, ReportError> {
    let runs = &runs[..runs.len().min(MAX_RUNS)];
    let figures = [
        latency::distribution(runs)?,
        latency::summary(runs)?,
        latency::picks(runs)?,
        latency::parts(runs)?,
        workers::share(runs)?,
        workers::utilisation(runs)?,
        timeline::slots(runs)?,
        timeline::processors(runs)?,
    ];
    Ok(figures.into_iter().flatten().collect())
}

/// The two that say most, for a document that shows many cases.
pub(super) fn main_figures(runs: &[RunResult]) -> Result<Vec<Figure>, ReportError> {
    let runs = &runs[..runs.len().min(MAX_RUNS)];
    let figures = [latency::distribution(runs)?, workers::utilisation(runs)?];
    Ok(figures.into_iter().flatten().collect())
}

/// The legend of a plot that compares runs.
fn run_keys(runs: &[RunResult], mark: Mark) -> Vec<Key> {
    let key = |(index, run): (usize, &RunResult)| Key {
        ink: Ink::Run(index),
        mark,
        label: run.name.clone(),
    };
    runs.iter().enumerate().map(key).collect()
}
