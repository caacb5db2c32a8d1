//! `cargo xtask deny`: whether every dependency is one that `deny.toml` accepts.
//!
//! A chore and no tier of the tests: it holds for a lock file, not for a change of ours, and to build cargo-deny takes longer
//! than all that CI does.

use anyhow::Context as _;

use crate::tools::{self, command, say};

/// The version that `deny.toml` is tested with.
const CARGO_DENY: &str = "0.20.2";

/// Checks licences, duplicates, sources; and advisories, where their database can be had.
///
/// # Errors
/// Names what `deny.toml` does not accept.
pub(crate) fn run() -> anyhow::Result<()> {
    let program = tools::cargo_tool("cargo-deny", CARGO_DENY)?;
    let deny = |arguments: &[&str]| {
        let mut deny = command(&program, &["--workspace", "--locked", "--all-features"]);
        deny.args(arguments);
        tools::run(deny)
    };
    deny(&["check", "licenses", "bans", "sources"]).context("see deny.toml")?;
    if deny(&["fetch", "db"]).is_err() {
        say(
            "the database of advisories cannot be had: known defects of dependencies were NOT checked",
        );
        return Ok(());
    }
    deny(&["check", "--disable-fetch", "advisories"]).context("see deny.toml")
}
