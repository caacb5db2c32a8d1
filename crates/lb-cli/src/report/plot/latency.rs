//! Response times: their distribution, and the figures people quote.

use crate::load::{CdfPoint, ResponseTimes, RunResult};
use crate::report::ReportError;
use crate::report::units::{self, TimeUnit};

use super::bars::{Bar, Bars, Group};
use super::frame::{Axis, Frame};
use super::ink::Ink;
use super::{Drawing, Figure, Mark, run_keys, ticks};

/// In CSS pixels: two stand beside each other on the page.
const SIZE: (u32, u32) = (530, 300);

/// Labels on the axis of times, which are long; with more ticks only powers of ten have one.
const TIME_LABELS: usize = 8;

/// The axis begins at the time of this part of the calls, so that one lucky call does not squeeze
/// all the others.
const FIRST_FRACTION: f64 = 0.005;

/// One of the figures people quote, read from a run's response times.
type Statistic = (&'static str, fn(&ResponseTimes) -> f64);

const STATISTICS: [Statistic; 4] = [
    ("mean", |times| times.mean_us),
    ("p50", |times| times.p50_us as f64),
    ("p99", |times| times.p99_us as f64),
    ("max", |times| times.max_us as f64),
];

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
        drawings: vec![Drawing { heading: None, svg }],
        caption: "The further left a line climbs, the sooner calls are answered; a long way \
                  along the top means that a few callers wait much longer than the others."
            .to_owned(),
    }))
}

fn distribution_frame(min_us: f64, max_us: f64) -> Frame {
    let time_ticks = ticks::logarithmic(min_us, max_us);
    let first = time_ticks.first().map_or(0.0, |tick| tick.log10());
    let last = time_ticks.last().map_or(1.0, |tick| tick.log10());
    let label_all = time_ticks.len() <= TIME_LABELS;
    let label = |tick: f64| {
        let labelled = label_all || ticks::is_power_of_ten(tick);
        let text = if labelled { round_duration(tick) } else { String::new() };
        (tick.log10(), text)
    };
    Frame {
        title: "Distribution of response times".to_owned(),
        width: SIZE.0,
        height: SIZE.1,
        x: Axis {
            label: "response time (logarithmic scale)".to_owned(),
            range: first..last,
            ticks: time_ticks.into_iter().map(label).collect(),
            grid: true,
        },
        y: Axis {
            label: "calls answered within (%)".to_owned(),
            range: 0.0..1.02,
            ticks: [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| (part, units::percent(part))).to_vec(),
            grid: true,
        },
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

/// A tick's time: always a round figure.
fn round_duration(microseconds: f64) -> String {
    let unit = TimeUnit::fitting(microseconds);
    format!("{} {}", (microseconds / unit.microseconds).round(), unit.symbol)
}

/// Groups of bars: mean, median, p99 and the longest of each run.
pub(super) fn summary(runs: &[RunResult]) -> Result<Option<Figure>, ReportError> {
    let longest = runs.iter().filter_map(|run| run.response.as_ref());
    let Some(longest) = longest.map(|times| times.max_us).max() else {
        return Ok(None);
    };
    let unit = TimeUnit::fitting(longest as f64);
    let groups = STATISTICS.map(|(label, read)| Group {
        label: label.to_owned(),
        bars: runs
            .iter()
            .enumerate()
            .map(|(index, run)| {
                let height = run.response.as_ref().map(read);
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
        title: "Response times".to_owned(),
        size: SIZE,
        x_label: "mean, median, 99th percentile, longest".to_owned(),
        y_label: format!("response time ({})", unit.symbol),
        y_tick: units::plain,
        y_at_least: 1.0,
        groups: groups.into(),
    };
    let svg = plot.draw()?;
    Ok(Some(Figure {
        title: plot.title,
        legend: run_keys(runs, Mark::Bar),
        drawings: vec![Drawing { heading: None, svg }],
        caption: "Lower is better; look at p99 first, for anything made of many calls nearly \
                  always waits for one as slow as that."
            .to_owned(),
    }))
}
