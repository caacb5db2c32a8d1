//! `lbctl report`: one document from result files, for people who were not there.
//!
//! The text is a template: what is measured stands in it as a placeholder ([`fill`]), so no figure is ever typed
//! by hand, and the document can be made again whenever a result file changes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use crate::{
    commands::bench::run::BUILT_IN,
    context::Common,
    failure::Failure,
    outcome::{Outcome, OutcomeError},
    output::{line, note},
};

mod fill;

/// From what to make which document.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Result files of `lbctl bench run --out`, or folders of them
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// The document to write, in Markdown
    #[arg(long, value_name = "FILE")]
    markdown: PathBuf,
}

/// The text around the figures.
const TEMPLATE: &str = include_str!("report/template.md");

pub(crate) fn run(common: &Common, arguments: &Arguments) -> Result<(), Failure> {
    let results = read_all(&arguments.results)?;
    let missing: Vec<&str> = BUILT_IN
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !results.contains_key(*name))
        .collect();
    if !missing.is_empty() {
        note(&format!("not measured: {}", missing.join(", ")));
    }
    let document = fill::fill(TEMPLATE, &results).context("the template is broken")?;
    let path = &arguments.markdown;
    fs::write(path, document).map_err(|source| Failure::write(path, source))?;
    let json =
        serde_json::json!({ "document": path, "results": results.len(), "missing": missing });
    if common.printer().is_json() {
        return Ok(line(&format!("{json:#}"))?);
    }
    Ok(line(&format!("{} from {} results", path.display(), results.len()))?)
}

/// All results by scenario.
fn read_all(paths: &[PathBuf]) -> Result<BTreeMap<String, Outcome>, Failure> {
    let refused = |error: OutcomeError| Failure::Refused(error.to_string());
    let mut results = BTreeMap::new();
    for path in paths {
        let in_folder = path.is_dir();
        let files = if in_folder { json_files(path)? } else { vec![path.clone()] };
        for file in files {
            match Outcome::read(&file).map_err(refused)? {
                Some(outcome) => add(&mut results, outcome, &file)?,
                // Other measurements may lie in the same folder.
                None if in_folder => {}
                None => {
                    let path = file.display().to_string();
                    return Err(refused(OutcomeError::Other { path }));
                }
            }
        }
    }
    Ok(results)
}

fn add(
    results: &mut BTreeMap<String, Outcome>,
    outcome: Outcome,
    file: &Path,
) -> Result<(), Failure> {
    let scenario = outcome.scenario.clone();
    if results.insert(scenario.clone(), outcome).is_some() {
        let file = file.display();
        let message =
            format!("{file} is another result of scenario {scenario}: expected one of each");
        return Err(Failure::Refused(message));
    }
    Ok(())
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
