//! The frame that all plots share: two axes with ticks and labels, and the canvas between them.
//!
//! Sizes are given in CSS pixels at the plot's natural width. The library draws on whole pixels
//! only, so the drawing is made larger by [`FINENESS`] and shown smaller.

use std::io;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, DrawingArea, DrawingAreaErrorKind, FontTransform, IntoDrawingArea,
    LabelAreaPosition, PathElement, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, TextStyle};

use crate::report::ReportError;
use crate::report::text::escaped;

use super::ink::{Ink, with_variables};

/// Drawing pixels to one CSS pixel.
const FINENESS: i32 = 4;

/// Height of tick labels, in CSS pixels.
const TEXT_SIZE: f64 = 11.5;

/// Height of the figures on bars, in CSS pixels.
pub(super) const VALUE_TEXT_SIZE: f64 = 10.5;

/// Mean width of a letter, as a part of its height: to know what fits.
pub(super) const LETTER_WIDTH: f64 = 0.58;

/// The library divides the size of a font by this before it writes it.
const FONT_SIZE_FACTOR: f64 = 1.24;

/// Room around the canvas, in CSS pixels: for the tick labels, the axis label and half a letter.
const LEFT: i32 = 62;
const BOTTOM: i32 = 40;
const TOP: i32 = 8;
pub(super) const RIGHT: i32 = 14;

/// Least distance between two names beside the canvas.
const NAME_HEIGHT: i32 = 14;

/// Room for each further line of the tick labels below the canvas.
const LINE_HEIGHT: i32 = 14;

/// Width of lines in drawing pixels.
const HAIRLINE: u32 = 4;
const DATA_LINE: u32 = 9;

/// What drawing on the canvas answers.
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// One axis.
#[derive(Debug)]
pub(super) struct Axis {
    /// What it shows, with the unit.
    pub(super) label: String,
    /// Of positive length.
    pub(super) range: Range<f64>,
    /// Where it has labels, which may have several lines.
    pub(super) ticks: Vec<(f64, String)>,
    /// Whether a line crosses the canvas at each tick.
    pub(super) grid: bool,
}

/// The frame of one plot.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) title: String,
    /// In CSS pixels.
    pub(super) width: u32,
    /// In CSS pixels.
    pub(super) height: u32,
    /// Room on the right of the canvas, in CSS pixels: [`RIGHT`], or more where names stand there.
    pub(super) right: i32,
    pub(super) x: Axis,
    pub(super) y: Axis,
}

/// The area between the axes, in the units of the axes.
pub(super) struct Canvas<'a, 'svg> {
    whole: &'a DrawingArea<SVGBackend<'svg>, Shift>,
    plane: &'a DrawingArea<SVGBackend<'svg>, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
}

impl Frame {
    /// Draws the axes and what `paint` adds, as one `<svg>` element.
    pub(super) fn draw(
        &self,
        paint: impl FnOnce(&Canvas<'_, '_>) -> Drawn,
    ) -> Result<String, ReportError> {
        let mut svg = String::new();
        self.draw_into(&mut svg, paint).map_err(|source| ReportError::Plot {
            plot: self.title.clone(),
            source: source.into(),
        })?;
        // The library's opening tag has a fixed size and a name space that a page does not need.
        let opening_ends = svg.find('>').map_or(0, |end| end + 1);
        let (width, height) = self.drawing_size();
        Ok(format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">{}",
            escaped(&self.title),
            with_variables(&svg[opening_ends..]),
        ))
    }

    /// Width of the canvas, in CSS pixels.
    pub(super) fn canvas_width(&self) -> f64 {
        f64::from(self.width) - f64::from(LEFT + self.right)
    }

    fn drawing_size(&self) -> (u32, u32) {
        let fineness = FINENESS.unsigned_abs();
        (self.width * fineness, self.height * fineness)
    }

    fn draw_into(&self, svg: &mut String, paint: impl FnOnce(&Canvas<'_, '_>) -> Drawn) -> Drawn {
        let whole = SVGBackend::with_string(svg, self.drawing_size()).into_drawing_area();
        let lines = self.x.ticks.iter().map(|(_, label)| label.lines().count());
        let more_lines = i32::try_from(lines.max().unwrap_or(1)).map_or(0, |lines| lines - 1);
        let bottom = BOTTOM + more_lines * LINE_HEIGHT;
        let chart = ChartBuilder::on(&whole)
            .margin_top(TOP * FINENESS)
            .margin_right(self.right * FINENESS)
            .set_label_area_size(LabelAreaPosition::Left, LEFT * FINENESS)
            .set_label_area_size(LabelAreaPosition::Bottom, bottom * FINENESS)
            .build_cartesian_2d(self.x.range.clone(), self.y.range.clone())?;
        let canvas = Canvas { whole: &whole, plane: chart.plotting_area() };
        self.draw_x(&canvas)?;
        self.draw_y(&canvas)?;
        paint(&canvas)?;
        let Range { start, end } = self.x.range;
        let floor = [(start, self.y.range.start), (end, self.y.range.start)];
        canvas.polyline(floor, Ink::Axis, HAIRLINE)?;
        whole.present()
    }

    fn draw_x(&self, canvas: &Canvas<'_, '_>) -> Drawn {
        let (bottom, top) = (self.y.range.start, self.y.range.end);
        for (x, label) in &self.x.ticks {
            if self.x.grid {
                canvas.polyline([(*x, bottom), (*x, top)], Ink::Grid, HAIRLINE)?;
            }
            for (line, text) in (0..).zip(label.lines()) {
                let below = 6 + line * LINE_HEIGHT;
                canvas.text((*x, bottom), (0, below), text, &Lettering::below(TEXT_SIZE))?;
            }
        }
        let middle = f64::midpoint(self.x.range.start, self.x.range.end);
        let (x, _) = canvas.pixel((middle, bottom));
        let height = i32::try_from(self.drawing_size().1).unwrap_or(i32::MAX);
        let foot = (x, height - 4 * FINENESS);
        canvas.text_at(foot, &self.x.label, &Lettering::above(TEXT_SIZE))
    }

    fn draw_y(&self, canvas: &Canvas<'_, '_>) -> Drawn {
        let Range { start, end } = self.x.range;
        for (y, label) in &self.y.ticks {
            if self.y.grid {
                canvas.polyline([(start, *y), (end, *y)], Ink::Grid, HAIRLINE)?;
            }
            canvas.text((start, *y), (-6, 0), label, &Lettering::left_of(TEXT_SIZE))?;
        }
        let middle = f64::midpoint(self.y.range.start, self.y.range.end);
        let (_, y) = canvas.pixel((start, middle));
        let side = (2 * FINENESS, y);
        canvas.text_at(side, &self.y.label, &Lettering::upright(TEXT_SIZE))
    }
}

impl Canvas<'_, '_> {
    /// A line through data.
    pub(super) fn line(&self, points: Vec<(f64, f64)>, ink: Ink) -> Drawn {
        self.polyline(points, ink, DATA_LINE)
    }

    /// A filled rectangle between two corners.
    pub(super) fn bar(&self, from: (f64, f64), to: (f64, f64), ink: Ink) -> Drawn {
        self.plane.draw(&Rectangle::new([from, to], ink.stand_in().filled()))
    }

    /// A small text centred above a point.
    pub(super) fn value(&self, point: (f64, f64), text: &str) -> Drawn {
        self.text(point, (0, -4), text, &Lettering::above(VALUE_TEXT_SIZE))
    }

    /// Names on the right of the canvas, each in its ink and as near to its height as the others let it.
    pub(super) fn names(&self, right_end: f64, names: &[(f64, Ink, &str)]) -> Drawn {
        let mut places: Vec<(i32, i32, Ink, &str)> = names
            .iter()
            .map(|(height, ink, name)| {
                let (x, y) = self.pixel((right_end, *height));
                (y, x, *ink, *name)
            })
            .collect();
        places.sort_by_key(|(y, ..)| *y);
        let step = NAME_HEIGHT * FINENESS;
        // Upwards first, so that a heap at the bottom does not leave the canvas.
        for index in (1..places.len()).rev() {
            places[index - 1].0 = places[index - 1].0.min(places[index].0 - step);
        }
        let top = TOP * FINENESS;
        let mut least = top;
        for (y, x, ink, name) in places {
            let y = y.max(least);
            least = y + step;
            let lettering = Lettering { ink, ..Lettering::right_of(TEXT_SIZE) };
            self.text_at((x + 6 * FINENESS, y), name, &lettering)?;
        }
        Ok(())
    }

    fn polyline(
        &self,
        points: impl IntoIterator<Item = (f64, f64)>,
        ink: Ink,
        width: u32,
    ) -> Drawn {
        let points: Vec<(f64, f64)> = points.into_iter().collect();
        let style = ink.stand_in().stroke_width(width);
        self.plane.draw(&PathElement::new(points, style))
    }

    /// A text some CSS pixels away from a point.
    fn text(
        &self,
        point: (f64, f64),
        (right, down): (i32, i32),
        text: &str,
        lettering: &Lettering,
    ) -> Drawn {
        let (x, y) = self.pixel(point);
        let place = (x + right * FINENESS, y + down * FINENESS);
        self.text_at(place, text, lettering)
    }

    fn text_at(&self, place: (i32, i32), text: &str, lettering: &Lettering) -> Drawn {
        self.whole.draw(&Text::new(text.to_owned(), place, lettering.style()))
    }

    fn pixel(&self, point: (f64, f64)) -> (i32, i32) {
        self.plane.map_coordinate(&point)
    }
}

/// How a text is set.
struct Lettering {
    ink: Ink,
    size: f64,
    horizontal: HPos,
    vertical: VPos,
    transform: FontTransform,
}

impl Lettering {
    fn below(size: f64) -> Self {
        Self {
            ink: Ink::Text,
            size,
            horizontal: HPos::Center,
            vertical: VPos::Top,
            transform: FontTransform::None,
        }
    }

    fn above(size: f64) -> Self {
        Self { vertical: VPos::Bottom, ..Self::below(size) }
    }

    fn left_of(size: f64) -> Self {
        Self { horizontal: HPos::Right, vertical: VPos::Center, ..Self::below(size) }
    }

    fn right_of(size: f64) -> Self {
        Self { horizontal: HPos::Left, vertical: VPos::Center, ..Self::below(size) }
    }

    fn upright(size: f64) -> Self {
        Self { transform: FontTransform::Rotate270, ..Self::below(size) }
    }

    fn style(&self) -> TextStyle<'static> {
        let size = self.size * f64::from(FINENESS) * FONT_SIZE_FACTOR;
        TextStyle {
            font: FontDesc::new(FontFamily::SansSerif, size, FontStyle::Normal)
                .transform(self.transform.clone()),
            color: self.ink.stand_in().to_backend_color(),
            pos: Pos::new(self.horizontal, self.vertical),
        }
    }
}
