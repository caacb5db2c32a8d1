//! What was measured, as it is kept.

use std::{collections::BTreeSet, fmt, fs, path::Path, thread};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::drill::{Drill, Failures, Limits};
use crate::tools::{command, output};

/// Everything that one run found out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) date: String,
    pub(super) commit: String,
    pub(super) cores: usize,
    /// Processes that wanted a core at the beginning, on average over a minute: others may use this machine.
    pub(super) load_before: f64,
    /// Calls of all drills and the time between them.
    pub(super) calls: u64,
    /// Of those, how many had not ended when clients were told to end.
    pub(super) abandoned: u64,
    pub(super) drills: Vec<Run>,
}

/// One drill that was run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) name: String,
    pub(super) limits: String,
    pub(super) figures: Figures,
    /// What was not reached.
    pub(super) missed: Vec<String>,
    /// Of the first attempt, when that missed a limit and this is the second.
    pub(super) first: Option<Figures>,
}

/// What was measured in a drill. Times are in seconds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    /// Calls that were under way at the failure, or began between it and the end.
    pub(super) calls: usize,
    pub(super) failed: usize,
    /// Of those, how many began after the failure.
    pub(super) failed_later: usize,
    /// How they failed.
    pub(super) outcomes: BTreeSet<String>,
    /// Calls at the worker when it failed.
    pub(super) in_flight: usize,
    /// Most calls that another worker had at one moment, in the ten seconds before and until the worker was out.
    pub(super) elsewhere: usize,
    /// From the failure until the last balancer had the worker out, and the last call had gone to it.
    pub(super) out_after: Option<f64>,
    /// From the return until all balancers had all workers in rotation, and the worker had answered a call.
    pub(super) back_after: f64,
    /// The same, until both clients had an answer of every worker.
    pub(super) whole_after: f64,
    /// The longest that a call took which was answered. A call takes 0.2 s by itself.
    pub(super) longest: f64,
}

impl Report {
    pub(super) fn new() -> anyhow::Result<Self> {
        let describe = ["describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"];
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            date: output(command("date", &["--utc", "+%Y-%m-%d"]))?.trim().to_owned(),
            commit: output(command("git", &describe))?.trim().to_owned(),
            cores: thread::available_parallelism().map_or(1, std::num::NonZero::get),
            load_before: load.split(' ').next().context("/proc/loadavg")?.parse()?,
            calls: 0,
            abandoned: 0,
            drills: Vec::new(),
        })
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Run {
    pub(super) fn new(
        drill: &Drill,
        figures: Figures,
        missed: Vec<String>,
        first: Option<Figures>,
    ) -> Self {
        let (name, limits) = (drill.name.to_owned(), drill.limits.to_string());
        Self { name, limits, figures, missed, first }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.failures {
            Failures::None => "none fails",
            Failures::InFlight => "none fails but those in flight",
            Failures::UpToOthers => {
                "no more fail than were in flight and each balancer adds until it is as full as another"
            }
        })?;
        if let Some(out) = self.out {
            write!(f, ", out ≤ {out} s")?;
        }
        if let Some(back) = self.back {
            write!(f, ", back ≤ {back} s")?;
        }
        Ok(())
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { calls, failed, in_flight, elsewhere, .. } = self.figures;
        let Figures { back_after, whole_after, longest, .. } = self.figures;
        write!(f, "{calls} calls, {failed} failed, {in_flight} were in flight there")?;
        write!(f, " and at most {elsewhere} elsewhere")?;
        if let Some(out) = self.figures.out_after {
            write!(f, "; out after {out:.2} s")?;
        }
        write!(
            f,
            "; back after {back_after:.2} s, whole after {whole_after:.2} s; longest {longest:.2} s"
        )?;
        if self.first.is_some() {
            write!(f, " (second attempt)")?;
        }
        for missed in &self.missed {
            write!(f, "; MISSED: {missed}")?;
        }
        Ok(())
    }
}
