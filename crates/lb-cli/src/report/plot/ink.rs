//! Names of colours.
//!
//! The drawing library knows only red, green and blue. So each ink has a colour nobody would use,
//! and once the plot is drawn that colour is replaced by a CSS variable.

use plotters::style::RGBColor;

/// Colours before those of runs and workers repeat; the style sheet defines as many.
const SERIES: usize = 8;

/// What a stroke, an area or a letter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum Ink {
    /// Letters.
    Text,
    /// Axes.
    Axis,
    /// Lines behind the data.
    Grid,
    /// What the data is to be compared with.
    Reference,
    /// The run with this index.
    Run(usize),
    /// The worker with this index.
    Worker(usize),
}

impl Ink {
    /// The CSS variable that holds the colour.
    pub(in crate::report) fn variable(self) -> String {
        match self {
            Self::Text => "--ink".to_owned(),
            Self::Axis => "--axis".to_owned(),
            Self::Grid => "--grid".to_owned(),
            Self::Reference => "--reference".to_owned(),
            Self::Run(index) => format!("--run-{}", index % SERIES + 1),
            Self::Worker(index) => format!("--worker-{}", index % SERIES + 1),
        }
    }

    /// The colour that stands for the ink while a plot is drawn.
    pub(super) fn stand_in(self) -> RGBColor {
        let (kind, index) = match self {
            Self::Text => (0, 0),
            Self::Axis => (1, 0),
            Self::Grid => (2, 0),
            Self::Reference => (3, 0),
            Self::Run(index) => (4, index % SERIES),
            Self::Worker(index) => (5, index % SERIES),
        };
        let index = u8::try_from(index).expect("below the number of series");
        RGBColor(0xE1, kind, index)
    }

    fn all() -> impl Iterator<Item = Self> {
        [Self::Text, Self::Axis, Self::Grid, Self::Reference]
            .into_iter()
            .chain((0..SERIES).flat_map(|index| [Self::Run(index), Self::Worker(index)]))
    }
}

/// The drawing with its stand-ins replaced. Only whole attribute values are: the library writes a
/// quotation mark inside a text as `&quot;`, so no label can look like one.
pub(super) fn with_variables(svg: &str) -> String {
    Ink::all().fold(svg.to_owned(), |svg, ink| {
        let RGBColor(red, green, blue) = ink.stand_in();
        let found = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
        svg.replace(&found, &format!("\"var({})\"", ink.variable()))
    })
}
