//! The bar that shows how far a run is, how fast it goes and how long it will take.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{load::Progress, output::note};

/// Steps of the bar: finer than any terminal is wide.
const STEPS: u64 = 1000;

/// One run's bar, on standard error. Where that is no terminal a line says that the run goes on.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    /// Whether somebody has been told, by the bar or by the line.
    told: AtomicBool,
}

impl Bar {
    pub(crate) fn new(name: &str) -> Self {
        let style = ProgressStyle::with_template("{prefix:>16} {wide_bar} {msg}");
        let bar = ProgressBar::new(STEPS).with_prefix(name.to_owned());
        let bar = bar.with_style(style.expect("the template is sound"));
        let told = AtomicBool::new(!bar.is_hidden());
        Self { bar, told }
    }

    pub(crate) fn show(&self, progress: Progress) {
        if !self.told.swap(true, Ordering::Relaxed) {
            note(&format!("{}: calls go on", self.bar.prefix()));
        }
        self.bar.set_position(part_of_steps(progress.fraction));
        self.bar.set_message(message(progress));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish();
    }
}

fn part_of_steps(fraction: f64) -> u64 {
    (0..=STEPS).rfind(|step| *step as f64 <= fraction * STEPS as f64).unwrap_or(0)
}

fn message(progress: Progress) -> String {
    let Progress { done, total, failures, elapsed, fraction } = progress;
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
    let left = if fraction > 0.0 { seconds * (1.0 - fraction) / fraction } else { 0.0 };
    let left = Duration::try_from_secs_f64(left.round()).unwrap_or_default();
    let of = total.map_or(String::new(), |total| format!("/{total}"));
    let failed = if failures > 0 { format!(", {failures} failed") } else { String::new() };
    format!("{done}{of} calls{failed}, {rate:.0}/s, {} left", humantime::format_duration(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_rate_and_time_left() {
        let progress = Progress {
            done: 500,
            total: Some(2000),
            failures: 3,
            elapsed: Duration::from_secs(20),
            fraction: 0.25,
        };
        assert_eq!(message(progress), "500/2000 calls, 3 failed, 25/s, 1m left");
        let open = Progress { total: None, failures: 0, ..progress };
        assert_eq!(message(open), "500 calls, 25/s, 1m left");
        assert_eq!([0.0, 0.25, 1.0].map(part_of_steps), [0, 250, 1000]);
    }
}
