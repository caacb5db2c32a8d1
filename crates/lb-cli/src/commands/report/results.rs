//! The result files that a document is made of, each known by what stands in it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    commands::bench::run::BUILT_IN,
    failure::Failure,
    outcome::{Outcome, OutcomeError},
    report::sweep::IntervalSweep,
};

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// Of `lbctl bench run`, by scenario.
    pub(super) cases: BTreeMap<String, Outcome>,
    /// Of the simulator: what `least_load` must reach, and what it does.
    pub(super) evidence: Option<Evidence>,
    /// Of the simulator: p99 by the time between reports.
    pub(super) sweep: Option<IntervalSweep>,
    /// Of `cargo xtask bench`: whole calls by the way they are picked.
    pub(super) wire: Option<Wire>,
    /// What was not understood, or has no place in the document, and why.
    pub(super) skipped: Vec<String>,
}

/// The file that the example `evidence` of `lb-sim` writes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    pub(super) command: String,
    pub(super) targets: Vec<EvidenceTarget>,
    pub(super) hundred_workers_of_one_slot: Vec<EvidenceCase>,
}

/// A case with what is demanded of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EvidenceTarget {
    #[serde(flatten)]
    pub(super) case: EvidenceCase,
    /// Of `least_load`: its p99 over that of `against`.
    pub(super) ratio: f64,
    /// The most it may be.
    pub(super) limit: f64,
    /// `oracle`, or a policy.
    pub(super) against: String,
}

impl EvidenceTarget {
    /// Whether it is met.
    pub(super) fn is_reached(&self) -> bool {
        self.ratio <= self.limit
    }
}

/// A simulated case.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EvidenceCase {
    pub(super) case: String,
    pub(super) rules: Vec<EvidenceRule>,
}

/// What a rule did in it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EvidenceRule {
    pub(super) rule: String,
    pub(super) p99_over_oracle: Option<f64>,
    pub(super) mean_over_oracle: Option<f64>,
}

/// The file that `cargo xtask bench` writes, as far as it is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Wire {
    pub(super) environment: WireEnvironment,
    pub(super) rounds: u32,
    pub(super) bounds: Vec<Bound>,
}

/// Where and when.
#[derive(Debug, Deserialize)]
pub(super) struct WireEnvironment {
    pub(super) machine: String,
    pub(super) cores: usize,
    pub(super) commit: String,
    pub(super) date: String,
}

/// A ratio inside a round, with what is demanded of it.
#[derive(Debug, Deserialize)]
pub(super) struct Bound {
    pub(super) what: String,
    pub(super) limit: f64,
    /// Whether more is better.
    pub(super) at_least: bool,
    /// Over the rounds.
    pub(super) median: f64,
}

impl Bound {
    /// Whether it is met.
    pub(super) fn is_reached(&self) -> bool {
        if self.at_least { self.median >= self.limit } else { self.median <= self.limit }
    }
}

impl Results {
    /// Reads files, and all `.json` files of folders. In a folder, what is of no known kind is left out.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut results = Self::default();
        for path in paths {
            let in_folder = path.is_dir();
            let files = if in_folder { json_files(path)? } else { vec![path.clone()] };
            for file in files {
                if results.add(&file)? {
                    continue;
                }
                let path = file.display().to_string();
                if !in_folder {
                    return Err(refused(OutcomeError::Other { path }));
                }
                results.skipped.push(format!("{path}: of a kind that this command does not know"));
            }
        }
        Ok(results)
    }

    /// Takes a file in; `false` when it is of no known kind.
    fn add(&mut self, file: &Path) -> Result<bool, Failure> {
        if let Some(outcome) = Outcome::read(file).map_err(refused)? {
            self.add_case(outcome, file)?;
            return Ok(true);
        }
        let json: Value = parsed(file)?;
        if json["points"].is_array() {
            self.sweep = Some(only(self.sweep.is_some(), file)?);
        } else if json["targets"].is_array() {
            self.evidence = Some(only(self.evidence.is_some(), file)?);
        } else if json["bounds"].is_array() {
            self.wire = Some(only(self.wire.is_some(), file)?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn add_case(&mut self, outcome: Outcome, file: &Path) -> Result<(), Failure> {
        let (scenario, file) = (outcome.scenario.clone(), file.display());
        if !BUILT_IN.iter().any(|(name, _)| *name == scenario) {
            self.skipped.push(format!("{file}: the document has no place for scenario {scenario}"));
            return Ok(());
        }
        if self.cases.insert(scenario.clone(), outcome).is_some() {
            return Err(Failure::Refused(format!(
                "{file} is another result of scenario {scenario}: expected one of each"
            )));
        }
        Ok(())
    }
}

/// The file's content, unless another file of its kind has been read.
fn only<T: DeserializeOwned>(has_one: bool, file: &Path) -> Result<T, Failure> {
    if has_one {
        let file = file.display();
        return Err(Failure::Refused(format!(
            "{file} is another result of its kind: expected one of each"
        )));
    }
    parsed(file)
}

fn parsed<T: DeserializeOwned>(file: &Path) -> Result<T, Failure> {
    let path = || file.display().to_string();
    let text = fs::read_to_string(file)
        .map_err(|source| refused(OutcomeError::Read { path: path(), source }))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::Refused(format!("{}, line {}: {error}", path(), error.line())))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn refused(error: OutcomeError) -> Failure {
    Failure::Refused(error.to_string())
}

/// The files of a folder, in the order of their names.
fn json_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::Refused(format!("cannot read {}: {error}", folder.display()))
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
