//! How workers followed a load: what was asked for, who was there, and how long calls took meanwhile.

use crate::report::ReportError;
use crate::report::scaling::{Answer, Scaled};
use crate::report::units::plain;

use super::frame::Axis;
use super::ink::Ink;
use super::latency::time_axis;
use super::lines::{Line, Lines};
use super::{Figure, ticks};

/// In CSS pixels: two stand beside each other.
const SIZE: (u32, u32) = (530, 310);

/// Ticks of either axis.
const TICKS: usize = 6;

/// Calls are put together by this much time: each part has enough of them for a p99 that says something.
const PART_SECONDS: f64 = 1.0;

/// The median and the p99 of each part.
const SHARES: [(f64, &str, Ink); 2] = [(0.99, "p99", Ink::Run(1)), (0.5, "p50", Ink::Run(0))];

/// All figures there is something to draw for.
pub(in crate::report) fn of_scaling(
    moments: &[Scaled],
    answers: &[Answer],
) -> Result<Vec<Figure>, ReportError> {
    let Some(end) = moments.last().map(|moment| moment.at_seconds).filter(|end| *end > 0.0) else {
        return Ok(Vec::new());
    };
    let plots = [Some(workers(moments, end)), Some(load(moments, end)), times(answers, end)];
    plots.into_iter().flatten().map(Lines::draw).collect()
}

fn workers(moments: &[Scaled], end: f64) -> Lines {
    let wanted = line("wanted", Ink::Reference, moments, |moment| moment.wanted.into());
    let ready = line("ready", Ink::Run(0), moments, |moment| moment.ready.into());
    Lines {
        title: "Workers".to_owned(),
        caption: "Between wanted and ready, going up, lies the start of a process; going down, its drain."
            .to_owned(),
        size: SIZE,
        x: seconds(end),
        y: upright("workers", &[&wanted, &ready]),
        curves: vec![wanted, ready],
        names: false,
    }
}

fn load(moments: &[Scaled], end: f64) -> Lines {
    let slots = line("slots", Ink::Reference, moments, |moment| moment.slots.into());
    let calls = line("calls", Ink::Run(0), moments, |moment| moment.outstanding.into());
    Lines {
        title: "Calls and slots".to_owned(),
        caption:
            "Running and queued, over all workers. Where calls lie above the slots, some wait."
                .to_owned(),
        size: SIZE,
        x: seconds(end),
        y: upright("calls, slots", &[&slots, &calls]),
        curves: vec![slots, calls],
        names: false,
    }
}

fn times(answers: &[Answer], end: f64) -> Option<Lines> {
    let mut parts: Vec<Vec<f64>> = Vec::new();
    for answer in answers {
        let part = part_of(answer.at_seconds);
        parts.resize_with(parts.len().max(part + 1), Vec::new);
        parts[part].push(answer.took_us.max(1.0));
    }
    for part in &mut parts {
        part.sort_by(f64::total_cmp);
    }
    let at = |part: usize| (part as f64 + 0.5) * PART_SECONDS;
    let curves = SHARES.map(|(share, name, ink)| {
        let points = parts.iter().enumerate();
        let points =
            points.filter_map(|(part, times)| Some((at(part), of_sorted(times, share)?.log10())));
        Line { name: name.to_owned(), ink, points: points.collect() }
    });
    let all =
        || curves.iter().flat_map(|line| &line.points).map(|(_, height)| 10_f64.powf(*height));
    let (min, max) = (all().reduce(f64::min)?, all().reduce(f64::max)?);
    Some(Lines {
        title: "Response times".to_owned(),
        caption: "Of the calls of each second. What a new worker costs those who wait for it is how high the p99 gets.".to_owned(),
        size: SIZE,
        x: seconds(end),
        y: time_axis("response time (logarithmic scale)", min, max),
        curves: curves.to_vec(),
        names: true,
    })
}

fn part_of(at_seconds: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a run")]
    let part = (at_seconds.max(0.0) / PART_SECONDS) as usize;
    part
}

/// The least value that this share of the values does not exceed.
fn of_sorted(values: &[f64], share: f64) -> Option<f64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let place = (values.len() as f64 * share).ceil() as usize;
    values.get(place.saturating_sub(1)).copied()
}

fn line(name: &str, ink: Ink, moments: &[Scaled], read: impl Fn(&Scaled) -> f64) -> Line {
    let points = moments.iter().map(|moment| (moment.at_seconds, read(moment)));
    Line { name: name.to_owned(), ink, points: points.collect() }
}

fn seconds(end: f64) -> Axis {
    let ticks = ticks::linear(end, TICKS).into_iter().filter(|tick| *tick <= end);
    Axis {
        label: "time (s)".to_owned(),
        range: 0.0..end,
        ticks: ticks.map(|tick| (tick, plain(tick))).collect(),
        grid: false,
    }
}

fn upright(label: &str, lines: &[&Line]) -> Axis {
    let heights = lines.iter().flat_map(|line| &line.points).map(|(_, height)| *height);
    let ticks = ticks::linear(heights.fold(1.0, f64::max), TICKS);
    let top = ticks.last().copied().unwrap_or(1.0);
    Axis {
        label: label.to_owned(),
        range: 0.0..top * 1.03,
        ticks: ticks.into_iter().map(|tick| (tick, plain(tick))).collect(),
        grid: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_answers_has_two_plots_and_one_without_moments_none() {
        let moment =
            |at_seconds| Scaled { at_seconds, wanted: 3, ready: 2, outstanding: 4, slots: 2 };
        assert_eq!(of_scaling(&[moment(0.0), moment(1.0)], &[]).unwrap().len(), 2);
        let answer = Answer { at_seconds: 0.5, took_us: 1e5 };
        assert_eq!(of_scaling(&[moment(0.0), moment(1.0)], &[answer]).unwrap().len(), 3);
        assert!(of_scaling(&[], &[answer]).unwrap().is_empty());
        assert!(of_scaling(&[moment(0.0)], &[]).unwrap().is_empty());
    }

    #[test]
    fn a_share_of_few_values_is_one_of_them() {
        assert_eq!(of_sorted(&[1.0, 2.0], 0.5), Some(1.0));
        assert_eq!(of_sorted(&[1.0, 2.0], 0.99), Some(2.0));
        assert_eq!(of_sorted(&[], 0.5), None);
    }
}
