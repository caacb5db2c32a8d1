//! Chores of this repository: `cargo xtask test` runs everything that must hold before a change lands.

mod bench;
mod deny;
mod fuzz;
mod lab;
mod package;
mod repo;
mod test;
mod tidy;
mod tools;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Chores of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Format, lints, rules of the house, and all tests
    Test {
        /// Only these tiers, in this order; by default all
        #[arg(value_enum)]
        tiers: Vec<test::Tier>,
    },
    /// What a pick and a whole call cost on the wire, and what proxies in their place would
    Bench(bench::Options),
    /// What honest clients feel of an attack, and what is left of it
    Hostile(bench::hostile::Options),
    /// Check licences, sources and known defects of all dependencies
    Deny,
    /// Mutated input for everything that reads what comes from outside
    Fuzz(fuzz::Arguments),
    /// Write the manual pages
    Man {
        /// Where to
        #[arg(default_value = "target/man")]
        folder: PathBuf,
    },
    /// Write the completions of bash, zsh and fish
    Completions {
        /// Where to
        #[arg(default_value = "target/completions")]
        folder: PathBuf,
    },
    /// Build the Debian packages and a signed apt repository of them, in target/repo
    Repo(repo::Arguments),
    /// Let things fail in a cluster of booted hosts under load, and measure what clients notice
    Drills(test::lab::Options),
    /// The tier xds, to keep what it measures
    Xds(test::xds::Options),
    /// Hosts with a real systemd on a network of their own, to try things on
    Lab(lab::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Test { tiers } => test::run(&tiers),
        Chore::Bench(options) => bench::run(&options),
        Chore::Hostile(options) => bench::hostile::run(&options),
        Chore::Deny => deny::run(),
        Chore::Fuzz(arguments) => fuzz::run(&arguments),
        Chore::Man { folder } => package::man(&folder),
        Chore::Completions { folder } => package::completions(&folder),
        Chore::Repo(arguments) => repo::run(&arguments),
        Chore::Drills(options) => test::lab::drills(&options),
        Chore::Xds(options) => test::xds::run(&options),
        Chore::Lab(arguments) => lab::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tools::say(&format!("xtask: error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
