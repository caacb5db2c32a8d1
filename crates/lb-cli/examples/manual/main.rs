//! Writes the manual pages and the shell completions of all programs.
//!
//! `cargo xtask man` and `cargo xtask completions` run it. It is an example because it needs the command lines of the
//! daemons and of `lbctl`, which only this crate links together, and because nobody who installs `lbctl` needs it.

mod pages;
mod settings;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, Parser, ValueEnum};
use clap_complete::{Shell, generate_to};

/// What to write.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Manual pages
    Man,
    /// Completions for bash, zsh and fish
    Completions,
}

/// Write manual pages or shell completions.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to write
    #[arg(value_enum)]
    what: What,
    /// Where to
    folder: PathBuf,
    /// The date that the pages bear
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "")]
    date: String,
}

fn main() -> io::Result<()> {
    let Arguments { what, folder, date } = Arguments::parse();
    fs::create_dir_all(&folder)?;
    match what {
        What::Man => pages::write(&folder, &date),
        What::Completions => completions(&folder),
    }
}

/// Programs and the sections of the manual that they belong to.
fn programs() -> [(clap::Command, &'static str); 4] {
    [
        (lb_server::daemon::Arguments::command(), "8"),
        (lb_worker::daemon::Arguments::command(), "8"),
        (lb_scaler::daemon::Arguments::command(), "8"),
        (lb_cli::command(), "1"),
    ]
}

fn completions(folder: &Path) -> io::Result<()> {
    for (mut command, _) in programs() {
        let name = command.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            generate_to(shell, &mut command, &name, folder)?;
        }
    }
    Ok(())
}
