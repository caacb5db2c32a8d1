//! `cargo xtask bench`: what a pick and a whole call cost on the wire, and what proxies in their
//! place would.
//!
//! Real processes on the loopback: a balancer, four workers with an echo service, and one client
//! process for each measurement. Every round measures every way, one after the other, and a bound is
//! a ratio inside a round: a shared machine changes its own speed within seconds.

mod bound;
mod fleet;
pub(crate) mod hostile;
pub(crate) mod page;
mod plan;
mod process;
mod proxy;
pub(crate) mod result;

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use self::{
    fleet::Fleet,
    result::{Environment, Group, Measured, Report, Series},
};
use crate::tools::{self, cargo, root, say};

/// What to measure, and how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these parts; by default all of them
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds; each measures every way once
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long one way is measured in one round
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Keep the result: docs/results/wire.json, and the section of docs/performance.md made from it
    #[arg(long)]
    save: bool,
}

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Picks alone
    Picks,
    /// Whole calls with picks of each kind, against direct calls
    Calls,
    /// The same with proxies beside them, and with more kinds of calls
    Proxies,
}

/// Where results of this machine go.
pub(crate) const FOLDER: &str = "target/bench";
/// The committed result.
pub(crate) const COMMITTED: &str = "docs/results/wire.json";

/// Measures, prints the tables, and writes the result.
///
/// # Errors
/// When something cannot be built, started or measured.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let parts: &[Part] = match options.only.as_slice() {
        [] => &[Part::Picks, Part::Proxies],
        only => only,
    };
    let folder = build()?;
    let report = measure(options, parts)?;
    let text = serde_json::to_string_pretty(&report)? + "\n";
    let path = if options.save { root().join(COMMITTED) } else { folder.join("wire.json") };
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    if options.save {
        page::fill(page::WIRE, &page::render(&report))?;
    }
    tools::print(&page::render(&report))?;
    say(&format!("written to {}", path.display()));
    Ok(())
}

fn measure(options: &Options, parts: &[Part]) -> anyhow::Result<Report> {
    let mut fleet = Fleet::start()?;
    let mut proxies = Vec::new();
    let mut not_measured = Vec::new();
    if parts.contains(&Part::Proxies) {
        (proxies, not_measured) = proxy::start_all(&fleet.worker_addresses());
    }
    let groups = plan::groups(parts, &proxies);
    let mut measured: Vec<Group> = groups.iter().map(plan::Group::empty).collect();
    for round in 1..=options.rounds {
        for (group, into) in groups.iter().zip(&mut measured) {
            say(&format!("round {round} of {}: {}", options.rounds, group.title));
            for (way, series) in group.ways.iter().zip(&mut into.ways) {
                series.rounds.push(fleet.load(group, way, &proxies, options.seconds)?);
            }
        }
    }
    let versions = proxies.iter().map(|proxy| (proxy.name.to_owned(), proxy.version.clone()));
    Ok(Report {
        environment: Environment::here()?,
        rounds: options.rounds,
        seconds: options.seconds,
        versions: versions.collect(),
        not_measured,
        bounds: bound::judge(&measured),
        groups: measured,
    })
}

/// Builds the program that plays all roles, and makes the folder for results.
fn build() -> anyhow::Result<PathBuf> {
    tools::run(cargo(&["build", "--release", "--locked", "--package", "lb-wire"]))?;
    let folder = root().join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The committed tables must be those of the committed result.
///
/// # Errors
/// When they differ.
pub(crate) fn check_page() -> anyhow::Result<()> {
    page::check(page::WIRE, COMMITTED, "cargo xtask bench --save", page::render)?;
    hostile::check_page()
}

/// Where the program is that plays all roles.
fn program() -> PathBuf {
    let folder =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    folder.join("release/lb-wire")
}
