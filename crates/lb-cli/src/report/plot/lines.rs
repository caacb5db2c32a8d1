//! Lines through points, each with its name at its end.

use crate::report::ReportError;

use super::frame::{Axis, Frame, LETTER_WIDTH, RIGHT};
use super::ink::Ink;
use super::{Drawing, Figure, Key, Mark};

/// Height of the names, in CSS pixels.
const NAME_SIZE: f64 = 11.5;

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) ink: Ink,
    /// In the units of the axes, from left to right.
    pub(super) points: Vec<(f64, f64)>,
}

/// A whole plot of lines. What lies beyond the axes is cut off.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) title: String,
    pub(super) caption: String,
    /// In CSS pixels.
    pub(super) size: (u32, u32),
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) curves: Vec<Line>,
    /// Whether names stand at the ends of lines, where these tell them apart.
    pub(super) names: bool,
}

impl Lines {
    pub(super) fn draw(self) -> Result<Figure, ReportError> {
        let longest = self.curves.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        let longest = if self.names { longest } else { 0 };
        let names_width = longest as f64 * NAME_SIZE * LETTER_WIDTH;
        let frame = Frame {
            title: self.title,
            width: self.size.0,
            height: self.size.1,
            right: RIGHT + pixels(names_width),
            x: self.x,
            y: self.y,
        };
        let (right_end, top) = (frame.x.range.end, frame.y.range.end);
        let svg = frame.draw(|canvas| {
            let mut names = Vec::new();
            for line in &self.curves {
                let points = below(&line.points, top);
                // A line that has left the canvas has no place for its name; the legend has it.
                if let Some((_, height)) = points.last().filter(|(x, _)| reaches(*x, &line.points))
                {
                    names.push((*height, line.ink, line.name.as_str()));
                }
                canvas.line(points, line.ink)?;
            }
            if self.names { canvas.names(right_end, &names) } else { Ok(()) }
        })?;
        let key = |line: &Line| Key { ink: line.ink, mark: Mark::Line, label: line.name.clone() };
        Ok(Figure {
            title: frame.title,
            legend: self.curves.iter().map(key).collect(),
            drawings: vec![Drawing { heading: None, size: self.size, svg }],
            caption: self.caption,
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a width of a few hundred pixels")]
fn pixels(width: f64) -> i32 {
    width.ceil() as i32
}

/// Whether a line that was cut still goes to the end of its points.
fn reaches(x: f64, points: &[(f64, f64)]) -> bool {
    points.last().is_some_and(|(last, _)| x >= *last)
}

/// The line up to where it first leaves the canvas at the top.
fn below(points: &[(f64, f64)], top: f64) -> Vec<(f64, f64)> {
    let inside = points.iter().take_while(|(_, y)| *y <= top).count();
    let mut kept = points[..inside].to_vec();
    if let (Some((x, y)), Some((next_x, next_y))) = (kept.last().copied(), points.get(inside)) {
        let part = (top - y) / (next_y - y);
        kept.push((x + (next_x - x) * part, top));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_where_it_leaves_the_canvas() {
        let points = [(0.0, 0.0), (1.0, 1.0), (2.0, 3.0), (3.0, 1.0)];
        assert_eq!(below(&points, 4.0), points);
        assert_eq!(below(&points, 2.0), [(0.0, 0.0), (1.0, 1.0), (1.5, 2.0)]);
        assert_eq!(below(&points, -1.0), []);
        assert!(reaches(3.0, &points) && !reaches(1.5, &points));
    }
}
