//! A whole cluster on booted hosts: installed from the signed repository, found without any configuration, and kept under
//! load while everything fails that can.
//!
//! Two hosts have a balancer, four a worker, two call. What clients experience is measured by what they write down of each
//! call; when a worker was in and out, by what balancers write into their journals.

mod cluster;
mod drill;
mod drills;
mod journal;
mod load;
mod page;
mod report;
mod rollout;

use std::{fs, time::Instant};

use anyhow::{Context as _, ensure};
use clap::Args;

use self::{cluster::Cluster, load::Load, report::Report};
use super::repository;
use crate::{
    lab,
    package::Speed,
    repo::Repository,
    tools::{self, print, root, say},
};

/// Which drills, and what to do with their results.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Only drills whose name holds one of these
    only: Vec<String>,
    /// Those that take minutes as well
    #[arg(long)]
    long: bool,
    /// Keep the result: docs/results/lab.json, and docs/drills.md made from it
    #[arg(long, conflicts_with = "only")]
    save: bool,
}

/// Where the report goes.
const FOLDER: &str = "target/lab-report";

/// Runs the tier.
///
/// # Errors
/// When something does not hold, or a limit is not kept. Under `CI=true` also when the tier cannot run here.
pub(super) fn run() -> anyhow::Result<()> {
    if let Some(obstacle) = lab::obstacle() {
        return super::skip("lab", &obstacle);
    }
    rollout::lint()?;
    on_cluster(&Options::default(), rollout::all, rollout::away)
}

/// Makes a cluster and runs fault drills on it.
///
/// # Errors
/// When the cluster does not work, or a limit is not kept in two attempts.
pub(crate) fn drills(options: &Options) -> anyhow::Result<()> {
    on_cluster(options, |cluster, _| cluster.roll_out(), |_, _| Ok(()))
}

/// Makes a cluster in one way or another, runs fault drills on it, and takes it away.
fn on_cluster(
    options: &Options,
    roll_out: impl FnOnce(&Cluster, &Repository) -> anyhow::Result<()>,
    away: impl FnOnce(&Cluster, &Repository) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    tools::time_what_is_said();
    let started = Instant::now();
    // What is kept is of what people install.
    let repository = repository::make(if options.save { Speed::Full } else { Speed::Enough })?;
    let mut cluster = Cluster::boot(repository.folder())?;
    let done = roll_out(&cluster, &repository)
        .and_then(|()| cluster.discover())
        .and_then(|()| report(&mut cluster, options));
    let report = done.inspect_err(|_| cluster.show_journals())?;
    let folder = root().join(FOLDER);
    fs::create_dir_all(&folder)?;
    report.write(&folder.join("lab.json"))?;
    fs::write(folder.join("drills.md"), page::render(&report))?;
    if options.save {
        report.write(&root().join(page::COMMITTED))?;
        page::save(&report)?;
    }
    print(&page::table(&report.drills))?;
    say(&format!("the report is in {FOLDER}"));
    let missed: Vec<_> = report.drills.iter().filter(|drill| !drill.missed.is_empty()).collect();
    let names: Vec<_> = missed.iter().map(|drill| drill.name.as_str()).collect();
    ensure!(missed.is_empty(), "limits that were not kept, of: {}", names.join(", "));
    away(&cluster, &repository).inspect_err(|_| cluster.show_journals())?;
    say(&format!("{:.0?} in all", started.elapsed()));
    Ok(())
}

/// The committed page must be that of the committed result.
///
/// # Errors
/// When they differ.
pub(crate) fn check_page() -> anyhow::Result<()> {
    page::check()
}

/// All drills, one after the other, under one load.
fn report(cluster: &mut Cluster, options: &Options) -> anyhow::Result<Report> {
    let mut load = Load::start(cluster)?;
    let mut report = Report::new()?;
    for drill in drills::all() {
        let named = options.only.iter().any(|part| drill.name.contains(part.as_str()));
        if named || (options.only.is_empty() && (options.long || !drill.long)) {
            say(&format!("- {}", drill.name));
            let run = drill.run(cluster, &mut load).with_context(|| drill.name.to_owned())?;
            say(&format!("  {run}"));
            report.drills.push(run);
        }
    }
    ensure!(!report.drills.is_empty(), "no drill is named like {}", options.only.join(" or "));
    (report.calls, report.abandoned) = load.end(cluster)?;
    Ok(report)
}
