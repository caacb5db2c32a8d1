//! Bars in groups: one group for each thing measured, one bar in each for each run.

use crate::report::ReportError;

use super::frame::{Axis, Canvas, Drawn, Frame, LETTER_WIDTH, RIGHT, VALUE_TEXT_SIZE};
use super::ink::Ink;
use super::ticks;

/// Part of a group's width that its bars take; the rest is the gap to the next group.
const FILLED: f64 = 0.88;

/// Part of a bar's width that is left free beside it.
const GAP: f64 = 0.1;

/// Ticks of the upright axis.
const TICKS: usize = 5;

/// Room above the highest bar for its value, as a part of the axis.
const HEADROOM: f64 = 1.09;

/// One bar.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) ink: Ink,
    /// At least 0. `None` is drawn as a gap.
    pub(super) height: Option<f64>,
    /// Written above it where there is room.
    pub(super) value: String,
}

/// Bars side by side, and what stands below them.
#[derive(Debug)]
pub(super) struct Group {
    /// May have several lines.
    pub(super) label: String,
    pub(super) bars: Vec<Bar>,
}

/// A whole plot of bars.
#[derive(Debug)]
pub(super) struct Bars {
    pub(super) title: String,
    /// In CSS pixels.
    pub(super) size: (u32, u32),
    pub(super) x_label: String,
    pub(super) y_label: String,
    /// The text of a tick.
    pub(super) y_tick: fn(f64) -> String,
    /// The axis reaches at least so high.
    pub(super) y_at_least: f64,
    pub(super) groups: Vec<Group>,
}

impl Bars {
    pub(super) fn draw(&self) -> Result<String, ReportError> {
        let frame = self.frame();
        let most_bars = self.groups.iter().map(|group| group.bars.len()).max();
        let bar_width = FILLED / most_bars.unwrap_or(1).max(1) as f64;
        let bar_pixels = frame.canvas_width() / self.groups.len().max(1) as f64 * bar_width;
        let letters_that_fit = bar_pixels / (VALUE_TEXT_SIZE * LETTER_WIDTH);
        let longest = self.groups.iter().flat_map(|group| &group.bars);
        let longest = longest.map(|bar| bar.value.chars().count()).max();
        let with_values = longest.unwrap_or(0) as f64 <= letters_that_fit;
        frame.draw(|canvas| {
            for (index, group) in self.groups.iter().enumerate() {
                draw_group(canvas, index as f64, group, bar_width, with_values)?;
            }
            Ok(())
        })
    }

    fn frame(&self) -> Frame {
        let heights = self.groups.iter().flat_map(|group| &group.bars);
        let highest = heights.filter_map(|bar| bar.height).fold(0.0, f64::max);
        let top = highest.max(self.y_at_least);
        let y_ticks = ticks::linear(top, TICKS);
        let last_tick = y_ticks.last().copied().unwrap_or(1.0);
        Frame {
            title: self.title.clone(),
            width: self.size.0,
            height: self.size.1,
            right: RIGHT,
            x: Axis {
                label: self.x_label.clone(),
                range: 0.0..self.groups.len().max(1) as f64,
                ticks: self
                    .groups
                    .iter()
                    .enumerate()
                    .map(|(index, group)| (index as f64 + 0.5, group.label.clone()))
                    .collect(),
                grid: false,
            },
            y: Axis {
                label: self.y_label.clone(),
                range: 0.0..last_tick.max(highest * HEADROOM),
                ticks: y_ticks.into_iter().map(|tick| (tick, (self.y_tick)(tick))).collect(),
                grid: true,
            },
        }
    }
}

fn draw_group(
    canvas: &Canvas<'_, '_>,
    left: f64,
    group: &Group,
    bar_width: f64,
    with_values: bool,
) -> Drawn {
    let used = bar_width * group.bars.len() as f64;
    let first = left + (1.0 - used) / 2.0;
    for (index, bar) in group.bars.iter().enumerate() {
        let Some(height) = bar.height else { continue };
        let start = first + bar_width * (index as f64 + GAP / 2.0);
        let end = start + bar_width * (1.0 - GAP);
        canvas.bar((start, 0.0), (end, height), bar.ink)?;
        if with_values {
            canvas.value((f64::midpoint(start, end), height), &bar.value)?;
        }
    }
    Ok(())
}
