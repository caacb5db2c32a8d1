//! One SVG file that stands alone: figures with their legends, two beside each other.
//!
//! It looks like the page and follows the reader's light or dark theme in the same way: its style sheet is inside.

use std::fmt::Write as _;

use super::plot::{Figure, Ink, Key, Mark};
use super::text::escaped;

/// Everything in CSS pixels.
const COLUMN: u32 = 530;
const GAP: u32 = 26;
const MARGIN: u32 = 24;
const TITLE: u32 = 34;
const SUBTITLE: u32 = 20;
const HEADING: u32 = 26;
const LEGEND_LINE: u32 = 20;

/// Mean width of a letter of a legend and of a subtitle.
const LETTER: u32 = 7;

/// Length of a line in a legend with the room around it.
const SWATCH: u32 = 34;

/// Letters of a line below the title.
const SUBTITLE_LETTERS: usize = ((2 * COLUMN + GAP) / LETTER) as usize;

const STYLE: &str = "text { font-family: system-ui, -apple-system, \"Segoe UI\", Roboto, \"Helvetica Neue\", \
                     \"DejaVu Sans\", sans-serif; }\n\
                     .title, .heading, .legend text { fill: var(--ink); }\n\
                     .title { font-size: 20px; font-weight: 600; } .faint { font-size: 13px; fill: var(--faint); }\n\
                     .heading { font-size: 15px; font-weight: 600; } .legend text { font-size: 13px; }\n";

/// A drawing in several parts.
pub(super) fn render(title: &str, subtitle: &str, figures: &[Figure]) -> String {
    let columns = if figures.len() > 1 { 2 } else { 1 };
    let width = 2 * MARGIN + 2 * COLUMN + GAP;
    let mut body = String::new();
    let mut y = MARGIN + TITLE;
    let _infallible = writeln!(
        body,
        "<text class=\"title\" x=\"{MARGIN}\" y=\"{}\">{}</text>",
        MARGIN + 20,
        escaped(title)
    );
    for line in wrapped(subtitle, SUBTITLE_LETTERS) {
        let _infallible = writeln!(
            body,
            "<text class=\"faint\" x=\"{MARGIN}\" y=\"{}\">{}</text>",
            y + 8,
            escaped(&line)
        );
        y += SUBTITLE;
    }
    y += MARGIN / 2;
    for row in figures.chunks(columns) {
        let legend = row.iter().map(legend_lines).max().unwrap_or(0) * LEGEND_LINE;
        let mut height = 0;
        for (x, figure) in (MARGIN..).step_by((COLUMN + GAP) as usize).zip(row) {
            body.push_str(&heading(figure, x, y));
            height = height.max(drawings(&mut body, figure, x, y + HEADING + legend));
        }
        y += HEADING + legend + height + MARGIN;
    }
    let style = super::PLOT_STYLE;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{y}\" viewBox=\"0 0 {width} {y}\" \
         role=\"img\" aria-label=\"{}\">\n<style>\n{style}{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"var(--paper)\"/>\n{body}</svg>\n",
        escaped(title)
    )
}

/// Title and legend of a figure.
fn heading(figure: &Figure, x: u32, y: u32) -> String {
    let mut text = format!(
        "<text class=\"heading\" x=\"{x}\" y=\"{}\">{}</text>\n<g class=\"legend\">\n",
        y + 14,
        escaped(&figure.title)
    );
    for (key, right, line) in legend_places(figure) {
        let (x, y) = (x + right, y + HEADING + line * LEGEND_LINE);
        text.push_str(&swatch(key.ink, key.mark, x, y + 8));
        let label = escaped(&key.label);
        let _infallible =
            writeln!(text, "<text x=\"{}\" y=\"{}\">{label}</text>", x + SWATCH, y + 12);
    }
    text + "</g>\n"
}

fn swatch(ink: Ink, mark: Mark, x: u32, y: u32) -> String {
    let colour = format!("var({})", ink.variable());
    match mark {
        Mark::Line => format!(
            "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke-width=\"3\" stroke=\"{colour}\"/>\n",
            x + 26
        ),
        Mark::Bar => format!(
            "<rect x=\"{}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\n",
            x + 14,
            y - 6
        ),
    }
}

/// Each key with its distance from the left and its line.
fn legend_places(figure: &Figure) -> Vec<(&Key, u32, u32)> {
    let (mut right, mut line) = (0_u32, 0);
    let mut places = Vec::new();
    for key in &figure.legend {
        let letters = u32::try_from(key.label.chars().count()).unwrap_or(u32::MAX);
        let width = SWATCH + letters.saturating_mul(LETTER) + 16;
        if right > 0 && right.saturating_add(width) > COLUMN {
            (right, line) = (0, line + 1);
        }
        places.push((key, right, line));
        right = right.saturating_add(width);
    }
    places
}

fn legend_lines(figure: &Figure) -> u32 {
    legend_places(figure).last().map_or(0, |(_, _, line)| line + 1)
}

/// The drawings of a figure below each other; returns their height.
fn drawings(body: &mut String, figure: &Figure, x: u32, y: u32) -> u32 {
    let mut height = 0;
    for drawing in &figure.drawings {
        let (wide, high) = drawing.size;
        let inner = drawing.svg.replacen(
            "<svg ",
            &format!("<svg x=\"{x}\" y=\"{}\" width=\"{wide}\" height=\"{high}\" ", y + height),
            1,
        );
        body.push_str(&inner);
        body.push('\n');
        height += high;
    }
    height
}

/// Words in lines of at most so many letters.
fn wrapped(text: &str, letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < letters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped() {
        assert_eq!(wrapped("one two  three", 8), ["one two", "three"]);
        assert_eq!(wrapped("incomprehensible", 4), ["incomprehensible"]);
        assert!(wrapped(" ", 4).is_empty());
    }
}
