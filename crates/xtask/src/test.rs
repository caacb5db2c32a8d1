//! The test tiers, cheapest first.

pub(crate) mod lab;
mod packages;
mod repository;
pub(crate) mod xds;

use std::{
    env,
    path::PathBuf,
    process,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

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

/// What is built for the tier `code`: everything but benchmarks.
const KINDS: [&str; 4] = ["--lib", "--bins", "--tests", "--examples"];

/// Runs these tiers, the usual ones if none is named.
///
/// # Errors
/// At the first tier that fails.
pub(crate) fn run(tiers: &[Tier]) -> anyhow::Result<()> {
    tools::time_what_is_said();
    for tier in if tiers.is_empty() { &USUAL } else { tiers } {
        say(&format!("== {tier:?}"));
        let _in_time = in_time(*tier);
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

impl Tier {
    /// No tier takes so long, on any machine that is worth its electricity: it waits for something that will not come.
    fn limit(self) -> Duration {
        let minutes = match self {
            Self::Format | Self::Tidy => 5,
            Self::Xds => 15,
            Self::Lint | Self::Code | Self::Packages => 40,
            Self::Lab => 45,
        };
        Duration::from_secs(60 * minutes)
    }
}

/// Until what this returns is dropped, the tier has its time; then this process ends, and with it what it has started.
fn in_time(tier: Tier) -> mpsc::Sender<()> {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        if is_done.recv_timeout(tier.limit()) == Err(RecvTimeoutError::Timeout) {
            say(&format!("xtask: error: {tier:?} hangs: it runs for {:?}", tier.limit()));
            process::exit(1);
        }
    });
    done
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
    let mut tests = cargo(&["test", "--workspace", "--locked"]);
    tests.args(KINDS);
    tests.env("LB_TEST_PYTHON", &python);
    tools::run(tests)?;
    tools::run(cargo(&["test", "--workspace", "--doc", "--locked"]))
}

/// A Python that has `zeroconf`, an mDNS implementation that is not ours, to test against.
fn python_with_zeroconf() -> anyhow::Result<PathBuf> {
    tools::python("target/test-python", "crates/xtask/requirements.txt", "zeroconf")
}
