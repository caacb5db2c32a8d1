//! `cargo xtask fuzz`: mutated input for everything that reads what comes from outside, in search of panics, hangs, and memory
//! that grows without a bound.
//!
//! The targets are in `fuzz/`, which is no part of the workspace: cargo-fuzz builds them with instruments and the address
//! sanitizer, which only a nightly compiler has. Their bodies are in the crates they try (`fuzz.rs`), where ordinary tests run
//! the committed inputs again.

mod result;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use self::result::Figures;
use crate::tools::{self, command, output, root, say};

/// What to try, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only these targets; by default all of them. They run side by side, a process each
    #[arg(value_enum)]
    targets: Vec<Target>,
    /// How long each runs
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1440))]
    minutes: u32,
    /// Keep what was found: the least inputs that reach as much, in fuzz/corpus, and the figures in docs/results/fuzz.json
    #[arg(long)]
    save: bool,
}

/// A program of `fuzz/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Target {
    /// Configuration files and environments of both daemons
    Config,
    /// Messages that daemons take from the wire
    FromProto,
    /// Histories of a balancer: registrations, reports, picks, orders, time
    Register,
    /// Scenarios of the simulator and of benchmarks
    Scenario,
    /// Announcements on the network
    Txt,
}

/// The version that the flags below are tested with.
const CARGO_FUZZ: &str = "0.13.2";
/// Not `target`: flags differ from those of a plain build.
const FOLDER: &str = "target/fuzz";
/// Most memory of a target, in MiB: what the committed inputs need is a tenth.
const MEMORY_LIMIT: u32 = 2048;
/// Longest time of one input, in seconds. The slowest take a tenth, with instruments.
const TIME_LIMIT: u32 = 10;
/// How often the CPU time of what runs is read.
const LOOK: Duration = Duration::from_secs(1);

impl Target {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The committed inputs.
    fn corpus(self) -> PathBuf {
        root().join("fuzz/corpus").join(self.name())
    }

    /// What was found on this machine.
    fn found(self) -> PathBuf {
        root().join(FOLDER).join("corpus").join(self.name())
    }

    fn log(self) -> PathBuf {
        root().join(FOLDER).join(format!("{}.log", self.name()))
    }
}

/// Builds the targets and runs them.
///
/// # Errors
/// When something cannot be fetched or built, or a target has found an input that breaks it; names the input.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let targets = match arguments.targets.as_slice() {
        [] => Target::value_variants(),
        chosen => chosen,
    };
    let programs = build()?;
    let running: Vec<Running> = targets
        .iter()
        .map(|target| Running::start(*target, &programs, arguments.minutes))
        .collect::<anyhow::Result<_>>()?;
    let ended = wait(running)?;
    for figures in &ended {
        say(&figures.to_string());
    }
    let broken: Vec<_> = ended.iter().filter(|figures| figures.broken).collect();
    if !broken.is_empty() {
        let logs: Vec<_> =
            broken.iter().map(|figures| format!("{FOLDER}/{}.log", figures.target)).collect();
        bail!("an input breaks its target; see the end of {}", logs.join(" and "));
    }
    if arguments.save {
        targets.iter().try_for_each(|target| minimise(*target, &programs))?;
        result::save(ended)?;
    }
    Ok(())
}

/// Builds all targets; returns the folder of the programs.
fn build() -> anyhow::Result<PathBuf> {
    let program = tools::cargo_tool("cargo-fuzz", CARGO_FUZZ)?;
    let mut build = command(program, &["build", "--fuzz-dir", "fuzz", "--target-dir", FOLDER]);
    // The cargo that runs this names itself and its compiler, and is another one.
    build.env_remove("CARGO").env_remove("RUSTC");
    instrumented(&mut build);
    tools::run(build)?;
    let about = output(command("rustc", &["--version", "--verbose"]))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say what it builds for")?;
    Ok(root().join(FOLDER).join(host).join("release"))
}

/// Takes a nightly compiler, which is fetched if it is not there. Without one the stable compiler is told to take the flags of a
/// nightly one.
fn instrumented(build: &mut Command) {
    let has_nightly = || {
        let mut version = command("rustup", &["run", "nightly", "rustc", "--version"]);
        version.stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    };
    let fetch = ["toolchain", "install", "nightly", "--profile", "minimal"];
    if has_nightly() || tools::run(command("rustup", &fetch)).is_ok() {
        build.env("RUSTUP_TOOLCHAIN", "nightly");
    } else {
        say("no nightly compiler: the stable one has to do");
        build.env("RUSTC_BOOTSTRAP", "1");
    }
}

/// A target at work.
struct Running {
    target: Target,
    child: Child,
    started: Instant,
    cpu: Duration,
}

impl Running {
    fn start(target: Target, programs: &Path, minutes: u32) -> anyhow::Result<Self> {
        let (found, log) = (target.found(), target.log());
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        let mut fuzz = command(programs.join(target.name()), &["-print_final_stats=1"]);
        let artifacts = root().join(FOLDER).join(format!("{}-", target.name()));
        fuzz.arg(format!("-artifact_prefix={}", artifacts.display()));
        fuzz.arg(format!("-max_total_time={}", minutes * 60));
        fuzz.arg(format!("-rss_limit_mb={MEMORY_LIMIT}"));
        fuzz.arg(format!("-timeout={TIME_LIMIT}"));
        let dictionary = root().join("fuzz/dictionaries").join(target.name()).with_extension("txt");
        if dictionary.exists() {
            fuzz.arg(format!("-dict={}", dictionary.display()));
        }
        // New inputs go to the first folder.
        fuzz.arg(found).arg(target.corpus());
        fuzz.stdout(Stdio::null()).stderr(fs::File::create(&log)?);
        let shown = format!("{fuzz:?}");
        say(&format!("+ {shown}"));
        let child = fuzz.spawn().with_context(|| format!("cannot start {shown}"))?;
        Ok(Self { target, child, started: Instant::now(), cpu: Duration::ZERO })
    }

    /// What it has done, once it has ended.
    fn look(&mut self) -> anyhow::Result<Option<Figures>> {
        self.cpu = self.cpu.max(cpu_time(self.child.id()));
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        let log = fs::read(self.target.log())?;
        let mut figures = Figures::read(&String::from_utf8_lossy(&log));
        figures.target = self.target.name();
        figures.broken = !status.success();
        figures.seconds = self.started.elapsed().as_secs();
        figures.cpu_seconds = self.cpu.as_secs();
        Ok(Some(figures))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has mostly ended; if not, this has failed, and nobody waits for it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn wait(mut running: Vec<Running>) -> anyhow::Result<Vec<Figures>> {
    let mut ended = Vec::new();
    while !running.is_empty() {
        thread::sleep(LOOK);
        let mut going_on = Vec::new();
        for mut one in running {
            match one.look()? {
                Some(figures) => ended.push(figures),
                None => going_on.push(one),
            }
        }
        running = going_on;
    }
    ended.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(ended)
}

/// Time on a CPU of all threads of a process that has not been waited for; zero when it is gone.
fn cpu_time(process: u32) -> Duration {
    /// Of the kernel's clock in `/proc`, on every machine we know.
    const TICKS_A_SECOND: u64 = 100;
    let read = || {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name in brackets may hold anything; user and system time are the 12th and 13th field after it.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks * 1000 / TICKS_A_SECOND))
    };
    read().unwrap_or_default()
}

/// Commits to the fewest inputs that reach what all of them do: each part of the program, not each number of times, for which thousands
/// would be needed. Those with a name of their own once broke something, and stay.
fn minimise(target: Target, programs: &Path) -> anyhow::Result<()> {
    let (corpus, found) = (target.corpus(), target.found());
    for entry in fs::read_dir(&corpus)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if is_hash(&name.to_string_lossy()) {
            fs::rename(&path, found.join(name))?;
        }
    }
    let mut merge = command(programs.join(target.name()), &["-merge=1", "-use_counters=0"]);
    merge.arg(corpus).arg(found).stdout(Stdio::null()).stderr(Stdio::null());
    tools::run(merge)
}

/// Whether libFuzzer has given the name: a SHA-1.
fn is_hash(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
