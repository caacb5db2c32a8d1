//! Running other programs.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Instant,
};

use anyhow::{Context as _, ensure};

/// The root of this repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// The cargo that runs this.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    command(cargo, arguments)
}

/// A program with arguments, in the root of the repository.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// Runs a program to its end, which must be a good one.
///
/// # Errors
/// When it cannot be started or fails; names the command.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    say(&format!("+ {shown}"));
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}

/// What a program prints.
///
/// # Errors
/// When it cannot be started or fails; names the command.
pub(crate) fn output(mut command: Command) -> anyhow::Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {shown}"))?;
    ensure!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The interpreter of a virtual Python environment in `folder`, which is made on first use. It can
/// import `module`, which comes with the packages that the file `requirements` names.
///
/// # Errors
/// When the environment cannot be made, or a package not be installed.
pub(crate) fn python(folder: &str, requirements: &str, module: &str) -> anyhow::Result<PathBuf> {
    let folder = root().join(folder);
    let python = folder.join("bin/python");
    let mut import = command(&python, &["-c", &format!("import {module}")]);
    let imports = import.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    let (wanted, installed) = (root().join(requirements), folder.join("requirements.txt"));
    let is_current =
        fs::read(&installed).is_ok_and(|text| fs::read(&wanted).is_ok_and(|wanted| wanted == text));
    if imports && is_current {
        return Ok(python);
    }
    let venv = || run(command("python3", &["-m", "venv", &folder.to_string_lossy()]));
    if venv().is_err() {
        // Debian keeps the module in a package of its own.
        run(command("apt-get", &["install", "--yes", "python3-venv"]))?;
        venv()?;
    }
    run(command(&python, &["-m", "pip", "install", "--quiet", "--requirement", requirements]))?;
    fs::copy(wanted, installed)?;
    Ok(python)
}

/// A command of cargo in this version, built once under `target`.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn cargo_tool(name: &str, version: &str) -> anyhow::Result<PathBuf> {
    let folder = root().join("target/tools");
    let program = folder.join("bin").join(name);
    let found = output(command(&program, &["--version"])).unwrap_or_default();
    if found.trim() != format!("{name} {version}") {
        let mut install = cargo(&["install", name, "--locked", "--quiet", "--force"]);
        install.args(["--version", &format!("={version}"), "--root"]).arg(&folder);
        run(install)?;
    }
    Ok(program)
}

/// Gives the developer what was asked for.
///
/// # Errors
/// When nobody takes it.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    write!(io::stdout(), "{text}").context("cannot write to the standard output")
}

/// Makes sure that programs are there: installs the Debian packages of those that are not.
///
/// # Errors
/// When one is missing and cannot be installed; names it.
pub(crate) fn need(programs: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing: Vec<_> = programs.iter().filter(|(program, _)| !is_installed(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let install = || {
        let mut install = command("apt-get", &["install", "--yes", "--no-install-recommends"]);
        install.args(&packages).env("DEBIAN_FRONTEND", "noninteractive").stdout(io::stderr());
        run(install)
    };
    // The lists of packages may be old, or not there yet.
    install()
        .or_else(|_| run(command("apt-get", &["--quiet", "update"])).and_then(|()| install()))
        .with_context(|| format!("{} must be installed", names.join(", ")))
}

/// Whether a program is on the path, or where only root has it on the path.
fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders =
        env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

/// When the clock began that [`say`] shows, if it shows one.
static BEGUN: OnceLock<Instant> = OnceLock::new();

/// From now on whatever is said bears the time since the first call of this: in a long log it tells what takes long.
pub(crate) fn time_what_is_said() {
    BEGUN.get_or_init(Instant::now);
}

/// Tells the developer something.
pub(crate) fn say(text: &str) {
    let time = BEGUN.get().map(|begun| {
        let seconds = begun.elapsed().as_secs();
        format!("[{}:{:02}] ", seconds / 60, seconds % 60)
    });
    // Nobody reads it: then nobody needs it.
    drop(writeln!(io::stderr(), "{}{text}", time.unwrap_or_default()));
}
