//! The test tiers, cheapest first.

pub(crate) mod lab;
mod packages;
mod repository;
pub(crate) mod xds;

use std::{env, path::PathBuf};

use anyhow::ensure;
use clap::ValueEnum;

use crate::{
    tidy,
    tools::{self, cargo, say},
};

/// A part of the tests that can be run by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// rustfmt changes nothing
    Format,
    /// clippy has nothing to say, with the workspace's lints as errors
    Lint,
    /// The rules of the house: dependencies of the core, sizes of files
    Tidy,
    /// Unit, property and integration tests, over real sockets and real processes
    Code,
    /// xDS, with the gRPC libraries of other languages as clients
    Xds,
    /// The packages, installed by apt on booted hosts of Debian; needs root
    Packages,
    /// A cluster of eight booted hosts under load, while they fail in every way; needs root
    Lab,
}

/// What runs when no tier is named.
const USUAL: [Tier; 7] =
    [Tier::Format, Tier::Lint, Tier::Tidy, Tier::Code, Tier::Xds, Tier::Packages, Tier::Lab];

/// Runs these tiers, the usual ones if none is named.
///
/// # Errors
/// At the first tier that fails.
pub(crate) fn run(tiers: &[Tier]) -> anyhow::Result<()> {
    for tier in if tiers.is_empty() { &USUAL } else { tiers } {
        say(&format!("== {tier:?}"));
        match tier {
            Tier::Format => tools::run(cargo(&["fmt", "--all", "--check"]))?,
            Tier::Lint => lint()?,
            Tier::Tidy => tidy::check()?,
            Tier::Code => code()?,
            Tier::Xds => xds::run(&xds::Options::default())?,
            Tier::Packages => packages::run()?,
            Tier::Lab => lab::run()?,
        }
    }
    Ok(())
}

/// Says that a tier cannot run here, and why.
///
/// # Errors
/// Under `CI=true`, where every tier must run.
fn skip(tier: &str, obstacle: &str) -> anyhow::Result<()> {
    ensure!(env::var("CI").as_deref() != Ok("true"), "the tier {tier} {obstacle}");
    say(&format!("skipped: {obstacle}"));
    Ok(())
}

fn lint() -> anyhow::Result<()> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"];
    tools::run(cargo(&clippy))?;
    let mut documentation = cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    documentation.env("RUSTDOCFLAGS", "--deny warnings");
    tools::run(documentation)
}

fn code() -> anyhow::Result<()> {
    // Certificates that are not ours are tried beside those that are.
    tools::need(&[("openssl", "openssl")])?;
    let python = python_with_zeroconf()?;
    let kinds = ["--lib", "--bins", "--tests", "--examples"];
    let mut tests = cargo(&["test", "--workspace", "--locked"]);
    tests.args(kinds);
    tests.env("LB_TEST_PYTHON", &python);
    tools::run(tests)?;
    tools::run(cargo(&["test", "--workspace", "--doc", "--locked"]))
}

/// A Python that has `zeroconf`, an mDNS implementation that is not ours, to test against.
fn python_with_zeroconf() -> anyhow::Result<PathBuf> {
    tools::python("target/test-python", "crates/xtask/requirements.txt", "zeroconf")
}
