//! What a bench leaves behind: a report, and every repeat's figures, in one file that later commands read.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{load::RunResult, report::Report};

/// Tells such a file from other JSON.
const KIND: &str = "lbctl bench run";

/// One scenario, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    kind: String,
    /// Short name of the scenario: a built-in one's, or the file's without its ending.
    pub(crate) scenario: String,
    /// What was measured, with flags and file taken together.
    pub(crate) settings: Value,
    /// What people see of it.
    #[serde(flatten)]
    pub(crate) report: Report,
    /// Every run in the order in which they were made, without curves: those are in the report, of the
    /// repeats in the middle.
    pub(crate) repeats: Vec<RunResult>,
}

/// Why a file is no outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutcomeError {
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path}, line {line}: {message}; expected a file made by `lbctl bench run --out`")]
    Format { path: String, line: usize, message: String },
    #[error("{path} is no result: expected a file made by `lbctl bench run --out`")]
    Other { path: String },
}

impl Outcome {
    pub(crate) fn new(
        scenario: String,
        settings: Value,
        report: Report,
        repeats: &[RunResult],
    ) -> Self {
        let without_curves = |run: &RunResult| RunResult {
            response_cdf: Vec::new(),
            utilisation: Vec::new(),
            ..run.clone()
        };
        let repeats = repeats.iter().map(without_curves).collect();
        Self { kind: KIND.to_owned(), scenario, settings, report, repeats }
    }

    /// Reads a file. `None` when it is JSON, but of another kind.
    ///
    /// # Errors
    /// When it cannot be read, or says it is an outcome and is not.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, OutcomeError> {
        let shown = || path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| OutcomeError::Read { path: shown(), source })?;
        let format = |error: serde_json::Error| OutcomeError::Format {
            path: shown(),
            line: error.line(),
            message: error.to_string(),
        };
        let json: Value = serde_json::from_str(&text).map_err(format)?;
        if json["kind"] != KIND {
            return Ok(None);
        }
        // From the text again: only there have errors a line.
        serde_json::from_str(&text).map(Some).map_err(format)
    }
}
