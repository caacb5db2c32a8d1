//! How busy the workers were, over time: a small plot for each run.

use crate::load::{RunResult, UtilisationSample};
use crate::report::ReportError;
use crate::report::units::{percent, plain};

use super::frame::{Axis, Frame, RIGHT};
use super::ink::Ink;
use super::workers::all_workers;
use super::{Drawing, Figure, Key, MAX_LINE_WORKERS, Mark, ticks};

/// In CSS pixels: three stand beside each other on the page.
const SIZE: (u32, u32) = (350, 220);

/// Points of one line; what is finer is averaged, or the line becomes a band.
const MAX_POINTS: usize = 60;

/// Ticks of the axis of time.
const TIME_TICKS: usize = 5;

/// Slots in use over time.
pub(super) fn slots(runs: &[RunResult]) -> Result<Option<Figure>, ReportError> {
    let plot = Timeline {
        title: "Utilisation over time",
        y_label: "slots in use (%)",
        caption: "Lines that run together mean that all workers were equally busy; time axes \
                  differ, because a slow run takes longer.",
        read: |sample| sample.utilisation,
    };
    plot.draw(runs)
}

/// CPU of the workers' machines over time.
pub(super) fn processors(runs: &[RunResult]) -> Result<Option<Figure>, ReportError> {
    let plot = Timeline {
        title: "CPU over time",
        y_label: "CPU in use (%)",
        caption: "Of each worker's whole machine, as the workers report it: workers on one machine \
                  have one line.",
        read: |sample| Some(sample.cpu),
    };
    plot.draw(runs)
}

/// One drawing for each run, one line in it for each worker.
struct Timeline {
    title: &'static str,
    y_label: &'static str,
    caption: &'static str,
    read: fn(&UtilisationSample) -> Option<f64>,
}

impl Timeline {
    fn draw(&self, runs: &[RunResult]) -> Result<Option<Figure>, ReportError> {
        let sampled: Vec<&RunResult> = runs
            .iter()
            .filter(|run| run.utilisation.iter().any(|sample| sample.at_seconds > 0.0))
            .collect();
        if sampled.is_empty() {
            return Ok(None);
        }
        let workers = all_workers(runs);
        let shown: Vec<&str> = workers.keys().copied().take(MAX_LINE_WORKERS).collect();
        let mut caption = self.caption.to_owned();
        if shown.len() < workers.len() {
            let part = format!(" The first {} of {} workers.", shown.len(), workers.len());
            caption.push_str(&part);
        }
        let drawings: Result<Vec<Drawing>, ReportError> =
            sampled.iter().map(|run| self.drawing(run, &shown)).collect();
        let key = |(index, worker_id): (usize, &&str)| Key {
            ink: Ink::Worker(index),
            mark: Mark::Line,
            label: (*worker_id).to_owned(),
        };
        Ok(Some(Figure {
            title: self.title.to_owned(),
            legend: shown.iter().enumerate().map(key).collect(),
            drawings: drawings?,
            caption,
        }))
    }

    fn drawing(&self, run: &RunResult, workers: &[&str]) -> Result<Drawing, ReportError> {
        let frame = self.frame(run);
        let svg = frame.draw(|canvas| {
            for (index, worker_id) in workers.iter().enumerate() {
                canvas.line(self.line(&run.utilisation, worker_id), Ink::Worker(index))?;
            }
            Ok(())
        })?;
        Ok(Drawing { heading: Some(run.name.clone()), size: SIZE, svg })
    }

    fn frame(&self, run: &RunResult) -> Frame {
        let end = run.utilisation.iter().map(|sample| sample.at_seconds);
        let end = end.fold(run.elapsed_seconds, f64::max);
        let time_ticks = ticks::linear(end, TIME_TICKS).into_iter().filter(|tick| *tick <= end);
        Frame {
            title: format!("{}: {}", self.title, run.name),
            width: SIZE.0,
            height: SIZE.1,
            right: RIGHT,
            x: Axis {
                label: "time (s)".to_owned(),
                range: 0.0..end,
                ticks: time_ticks.map(|tick| (tick, plain(tick))).collect(),
                grid: false,
            },
            y: Axis {
                label: self.y_label.to_owned(),
                range: 0.0..1.03,
                ticks: [0.0, 0.5, 1.0].map(|part| (part, percent(part))).to_vec(),
                grid: true,
            },
        }
    }

    /// The worker's figures at the times of its samples, averaged to at most [`MAX_POINTS`].
    fn line(&self, samples: &[UtilisationSample], worker_id: &str) -> Vec<(f64, f64)> {
        let points: Vec<(f64, f64)> = samples
            .iter()
            .filter(|sample| sample.worker_id == worker_id)
            .filter_map(|sample| Some((sample.at_seconds, (self.read)(sample)?)))
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
        let plot =
            Timeline { title: "", y_label: "", caption: "", read: |sample| sample.utilisation };
        let points = plot.line(&samples, "w1");
        assert_eq!(points.len(), MAX_POINTS);
        assert!(points.iter().all(|(_, part)| (part - 0.5).abs() < 1e-9));
        assert_eq!(plot.line(&samples, "w2"), []);
    }
}
