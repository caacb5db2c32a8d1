//! Printing: for people as text, for programs as one JSON value per command.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use rustix::termios::tcgetwinsize;
use serde_json::Value;

use crate::failure::Failure;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs: one JSON value
    Json,
}

/// Columns of a page that is no terminal.
const COLUMNS: usize = 80;

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints a result in the form asked for.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn print(self, text: &str, json: &Value) -> anyhow::Result<()> {
        match self.format {
            Format::Text => line(text),
            Format::Json => line(&serde_json::to_string_pretty(json)?),
        }
    }

    /// Prints a part of a result as it comes, without a line end; text only.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn piece(self, text: &str) -> anyhow::Result<()> {
        if self.format == Format::Text {
            unless_closed(io::stdout().write_all(text.as_bytes()))?;
        }
        Ok(())
    }
}

/// Prints one line.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    unless_closed(writeln!(io::stdout(), "{text}"))
}

/// A reader that has seen enough (`lbctl … | head`) is no error.
fn unless_closed(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Columns of text that fit beside each other: a terminal's, else those that fit into any.
pub(crate) fn width() -> usize {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => COLUMNS,
    }
}

/// Whether a file can be written: found out before the work, not after it. Leaves no empty file behind.
///
/// # Errors
/// When it cannot.
pub(crate) fn check_writable(path: &Path) -> Result<(), Failure> {
    let existed = path.exists();
    let opened = fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).map_err(|source| Failure::write(path, source))?;
    if !existed {
        fs::remove_file(path).map_err(|source| Failure::write(path, source))?;
    }
    Ok(())
}

/// Says something beside the result.
pub(crate) fn note(text: &str) {
    // Without standard error there is nobody to tell.
    drop(writeln!(io::stderr(), "{text}"));
}

/// A table of text for people.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head.iter().copied()).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}
