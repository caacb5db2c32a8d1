//! What was measured, as it is kept.

use std::{collections::BTreeMap, fs};

use serde::{Deserialize, Serialize};

use crate::tools::{command, output};

/// Everything that one run found out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) environment: Environment,
    pub(super) rounds: u32,
    pub(super) seconds: u32,
    /// Of the proxies.
    pub(super) versions: BTreeMap<String, String>,
    /// Proxies that did not run, and why.
    pub(super) not_measured: Vec<(String, String)>,
    pub(super) bounds: Vec<Judgement>,
    pub(super) groups: Vec<Group>,
}

/// Where and when.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Environment {
    pub(crate) machine: String,
    pub(crate) cores: usize,
    pub(crate) commit: String,
    pub(crate) date: String,
}

impl Environment {
    pub(crate) fn here() -> anyhow::Result<Self> {
        let field = |path: &str, key: &str| {
            let text = fs::read_to_string(path).ok()?;
            let line = text.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once([':', '='])?.1.trim().trim_matches('"').to_owned())
        };
        let system = field("/etc/os-release", "PRETTY_NAME").unwrap_or_else(|| "Linux".into());
        let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "?".into());
        let describe = ["describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"];
        Ok(Self {
            machine: format!("{system}, {processor}"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            commit: output(command("git", &describe))?.trim().to_owned(),
            date: output(command("date", &["--utc", "+%Y-%m-%d"]))?.trim().to_owned(),
        })
    }
}

/// Ways under the same load.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) title: String,
    pub(super) ways: Vec<Series>,
}

/// One way in all rounds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) rounds: Vec<Measured>,
}

/// One way in one round, as `lb-wire load` prints it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Picks or calls that ended well.
    pub(super) count: u64,
    /// Those that did not.
    pub(super) failed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) first_failure: Option<String>,
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// How late the load itself began its calls, at a fixed rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) late_p99_us: Option<f64>,
    /// CPU time for each pick or call, by process.
    pub(super) cpu_us: BTreeMap<String, f64>,
}

impl Measured {
    /// CPU time of all processes.
    pub(super) fn cpu_us_total(&self) -> f64 {
        self.cpu_us.values().sum()
    }

    /// CPU time of the processes with this name.
    pub(super) fn cpu_us_of(&self, name: &str) -> f64 {
        self.cpu_us.get(name).copied().unwrap_or(f64::NAN)
    }
}

/// A bound, and whether it was reached.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Judgement {
    pub(super) what: String,
    pub(super) limit: f64,
    /// Whether more is better.
    pub(super) at_least: bool,
    /// The value in each round.
    pub(super) values: Vec<f64>,
    pub(super) median: f64,
    pub(super) reached: bool,
}

/// The middle one; of an even number, the mean of the two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let values = sorted(values);
    if values.is_empty() {
        return f64::NAN;
    }
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

/// The ends of the middle half, by nearest rank.
pub(super) fn quartiles(values: impl IntoIterator<Item = f64>) -> [f64; 2] {
    let values = sorted(values);
    [1, 3].map(|quarters| {
        let rank = (values.len() * quarters).div_ceil(4);
        values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    })
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}
