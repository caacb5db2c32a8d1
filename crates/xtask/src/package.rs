//! Debian packages: the programs with their manual, completions and changelog, put together by cargo-deb.
//!
//! The same source and the same `SOURCE_DATE_EPOCH` give the same bytes, wherever the source and cargo's own folder
//! lie. Manual and completions are made here, from the command lines that the programs really have, and are not
//! committed: what is not there twice cannot differ.

mod changelog;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::tools::{self, cargo, command, output, root};

/// The crates that become packages.
const CRATES: [&str; 4] = ["lb-server", "lb-worker", "lb-scaler", "lb-cli"];
/// Not `target`: flags differ from those of a plain build, and each would undo the work of the other.
const TARGET: &str = "target/packages";
/// What crates' `[package.metadata.deb]` expect to find.
const FILES: &str = "target/package-files";
/// The version that the sections `[package.metadata.deb]` are tested with.
const CARGO_DEB: &str = "3.8.0";

/// How fast the programs shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speed {
    /// For who installs them
    Full,
    /// For tests that look at what packages do, not at how fast or how small they are: compiling, and packing of symbols, would take
    /// longer than all they look at
    Enough,
}

/// Builds all packages into a folder, their debug symbols as packages of their own.
///
/// # Errors
/// When a program that is needed is missing, or fails.
pub(crate) fn build(revision: &str, folder: &Path, speed: Speed) -> anyhow::Result<()> {
    let epoch = epoch()?;
    compile(speed)?;
    man(&root().join(FILES).join("man"))?;
    completions(&root().join(FILES).join("completions"))?;
    let changes = fs::read_to_string(root().join("CHANGELOG.md")).context("CHANGELOG.md")?;
    let date = output(command("date", &["--utc", "--rfc-email", &format!("--date=@{epoch}")]))?;
    let version = format!("{}-{revision}", env!("CARGO_PKG_VERSION"));
    let changes = changelog::debian(&changes, &version, date.trim());
    fs::write(root().join(FILES).join("changelog"), changes)?;
    put_together(&CRATES, revision, folder, &epoch, speed)
}

/// Makes the packages of what is built already.
///
/// # Errors
/// When cargo-deb fails.
pub(crate) fn put_together(
    crates: &[&str],
    revision: &str,
    folder: &Path,
    epoch: &str,
    speed: Speed,
) -> anyhow::Result<()> {
    let program = tools::cargo_tool("cargo-deb", CARGO_DEB)?;
    fs::create_dir_all(folder)?;
    let into = folder.to_string_lossy();
    for package in crates {
        // Quiet: it warns of every generated file that cargo has not built it.
        let arguments = ["--quiet", "--no-build", "--locked", "--dbgsym", "--package", package];
        let mut deb = command(&program, &arguments);
        deb.args(["--deb-revision", revision, "--output", &*into]);
        if speed == Speed::Enough {
            deb.arg("--fast");
        }
        deb.env("SOURCE_DATE_EPOCH", epoch).env("CARGO_TARGET_DIR", root().join(TARGET));
        tools::run(deb)?;
    }
    rename_symbols(folder)
}

/// Writes the manual pages.
///
/// # Errors
/// When the programs cannot be built.
pub(crate) fn man(folder: &Path) -> anyhow::Result<()> {
    let date = ["--utc", "--iso-8601", &format!("--date=@{}", epoch()?)];
    let date = output(command("date", &date))?;
    let mut write = writer("man", folder)?;
    write.args(["--date", date.trim()]);
    tools::run(write)
}

/// Writes the completions of bash, zsh and fish.
///
/// # Errors
/// When the programs cannot be built.
pub(crate) fn completions(folder: &Path) -> anyhow::Result<()> {
    tools::run(writer("completions", folder)?)
}

/// Makes a folder anew, so that nothing of an older build stays, and a command that fills it.
fn writer(what: &str, folder: &Path) -> anyhow::Result<Command> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    let example = ["run", "--quiet", "--locked", "--package", "lb-cli", "--example", "manual"];
    let mut write = cargo(&example);
    write.arg("--").arg(what).arg(folder);
    Ok(write)
}

/// Seconds since 1970 that everything in a package bears: the last commit's, unless it is given.
pub(crate) fn epoch() -> anyhow::Result<String> {
    if let Ok(given) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    Ok(output(command("git", &["log", "-1", "--format=%ct"]))?.trim().to_owned())
}

/// Builds the programs. No path of this machine gets into them.
fn compile(speed: Speed) -> anyhow::Result<()> {
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME").map_or(home.join(".cargo"), PathBuf::from);
    let flags = [
        format!("--remap-path-prefix={}=/usr/src/lb", root().display()),
        format!("--remap-path-prefix={}=/usr/share/cargo", cargo_home.display()),
    ];
    let mut build = cargo(&["build", "--release", "--locked", "--bins"]);
    for package in CRATES {
        build.args(["--package", package]);
    }
    build.env("CARGO_TARGET_DIR", root().join(TARGET));
    if speed == Speed::Enough {
        build.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        build.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    }
    // Paths may hold spaces; this separator cannot occur in them.
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    tools::run(build)
}

/// cargo-deb ends the names of packages with symbols as Ubuntu does; Debian's tools expect `.deb`.
fn rename_symbols(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "ddeb") {
            fs::rename(&path, path.with_extension("deb"))?;
        }
    }
    Ok(())
}
