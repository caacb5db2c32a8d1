//! Every crate that we depend on is used, and has its reason in docs/dependencies.md.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::tools::{cargo, output, root};

const PAGE: &str = "docs/dependencies.md";

/// The part of `cargo metadata` that is of interest.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Nothing for our own.
    source: Option<String>,
}

/// Compares what the manifests ask for with what the page explains.
///
/// # Errors
/// Names what is on one side only.
pub(super) fn check() -> anyhow::Result<()> {
    let mut used = used("Cargo.toml")?;
    let manifest = fs::read_to_string(root().join("Cargo.toml")).context("Cargo.toml")?;
    let unused: Vec<_> = declared(&manifest).filter(|name| !used.contains(*name)).collect();
    ensure!(unused.is_empty(), "Cargo.toml has dependencies that no crate uses: {unused:?}");
    used.extend(self::used("fuzz/Cargo.toml")?);
    let page = fs::read_to_string(root().join(PAGE)).context(PAGE)?;
    let explained: BTreeSet<String> = explained(&page).collect();
    let (missing, left) = (used.difference(&explained), explained.difference(&used));
    let (missing, left): (Vec<_>, Vec<_>) = (missing.collect(), left.collect());
    ensure!(missing.is_empty(), "{PAGE} does not say why these are there: {missing:?}");
    ensure!(left.is_empty(), "{PAGE} explains what nobody depends on: {left:?}");
    Ok(())
}

/// Crates of others that the packages of a workspace name.
fn used(manifest: &str) -> anyhow::Result<BTreeSet<String>> {
    let arguments =
        ["metadata", "--no-deps", "--format-version", "1", "--locked", "--manifest-path", manifest];
    let metadata: Metadata = serde_json::from_str(&output(cargo(&arguments))?)?;
    let dependencies = metadata.packages.into_iter().flat_map(|package| package.dependencies);
    let foreign = dependencies.filter(|dependency| dependency.source.is_some());
    Ok(foreign.map(|dependency| dependency.name).collect())
}

/// Crates of others in `[workspace.dependencies]`.
fn declared(manifest: &str) -> impl Iterator<Item = &str> {
    let section = manifest.split_once("[workspace.dependencies]").map_or("", |(_, rest)| rest);
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines.filter(|line| !line.contains("path =")).filter_map(|line| {
        let (name, _) = line.split_once('=')?;
        Some(name.trim())
    })
}

/// Names in the first column of tables.
fn explained(page: &str) -> impl Iterator<Item = String> {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    // Between the backticks, the first of which is cut off already: every second piece.
    cells.flat_map(|cell| cell.split('`').step_by(2)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_the_first_column() {
        let page = "| Crate | What |\n|---|---|\n| `a` | as `b` does |\n| `c-d`, `e` | x |\n`f`\n";
        assert_eq!(explained(page).collect::<Vec<_>>(), ["a", "c-d", "e"]);
    }

    #[test]
    fn our_own_are_not_declared() {
        let manifest = "[workspace.dependencies]\nlb-core = { path = \"x\" }\n\n# Why.\na = \"1\"\nb = { version = \"2\" }\n[x]\nc = 1\n";
        assert_eq!(declared(manifest).collect::<Vec<_>>(), ["a", "b"]);
    }
}
