//! Rules of the house that no lint knows.

mod dependencies;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, bail, ensure};

use crate::{
    bench, test,
    tools::{cargo, command, output, root},
};

/// What the pure crates may depend on, and nothing else: no runtime, no clock, no I/O.
const PURE: [(&str, &[&str]); 2] = [
    (
        "lb-core",
        &[
            "fastrand",
            "lb-core",
            "proc-macro2",
            "quote",
            "syn",
            "thiserror",
            "thiserror-impl",
            "unicode-ident",
        ],
    ),
    (
        "lb-sim",
        &[
            "fastrand",
            "lb-core",
            "lb-sim",
            "proc-macro2",
            "quote",
            "serde",
            "serde_core",
            "serde_derive",
            "serde_spanned",
            "syn",
            "thiserror",
            "thiserror-impl",
            "toml",
            "toml_datetime",
            "toml_parser",
            "toml_writer",
            "unicode-ident",
            "winnow",
        ],
    ),
];

/// Most lines of a source file before its tests. A longer one holds more than one idea.
const FILE_LIMIT: usize = 500;

/// Most lines of `main.rs` and `lib.rs`: they say what there is, and do nothing.
const ROOT_FILE_LIMIT: usize = 100;

/// Checks every rule.
///
/// # Errors
/// Names what breaks a rule, and the rule.
pub(crate) fn check() -> anyhow::Result<()> {
    for (package, allowed) in PURE {
        check_pure(package, allowed)?;
    }
    for path in output(command("git", &["ls-files", "*.rs"]))?.lines() {
        check_size(Path::new(path))?;
    }
    dependencies::check()?;
    bench::check_page()?;
    test::xds::check_page()?;
    test::lab::check_page()
}

fn check_pure(package: &str, allowed: &[&str]) -> anyhow::Result<()> {
    let tree =
        ["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let tree = output(cargo(&tree))?;
    let found: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let foreign: Vec<_> = found.iter().filter(|name| !allowed.contains(name)).collect();
    ensure!(foreign.is_empty(), "{package} is pure, but depends on {foreign:?}");
    Ok(())
}

fn check_size(path: &Path) -> anyhow::Result<()> {
    let Ok(text) = fs::read_to_string(root().join(path)) else {
        // Deleted and not yet committed.
        return Ok(());
    };
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
    let name = path.file_name().context("a file has a name")?;
    let is_root = name == "main.rs" || name == "lib.rs";
    let is_test = path.components().any(|part| part.as_os_str() == "tests");
    let limit = if is_root { ROOT_FILE_LIMIT } else { FILE_LIMIT };
    if lines > limit && !is_test {
        bail!("{} has {lines} lines before its tests: at most {limit}", path.display());
    }
    Ok(())
}
