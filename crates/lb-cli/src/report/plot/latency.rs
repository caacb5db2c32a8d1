//! Response times: their distribution, and the figures people quote.

use crate::load::{CdfPoint, ResponseTimes, RunResult};
use crate::report::ReportError;
use crate::report::units::{self, TimeUnit, round_duration};

use super::bars::{Bar, Bars, Group};
use super::frame::{Axis, Frame, RIGHT};
use super::ink::Ink;
use super::{Drawing, Figure, Mark, run_keys, ticks};

/// In CSS pixels: two stand beside each other on the page.
const SIZE: (u32, u32) = (530, 300);

/// Labels on the axis of times, which are long; with more ticks only powers of ten have one.
const TIME_LABELS: usize = 8;

/// The axis begins at the time of this part of the calls, so that one lucky call does not squeeze
/// all the others.
const FIRST_FRACTION: f64 = 0.005;

/// A figure's name, and how to read it.
type Statistic<T> = (&'static str, fn(&T) -> f64);

const STATISTICS: [Statistic<ResponseTimes>; 4] = [
    ("mean", |times| times.mean_us),
    ("p50", |times| times.p50_us as f64),
    ("p99", |times| times.p99_us as f64),
    ("max", |times| times.max_us as f64),
];

const PICK_STATISTICS: [Statistic<ResponseTimes>; 4] = [
    ("mean", |times| times.mean_us),
    ("p50", |times| times.p50_us as f64),
    ("p90", |times| times.p90_us as f64),
    ("p99", |times| times.p99_us as f64),
];

/// Parts of a call, in the order in which they pass.
const PARTS: [Statistic<RunResult>; 3] = [
    ("pick", |run| mean(run.pick.as_ref())),
    ("waiting for a slot", |run| mean(run.queued.as_ref())),
    ("working", |run| mean(run.service.as_ref())),
];

/// Of a part that nobody told of, nothing.
fn mean(times: Option<&ResponseTimes>) -> f64 {
    times.map_or(0.0, |times| times.mean_us)
}

/// One line for each run: which part of its calls was answered within a time.
pub(super) fn distribution(runs: &[RunResult]) -> Result<Option<Figure>, ReportError> {
    let Some((min_us, max_us)) = bounds(runs) else {
        return Ok(None);
    };
    let frame = distribution_frame(min_us, max_us);
    let first = frame.x.range.start;
    let svg = frame.draw(|canvas| {
        for (index, run) in runs.iter().enumerate() {
            let place = |point: &CdfPoint| (log_time(point.time_us).max(first), point.fraction);
            let points = run.response_cdf.iter().map(place).collect();
            canvas.line(points, Ink::Run(index))?;
        }
        Ok(())
    })?;
    Ok(Some(Figure {
        title: frame.title,
        legend: run_keys(runs, Mark::Line),
        drawings: vec![Drawing { heading: None, size: SIZE, svg }],
        caption: "The further left a line climbs, the sooner calls are answered; a long way \
                  along the top means that a few callers wait much longer than the others."
            .to_owned(),
    }))
}

fn distribution_frame(min_us: f64, max_us: f64) -> Frame {
    Frame {
        title: "Distribution of response times".to_owned(),
        width: SIZE.0,
        height: SIZE.1,
        right: RIGHT,
        x: time_axis("response time (logarithmic scale)", min_us, max_us),
        y: Axis {
            label: "calls answered within (%)".to_owned(),
            range: 0.0..1.02,
            ticks: [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| (part, units::percent(part))).to_vec(),
            grid: true,
        },
    }
}

/// A logarithmic axis of times, given in microseconds.
pub(super) fn time_axis(label: &str, min_us: f64, max_us: f64) -> Axis {
    let time_ticks = ticks::logarithmic(min_us, max_us);
    let first = time_ticks.first().map_or(0.0, |tick| tick.log10());
    let last = time_ticks.last().map_or(1.0, |tick| tick.log10());
    let label_all = time_ticks.len() <= TIME_LABELS;
    let tick = |tick: f64| {
        let labelled = label_all || ticks::is_power_of_ten(tick);
        let text = if labelled { round_duration(tick) } else { String::new() };
        (tick.log10(), text)
    };
    Axis {
        label: label.to_owned(),
        range: first..last,
        ticks: time_ticks.into_iter().map(tick).collect(),
        grid: true,
    }
}

/// The least and the greatest time to show, in microseconds, both above 0.
fn bounds(runs: &[RunResult]) -> Option<(f64, f64)> {
    let firsts = runs.iter().filter_map(|run| {
        let shown = |point: &&CdfPoint| point.fraction >= FIRST_FRACTION;
        run.response_cdf.iter().find(shown)
    });
    let lasts = runs.iter().filter_map(|run| run.response_cdf.last());
    let min = firsts.map(|point| point.time_us.max(1)).min()?;
    let max = lasts.map(|point| point.time_us.max(1)).max()?;
    Some((min as f64, max as f64))
}

fn log_time(microseconds: u64) -> f64 {
    (microseconds.max(1) as f64).log10()
}

/// Groups of bars: mean, median, p99 and the longest of each run.
pub(super) fn summary(runs: &[RunResult]) -> Result<Option<Figure>, ReportError> {
    let plot = Statistics {
        title: "Response times",
        x_label: "mean, median, 99th percentile, longest",
        y_label: "response time",
        caption: "Lower is better; look at p99 first, for anything made of many calls nearly always \
                  waits for one as slow as that.",
        shown: &STATISTICS,
        times: |run| run.response.as_ref(),
    };
    plot.draw(runs)
}

/// The same of the times to pick, without the longest, which is one scheduling hiccup.
pub(super) fn picks(runs: &[RunResult]) -> Result<Option<Figure>, ReportError> {
    let plot = Statistics {
        title: "Time to pick a worker",
        x_label: "mean, median, 90th and 99th percentile",
        y_label: "time to pick",
        caption: "What choosing costs a caller, apart from the time in the worker: a part of the \
                  response time.",
        shown: &PICK_STATISTICS,
        times: |run| run.pick.as_ref(),
    };
    plot.draw(runs)
}

/// What a call's time is made of, on average.
pub(super) fn parts(runs: &[RunResult]) -> Result<Option<Figure>, ReportError> {
    if runs.iter().all(|run| run.queued.is_none() && run.service.is_none()) {
        return Ok(None);
    }
    let plot = Statistics {
        title: "Where the time goes",
        x_label: "mean of each part",
        y_label: "time",
        caption: "Working is what the task itself takes; waiting for a slot is what a better choice \
                  of worker can save.",
        shown: &PARTS,
        times: |run| Some(run),
    };
    plot.draw(runs)
}

/// Bars of some figures of some times.
struct Statistics<T: 'static> {
    title: &'static str,
    x_label: &'static str,
    y_label: &'static str,
    caption: &'static str,
    shown: &'static [Statistic<T>],
    times: fn(&RunResult) -> Option<&T>,
}

impl<T> Statistics<T> {
    fn draw(&self, runs: &[RunResult]) -> Result<Option<Figure>, ReportError> {
        let times = runs.iter().filter_map(|run| (self.times)(run));
        let figures = times.flat_map(|times| self.shown.iter().map(|(_, read)| read(times)));
        let Some(longest) = figures.max_by(f64::total_cmp) else {
            return Ok(None);
        };
        let unit = TimeUnit::fitting(longest);
        let groups = self.shown.iter().map(|(label, read)| Group {
            label: (*label).to_owned(),
            bars: runs
                .iter()
                .enumerate()
                .map(|(index, run)| {
                    let height = (self.times)(run).map(read);
                    let height = height.map(|microseconds| microseconds / unit.microseconds);
                    Bar {
                        ink: Ink::Run(index),
                        height,
                        value: height.map_or(String::new(), units::rate),
                    }
                })
                .collect(),
        });
        let plot = Bars {
            title: self.title.to_owned(),
            size: SIZE,
            x_label: self.x_label.to_owned(),
            y_label: format!("{} ({})", self.y_label, unit.symbol),
            y_tick: units::plain,
            y_at_least: 1.0,
            groups: groups.collect(),
        };
        let svg = plot.draw()?;
        Ok(Some(Figure {
            title: plot.title,
            legend: run_keys(runs, Mark::Bar),
            drawings: vec![Drawing { heading: None, size: SIZE, svg }],
            caption: self.caption.to_owned(),
        }))
    }
}
