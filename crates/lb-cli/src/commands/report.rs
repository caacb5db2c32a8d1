//! `lbctl report`: one document from result files, for people who were not there.
//!
//! The text is a template: what is measured stands in it as a placeholder ([`fill`]), so no figure is ever typed
//! by hand; and a sentence that claims something stands under a condition on the figures ([`context`]), so none
//! can contradict them. The document can be made again whenever a result file changes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use crate::{
    commands::bench::run::BUILT_IN,
    context::Common,
    failure::Failure,
    output::{check_writable, note},
};

use self::{context::Form, results::Results};

mod compare;
mod context;
mod fill;
mod page;
mod results;
mod table;

/// From what to make which document.
#[derive(Debug, Args)]
#[group(id = "document", required = true, multiple = true, args = ["markdown", "html"])]
pub(crate) struct Arguments {
    /// Result files of `lbctl bench run --out` and of the simulator, or folders of them
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// The document to write, in Markdown; its plots go into a folder of the same name beside it
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// The document to write, as one HTML page with its plots inside
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(crate) fn run(common: &Common, arguments: &Arguments) -> Result<(), Failure> {
    let results = Results::read(&arguments.results)?;
    for skipped in &results.skipped {
        note(&format!("left out: {skipped}"));
    }
    let missing = missing(&results);
    if !missing.is_empty() {
        note(&format!("not measured: {}", missing.join(", ")));
    }
    let documents: Vec<&Path> = [&arguments.markdown, &arguments.html]
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
        .collect();
    documents.iter().try_for_each(|path| check_writable(path))?;
    if let Some(path) = &arguments.markdown {
        markdown(path, &results)?;
    }
    if let Some(path) = &arguments.html {
        let (text, _) = filled(&results, &Form::Html)?;
        write(path, &page::from_markdown(&text))?;
    }
    let json = serde_json::json!({
        "documents": documents,
        "results": results.cases.len(),
        "missing": missing,
        "left_out": results.skipped,
    });
    let shown: Vec<String> = documents.iter().map(|path| path.display().to_string()).collect();
    let text = format!("{} from {} results", shown.join(" and "), results.cases.len());
    Ok(common.printer().print(&text, &json)?)
}

/// Writes the document and, beside it, its plots.
fn markdown(path: &Path, results: &Results) -> Result<(), Failure> {
    let folder = path.with_extension("");
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (text, plots) = filled(results, &Form::Markdown { folder: name })?;
    fs::create_dir_all(&folder).map_err(|source| Failure::write(&folder, source))?;
    for (name, svg) in plots {
        write(&folder.join(name), &svg)?;
    }
    write(path, &text)
}

/// The text, and the plots that it refers to by their file names.
fn filled(results: &Results, form: &Form) -> Result<(String, Vec<(String, String)>), Failure> {
    let (values, plots) = context::context(results, form).context("cannot draw the plots")?;
    let text = fill::fill(&values).context("the template is broken")?;
    Ok((text, plots))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|source| Failure::write(path, source))
}

/// What the document has a place for and no result.
fn missing(results: &Results) -> Vec<&'static str> {
    let cases = BUILT_IN.iter().map(|(name, _)| *name);
    let cases = cases.filter(|name| !results.cases.contains_key(*name));
    let others = [
        ("least_load_evidence", results.evidence.is_none()),
        ("interval_sweep", results.sweep.is_none()),
        ("wire", results.wire.is_none()),
    ];
    cases.chain(others.into_iter().filter_map(|(name, lacks)| lacks.then_some(name))).collect()
}
