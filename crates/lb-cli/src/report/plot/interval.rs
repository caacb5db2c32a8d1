//! p99 against the time between reports: for each load all rules, and those near the oracle once more.

use crate::report::ReportError;
use crate::report::sweep::{IntervalSweep, SweepPoint};
use crate::report::units::ratio;

use super::frame::Axis;
use super::ink::Ink;
use super::latency::time_axis;
use super::lines::{Line, Lines};
use super::{Figure, ticks};

/// In CSS pixels: two stand beside each other on the page.
const SIZE: (u32, u32) = (530, 310);

/// Rules, what the plots call them, and their inks: the yardstick has the colour of letters.
const RULES: [(&str, &str, Ink); 5] = [
    ("naive_least_load", "naive least load", Ink::Run(1)),
    ("round_robin", "round robin", Ink::Run(2)),
    ("p2c", "two choices", Ink::Run(3)),
    ("least_load", "least load", Ink::Run(0)),
    ("oracle_queue", "oracle", Ink::Run(6)),
];

/// The plot near the oracle ends at the first tick above this.
const NEAR_AT_LEAST: f64 = 1.2;

/// Ticks of its upright axis.
const NEAR_TICKS: usize = 5;

/// The rule that leaves the plot near the oracle.
const FAR: &str = "naive_least_load";

/// Two figures for each load.
pub(in crate::report) fn by_interval(sweep: &IntervalSweep) -> Result<Vec<Figure>, ReportError> {
    let mut figures = Vec::new();
    for load in sweep.loads() {
        let points: Vec<&SweepPoint> = sweep.at(load).collect();
        figures.extend(all(load, &points).map(Lines::draw).transpose()?);
        figures.extend(near(load, &points).map(Lines::draw).transpose()?);
    }
    Ok(figures)
}

fn all(load: u32, points: &[&SweepPoint]) -> Option<Lines> {
    let (min_us, max_us) = bounds(points.iter().map(|point| point.p99_ms * 1e3))?;
    Some(Lines {
        title: format!("p99 by the time between reports, {load}% load"),
        caption:
            "Both scales are logarithmic. The naive rule trusts the last report, so it sends all \
                  calls of an interval to whoever looked idle when it began."
                .to_owned(),
        size: SIZE,
        x: interval_axis(points)?,
        y: time_axis("p99 (logarithmic scale)", min_us, max_us),
        curves: lines(points, |point| (point.p99_ms * 1e3).log10()),
        names: true,
    })
}

fn near(load: u32, points: &[&SweepPoint]) -> Option<Lines> {
    let near = points.iter().filter(|point| point.rule != FAR);
    let (_, max) = bounds(near.map(|point| point.p99_over_oracle))?;
    let over = ticks::linear(max.max(NEAR_AT_LEAST) - 1.0, NEAR_TICKS);
    let top = 1.0 + over.last()?;
    Some(Lines {
        title: format!("The same near the oracle, {load}% load"),
        caption:
            "Times the p99 of the oracle, which sees all queues as they are. What keeps least \
                  load near it between reports is the balancer's own count of its picks."
                .to_owned(),
        size: SIZE,
        x: interval_axis(points)?,
        y: Axis {
            label: "p99, times the oracle's".to_owned(),
            range: 0.98..top,
            ticks: over.iter().map(|over| (1.0 + over, ratio(1.0 + over))).collect(),
            grid: true,
        },
        curves: lines(points, |point| point.p99_over_oracle),
        names: true,
    })
}

fn interval_axis(points: &[&SweepPoint]) -> Option<Axis> {
    let (min_us, max_us) = bounds(points.iter().map(|point| point.interval_ms * 1e3))?;
    Some(time_axis("time between two reports (logarithmic scale)", min_us, max_us))
}

fn lines(points: &[&SweepPoint], height: impl Fn(&SweepPoint) -> f64) -> Vec<Line> {
    let line = |(rule, name, ink): (&str, &str, Ink)| {
        let own = points.iter().filter(|point| point.rule == rule && point.interval_ms > 0.0);
        let mut points: Vec<(f64, f64)> =
            own.map(|point| ((point.interval_ms * 1e3).log10(), height(point))).collect();
        points.sort_by(|left, right| left.0.total_cmp(&right.0));
        (!points.is_empty()).then(|| Line { name: name.to_owned(), ink, points })
    };
    RULES.into_iter().filter_map(line).collect()
}

/// The least and the greatest of values above 0.
fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let of_two = |(min, max): (f64, f64), value: f64| (min.min(value), max.max(value));
    let values = values.filter(|value| value.is_finite() && *value > 0.0);
    values.map(|value| (value, value)).reduce(|bounds, (value, _)| of_two(bounds, value))
}
