//! What a simulation shows: how long calls took under each rule, and how full the fleet was meanwhile.

use lb_sim::{Moment, Row, Summary};

use crate::report::ReportError;
use crate::report::units::{count, percent, plain};

use super::frame::Axis;
use super::ink::Ink;
use super::latency::time_axis;
use super::lines::{Line, Lines};
use super::{Figure, MAX_RUNS, ticks};

/// In CSS pixels: two stand beside each other.
const SIZE: (u32, u32) = (530, 310);

/// The colour of letters, for the yardstick.
const ORACLE_INK: usize = 6;

/// Distributions begin at the time of this part of the calls, so that one lucky call does not squeeze all others.
const FIRST_SHARE: f64 = 0.005;

/// Parts of the calls that the axis of the tail names, from its beginning to its end.
const TAIL: [(f64, &str); 5] =
    [(0.5, "50%"), (0.9, "90%"), (0.99, "99%"), (0.999, "99.9%"), (0.9999, "99.99%")];

/// Ticks of the axis of time.
const TIME_TICKS: usize = 6;

/// Waiting calls that the axis names.
const WAITING: [u32; 10] = [0, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000];

/// All figures there is something to draw for. `seconds` is the length of the run.
pub(in crate::report) fn of_simulation(
    summary: &Summary,
    seconds: f64,
) -> Result<Vec<Figure>, ReportError> {
    let rows = &summary.rows[..summary.rows.len().min(MAX_RUNS)];
    let plots = [distribution(rows), tail(rows), busy(rows, seconds), waiting(rows, seconds)];
    plots.into_iter().flatten().map(Lines::draw).collect()
}

fn distribution(rows: &[Row]) -> Option<Lines> {
    let (min_us, max_us) = bounds(rows)?;
    let first = time_axis("", min_us, max_us).range.start;
    Some(Lines {
        title: "Distribution of response times".to_owned(),
        caption: "The further left a line climbs, the sooner calls are answered.".to_owned(),
        size: SIZE,
        x: time_axis("response time (logarithmic scale)", min_us, max_us),
        y: Axis {
            label: "calls answered within (%)".to_owned(),
            range: 0.0..1.02,
            ticks: [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| (part, percent(part))).to_vec(),
            grid: true,
        },
        curves: lines(rows, |row| {
            let place = |(share, time): &(f64, f64)| (log_us(*time).max(first), *share);
            row.distribution.iter().map(place).collect()
        }),
        names: false,
    })
}

fn tail(rows: &[Row]) -> Option<Lines> {
    let (begin, end) = (TAIL[0].0, TAIL[TAIL.len() - 1].0);
    let (_, max_us) = bounds(rows)?;
    let medians = rows.iter().map(|row| row.p50 * 1e3).filter(|median| *median > 0.0);
    let min_us = medians.reduce(f64::min)?;
    Some(Lines {
        title: "The tail".to_owned(),
        caption:
            "One call in ten, in a hundred, in a thousand takes longer than this: where rules \
                  differ most."
                .to_owned(),
        size: SIZE,
        x: Axis {
            label: "part of the calls, ever finer to the right".to_owned(),
            range: nines(begin)..nines(end),
            ticks: TAIL.map(|(share, label)| (nines(share), label.to_owned())).to_vec(),
            grid: true,
        },
        y: time_axis("answered within (logarithmic scale)", min_us, max_us),
        curves: lines(rows, |row| {
            let shown = row.distribution.iter().filter(|(share, _)| (begin..=end).contains(share));
            shown.map(|(share, time)| (nines(*share), log_us(*time))).collect()
        }),
        names: true,
    })
}

fn busy(rows: &[Row], seconds: f64) -> Option<Lines> {
    Some(Lines {
        title: "Slots in use over time".to_owned(),
        caption: "Of all workers that are there. Where the load is the same, a rule that uses more slots \
                  sends work to slower machines."
            .to_owned(),
        size: SIZE,
        x: run_axis(rows, seconds)?,
        y: Axis {
            label: "slots in use (%)".to_owned(),
            range: 0.0..1.03,
            ticks: [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| (part, percent(part))).to_vec(),
            grid: true,
        },
        curves: over_time(rows, seconds, |moment| moment.busy),
        names: false,
    })
}

fn waiting(rows: &[Row], seconds: f64) -> Option<Lines> {
    let all = rows.iter().flat_map(|row| &row.moments).map(|moment| moment.waiting);
    let most = all.fold(0.0, f64::max);
    let last = WAITING.iter().position(|waiting| f64::from(*waiting) >= most);
    let last = last.unwrap_or(WAITING.len() - 1).max(1);
    Some(Lines {
        title: "Calls that wait for a slot, over time".to_owned(),
        caption: "In all workers together; the scale is logarithmic above 1. A line that keeps climbing is a \
                  fleet that is lost."
            .to_owned(),
        size: SIZE,
        x: run_axis(rows, seconds)?,
        y: Axis {
            label: "calls waiting".to_owned(),
            range: 0.0..more(f64::from(WAITING[last]).max(most)),
            ticks: WAITING[..=last]
                .iter()
                .map(|waiting| (more(f64::from(*waiting)), count(u64::from(*waiting))))
                .collect(),
            grid: true,
        },
        curves: over_time(rows, seconds, |moment| more(moment.waiting)),
        names: true,
    })
}

fn run_axis(rows: &[Row], seconds: f64) -> Option<Axis> {
    rows.iter().any(|row| row.moments.len() > 1).then(|| Axis {
        label: "time (s)".to_owned(),
        range: 0.0..seconds,
        ticks: ticks::linear(seconds, TIME_TICKS)
            .into_iter()
            .filter(|tick| *tick <= seconds)
            .map(|tick| (tick, plain(tick)))
            .collect(),
        grid: false,
    })
}

fn over_time(rows: &[Row], seconds: f64, read: fn(&Moment) -> f64) -> Vec<Line> {
    lines(rows, |row| {
        let place = |moment: &Moment| (moment.passed * seconds, read(moment));
        row.moments.iter().map(place).collect()
    })
}

fn lines(rows: &[Row], points: impl Fn(&Row) -> Vec<(f64, f64)>) -> Vec<Line> {
    let others = (0..).filter(|index| *index != ORACLE_INK);
    let mut others = others.map(Ink::Run);
    let line = |row: &Row| Line {
        name: row.rule.to_string(),
        ink: if row.rule.is_oracle() {
            Ink::Run(ORACLE_INK)
        } else {
            others.next().unwrap_or(Ink::Text)
        },
        points: points(row),
    };
    rows.iter().map(line).collect()
}

/// The least and the greatest time to show, in microseconds; `None` when no call was answered.
fn bounds(rows: &[Row]) -> Option<(f64, f64)> {
    let answered = || rows.iter().filter(|row| row.max > 0.0);
    let firsts = answered().filter_map(|row| {
        let shown = |(share, _): &&(f64, f64)| *share >= FIRST_SHARE;
        row.distribution.iter().find(shown).map(|(_, time)| (time * 1e3).max(1.0))
    });
    let min = firsts.reduce(f64::min)?;
    Some((min, answered().map(|row| row.max * 1e3).fold(min, f64::max)))
}

fn log_us(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).max(1.0).log10()
}

/// Nines of a share: 0, 0.3, 1, 2, 3 for 0, 50, 90, 99, 99.9 %.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

/// Logarithmic for many, and 0 for none.
fn more(waiting: f64) -> f64 {
    waiting.ln_1p()
}
