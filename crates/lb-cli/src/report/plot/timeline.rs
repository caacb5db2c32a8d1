//! How busy the workers were, over time: a small plot for each run.

use crate::load::{RunResult, UtilisationSample};
use crate::report::ReportError;
use crate::report::units::{percent, plain};

use super::frame::{Axis, Frame};
use super::ink::Ink;
use super::workers::all_workers;
use super::{Drawing, Figure, Key, MAX_LINE_WORKERS, Mark, ticks};

/// In CSS pixels: three stand beside each other on the page.
const SIZE: (u32, u32) = (350, 220);

/// Points of one line; what is finer is averaged, or the line becomes a band.
const MAX_POINTS: usize = 60;

/// Ticks of the axis of time.
const TIME_TICKS: usize = 5;

/// One drawing for each run, one line in it for each worker.
pub(super) fn utilisation(runs: &[RunResult]) -> Result<Option<Figure>, ReportError> {
    let sampled: Vec<&RunResult> = runs
        .iter()
        .filter(|run| run.utilisation.iter().any(|sample| sample.at_seconds > 0.0))
        .collect();
    if sampled.is_empty() {
        return Ok(None);
    }
    let workers = all_workers(runs);
    let shown: Vec<&str> = workers.keys().copied().take(MAX_LINE_WORKERS).collect();
    let mut caption = "Lines that run together mean that all workers were equally busy; time \
                       axes differ, because a slow run takes longer."
        .to_owned();
    if shown.len() < workers.len() {
        let part = format!(" The first {} of {} workers.", shown.len(), workers.len());
        caption.push_str(&part);
    }
    let drawings: Result<Vec<Drawing>, ReportError> =
        sampled.iter().map(|run| drawing(run, &shown)).collect();
    Ok(Some(Figure {
        title: "Utilisation over time".to_owned(),
        legend: shown
            .iter()
            .enumerate()
            .map(|(index, worker_id)| Key {
                ink: Ink::Worker(index),
                mark: Mark::Line,
                label: (*worker_id).to_owned(),
            })
            .collect(),
        drawings: drawings?,
        caption,
    }))
}

fn drawing(run: &RunResult, workers: &[&str]) -> Result<Drawing, ReportError> {
    let end = run.utilisation.iter().map(|sample| sample.at_seconds);
    let end = end.fold(run.elapsed_seconds, f64::max);
    let time_ticks = ticks::linear(end, TIME_TICKS);
    let frame = Frame {
        title: format!("Utilisation over time: {}", run.name),
        width: SIZE.0,
        height: SIZE.1,
        x: Axis {
            label: "time (s)".to_owned(),
            range: 0.0..end,
            ticks: time_ticks
                .into_iter()
                .filter(|tick| *tick <= end)
                .map(|tick| (tick, plain(tick)))
                .collect(),
            grid: false,
        },
        y: Axis {
            label: "slots in use (%)".to_owned(),
            range: 0.0..1.03,
            ticks: [0.0, 0.5, 1.0].map(|part| (part, percent(part))).to_vec(),
            grid: true,
        },
    };
    let svg = frame.draw(|canvas| {
        for (index, worker_id) in workers.iter().enumerate() {
            canvas.line(line(&run.utilisation, worker_id), Ink::Worker(index))?;
        }
        Ok(())
    })?;
    Ok(Drawing { heading: Some(run.name.clone()), svg })
}

/// The worker's utilisation at the times of its samples, averaged to at most [`MAX_POINTS`].
fn line(samples: &[UtilisationSample], worker_id: &str) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = samples
        .iter()
        .filter(|sample| sample.worker_id == worker_id)
        .filter_map(|sample| Some((sample.at_seconds, sample.utilisation?)))
        .collect();
    let bucket = points.len().div_ceil(MAX_POINTS).max(1);
    points
        .chunks(bucket)
        .filter_map(|chunk| {
            let (at, _) = chunk.last()?;
            let sum: f64 = chunk.iter().map(|(_, part)| part).sum();
            Some((*at, sum / chunk.len() as f64))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_averaged() {
        let sample = |index: u32| UtilisationSample {
            at_seconds: f64::from(index),
            worker_id: "w1".to_owned(),
            slots: 4,
            in_flight: 4,
            busy_slots: 4,
            utilisation: Some(f64::from(index % 2)),
            cpu: 0.0,
        };
        let samples: Vec<UtilisationSample> = (0..240).map(sample).collect();
        let points = line(&samples, "w1");
        assert_eq!(points.len(), MAX_POINTS);
        assert!(points.iter().all(|(_, part)| (part - 0.5).abs() < 1e-9));
        assert_eq!(line(&samples, "w2"), []);
    }
}
