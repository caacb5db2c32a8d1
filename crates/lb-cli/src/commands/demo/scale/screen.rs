//! The demo as it goes, drawn in the terminal: calls and workers over time, the share of each worker, and the last decision.

use indicatif::{ProgressBar, ProgressStyle};

use lb_proto::v1::WorkerInfo;

use crate::{
    output::note,
    report::{Scaled, units},
};

/// Columns of the curves: with what stands beside them they fit into any terminal.
const COLUMNS: usize = 50;
/// Columns of the bar of a worker that gets all calls.
const SHARE_COLUMNS: f64 = 40.0;
/// A curve is made of these, from nothing to full.
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Where it is drawn: standard error. Where that is no terminal, a line tells of each change.
#[derive(Debug)]
pub(super) struct Screen {
    bar: ProgressBar,
    seconds: f64,
    told: Option<(u32, u32)>,
}

impl Screen {
    /// For a demo of so many seconds.
    pub(super) fn new(seconds: f64) -> Self {
        let style = ProgressStyle::with_template("{msg}").expect("the template is sound");
        Self { bar: ProgressBar::new_spinner().with_style(style), seconds, told: None }
    }

    /// Draws what there is by now; `calls` have been answered.
    pub(super) fn draw(
        &mut self,
        moments: &[Scaled],
        workers: &[WorkerInfo],
        decision: &str,
        calls: usize,
    ) {
        let Some(now) = moments.last() else { return };
        if self.bar.is_hidden() {
            if self.told.replace((now.wanted, now.ready)) != Some((now.wanted, now.ready)) {
                note(&format!(
                    "{:5.1} s  {} workers ready, {} wanted",
                    now.at_seconds, now.ready, now.wanted
                ));
            }
            return;
        }
        self.bar.set_message(picture(moments, self.seconds, workers, decision, calls));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.bar.finish();
    }
}

fn picture(
    moments: &[Scaled],
    seconds: f64,
    workers: &[WorkerInfo],
    decision: &str,
    calls: usize,
) -> String {
    let Some(now) = moments.last() else { return String::new() };
    let (outstanding, ready): (Curve, Curve) =
        (|moment| moment.outstanding.into(), |moment| moment.ready.into());
    let mut lines = vec![
        format!(
            "calls   {} {:>3} in {} slots, {} answered",
            curve(moments, seconds, outstanding),
            now.outstanding,
            now.slots,
            units::count(calls as u64)
        ),
        format!(
            "workers {} {:>3} of {} wanted",
            curve(moments, seconds, ready),
            now.ready,
            now.wanted
        ),
        String::new(),
    ];
    for worker in workers {
        let share = worker.share;
        let bar = "█".repeat(rounded(share * SHARE_COLUMNS));
        let WorkerInfo { worker_id, state, .. } = worker;
        lines.push(format!("{worker_id:<8}{bar} {} {state}", units::percent(share)));
    }
    lines.push(format!("\n{decision}"));
    lines.join("\n")
}

type Curve = fn(&Scaled) -> f64;

/// A line of blocks, as long as the part of the time that is over; the highest is full.
fn curve(moments: &[Scaled], seconds: f64, read: Curve) -> String {
    let most = moments.iter().map(read).fold(1.0, f64::max);
    let mut columns: Vec<f64> = Vec::new();
    for moment in moments {
        let place = rounded(moment.at_seconds / seconds * COLUMNS as f64).min(COLUMNS - 1);
        let last = columns.last().copied().unwrap_or_default();
        columns.resize(columns.len().max(place + 1), last);
        columns[place] = read(moment);
    }
    let level = |height: f64| LEVELS[rounded(height / most * 8.0).min(8)];
    let drawn: String = columns.into_iter().map(level).collect();
    format!("{drawn:<COLUMNS$}")
}

fn rounded(value: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few columns")]
    let whole = value.max(0.0).round() as usize;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(at_seconds: f64, ready: u32) -> Scaled {
        Scaled { at_seconds, wanted: 8, ready, outstanding: 5, slots: ready }
    }

    #[test]
    fn a_curve_is_as_long_as_the_time_that_is_over() {
        let moments = [moment(0.0, 1), moment(5.0, 4), moment(10.0, 8)];
        let drawn = curve(&moments, 20.0, |moment| moment.ready.into());
        assert_eq!(drawn.chars().count(), COLUMNS);
        assert_eq!(drawn.trim_end().chars().count(), 26, "{drawn:?}");
        assert_eq!(drawn.chars().next(), Some('▁'));
        assert_eq!(drawn.chars().nth(25), Some('█'));
        assert_eq!(curve(&[], 20.0, |_| 0.0).trim(), "");
    }

    #[test]
    fn the_picture_names_workers_with_their_shares() {
        let worker = WorkerInfo {
            worker_id: "box-1".into(),
            state: "serving".into(),
            share: 0.25,
            ..WorkerInfo::default()
        };
        let text = picture(&[moment(1.0, 4)], 10.0, &[worker], "plan 2, auto: 1 to 4", 1234);
        assert!(
            text.contains("box-1   ██████████ 25%") || text.contains("box-1   ██████████ 25"),
            "{text}"
        );
        assert!(text.contains("4 of 8 wanted") && text.ends_with("plan 2, auto: 1 to 4"), "{text}");
    }
}
