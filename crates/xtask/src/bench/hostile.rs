//! `cargo xtask hostile`: what honest clients feel of an attack, and what is left of it.
//!
//! Real processes on the loopback: a balancer, two workers, one honest client with 64 unary picks under way, and one
//! process with all attackers. In each round the client is measured for each kind of attack: before, under it, and after.
//!
//! Attackers would have processors of their own. Here they have the same, so they run at the lowest priority: they get what
//! the others leave, and what they sent is counted.

mod table;

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines, Read as _},
    net::Ipv4Addr,
    process::{Child, ChildStdout, Stdio},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{
    FOLDER, build, page,
    process::Process,
    program,
    result::{Environment, Measured},
};
use crate::tools::{self, command, root, say};

/// The committed result.
const COMMITTED: &str = "docs/results/hostile.json";
/// How long a balancer may take to be as it was before.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked.
const GLANCE: Duration = Duration::from_millis(20);
/// Before each measurement: what the last one has left to the kernel settles.
const SETTLE: Duration = Duration::from_millis(300);
/// How long the balancer is alone with its attackers.
const ALONE: Duration = Duration::from_secs(1);
/// Where attackers come from; each attack has addresses of its own, as the balancer remembers some for seconds.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const ADDRESSES: u32 = 8;

/// Kinds of attacks, by their names for `lb-wire hostile`.
const KINDS: [&str; 18] = [
    "idle",
    "half-preface",
    "slow-headers",
    "answering",
    "silent-session",
    "idle-session",
    "half-registration",
    "half-pick",
    "half-message",
    "huge-message",
    "rapid-reset",
    "pings",
    "settings",
    "continuation",
    "header-list",
    "garbage",
    "churn",
    "unread",
];

/// What to try, and how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these kinds; by default all of them
    kinds: Vec<String>,
    /// Rounds; each tries every kind once
    #[arg(long, value_name = "COUNT", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long the client is measured each time
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Hostile connections
    #[arg(long, value_name = "COUNT", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Keep the result: docs/results/hostile.json, and the table of docs/performance.md made from it
    #[arg(long)]
    save: bool,
}

/// Everything that one run found out.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    environment: Environment,
    command: String,
    rounds: u32,
    seconds: u32,
    connections: u32,
    /// Of the balancer before the first attack, in KiB.
    resident_kib_before: u64,
    /// And after the last.
    resident_kib_after: u64,
    kinds: Vec<Series>,
}

/// One kind in all rounds.
#[derive(Debug, Serialize, Deserialize)]
struct Series {
    kind: String,
    rounds: Vec<Round>,
}

/// One kind in one round.
#[derive(Debug, Serialize, Deserialize)]
struct Round {
    /// Honest picks a second before the attack, and after it.
    alone: [f64; 2],
    /// And under it.
    under: f64,
    /// Honest picks that failed under it.
    failed: u64,
    /// What the attack takes of the balancer when nobody else asks it for anything, in the second after: a share of all cores.
    cpu_share: f64,
    /// Memory of the balancer under the attack, in KiB.
    resident_kib: u64,
    /// Its open files at the same time, and before.
    files: usize,
    files_before: usize,
    /// Until it had no more open files than before, in seconds; `None`: not in time.
    gone_after_s: Option<f64>,
    /// What became of the attackers.
    attackers: Attackers,
}

/// As `lb-wire hostile` prints it.
#[derive(Debug, Serialize, Deserialize)]
struct Attackers {
    opened: u64,
    ended: u64,
    bytes: u64,
}

/// Measures, prints the table, and writes the result.
///
/// # Errors
/// When something cannot be built, started or measured.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let chosen: Vec<_> = match options.kinds.as_slice() {
        [] => KINDS.map(str::to_owned).to_vec(),
        kinds => kinds.to_vec(),
    };
    for kind in &chosen {
        ensure!(KINDS.contains(&kind.as_str()), "no kind {kind}: expected one of {KINDS:?}");
    }
    let folder = build()?;
    let report = measure(options, &chosen)?;
    let text = serde_json::to_string_pretty(&report)? + "\n";
    let path = if options.save { root().join(COMMITTED) } else { folder.join("hostile.json") };
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    if options.save {
        page::fill(page::HOSTILE, &table::render(&report))?;
    }
    tools::print(&table::render(&report))?;
    say(&format!("written to {}", path.display()));
    Ok(())
}

/// The committed table must be that of the committed result.
///
/// # Errors
/// When it is not.
pub(super) fn check_page() -> anyhow::Result<()> {
    page::check(page::HOSTILE, COMMITTED, "cargo xtask hostile --save", table::render)
}

fn measure(options: &Options, chosen: &[String]) -> anyhow::Result<Report> {
    let mut range = Range::start(options)?;
    let resident_kib_before = range.resident_kib()?;
    let mut kinds: Vec<_> =
        chosen.iter().map(|kind| Series { kind: kind.clone(), rounds: Vec::new() }).collect();
    for round in 1..=options.rounds {
        for series in &mut kinds {
            say(&format!("round {round} of {}: {}", options.rounds, series.kind));
            series.rounds.push(range.round(&series.kind)?);
        }
    }
    Ok(Report {
        environment: Environment::here()?,
        command: "cargo xtask hostile --save".into(),
        rounds: options.rounds,
        seconds: options.seconds,
        connections: options.count,
        resident_kib_before,
        resident_kib_after: range.resident_kib()?,
        kinds,
    })
}

/// Where it is tried.
struct Range {
    balancer: Process,
    workers: [Process; 2],
    seconds: String,
    count: String,
    next_address: Ipv4Addr,
}

impl Range {
    fn start(options: &Options) -> anyhow::Result<Self> {
        let program = program();
        // Whoever is attacked writes of it, and that costs something, too.
        let log = root().join(FOLDER).join("hostile.log");
        let balancer = Process::ours_with_log(&program, &["balancer", "--log"], &log)?;
        let at = balancer.address.to_string();
        let worker = |id| Process::ours(&program, &["worker", "--id", id, "--balancer", &at]);
        let workers = [worker("w1")?, worker("w2")?];
        let (seconds, count) = (options.seconds.to_string(), options.count.to_string());
        Ok(Self { balancer, workers, seconds, count, next_address: FIRST_ADDRESS })
    }

    fn round(&mut self, kind: &str) -> anyhow::Result<Round> {
        let before = self.picks()?.per_second;
        let files_before = self.files()?;
        let attack = self.attack(kind)?;
        let picks = self.picks();
        let (resident_kib, files) = (self.resident_kib()?, self.files()?);
        let cpu = self.cpu()?;
        sleep(ALONE);
        let cores = thread::available_parallelism()?.get() as f64;
        let cpu_share = self.cpu()?.saturating_sub(cpu).as_secs_f64() / ALONE.as_secs_f64() / cores;
        let attackers = attack.end()?;
        let ended = Instant::now();
        let gone_after_s = loop {
            if self.files()? <= files_before {
                break Some(ended.elapsed().as_secs_f64());
            }
            if ended.elapsed() > PATIENCE {
                break None;
            }
            sleep(GLANCE);
        };
        sleep(SETTLE);
        let (under, failed) = match picks {
            Ok(picks) => (picks.per_second, picks.failed),
            Err(error) => {
                say(&format!("{kind}: the honest client could not work: {error:#}"));
                (0.0, 1)
            }
        };
        let alone = [before, self.picks()?.per_second];
        Ok(Round {
            alone,
            under,
            failed,
            cpu_share,
            resident_kib,
            files,
            files_before,
            gone_after_s,
            attackers,
        })
    }

    /// The honest client, with connections of its own.
    fn picks(&self) -> anyhow::Result<Measured> {
        let workers = self.workers.len().to_string();
        let mut load =
            command(program(), &["load", "pick", "--depth", "64", "--workers", &workers]);
        load.args(["--seconds", &self.seconds, "--balancer", &self.balancer.address.to_string()]);
        let text = tools::output(load)?;
        serde_json::from_str(&text).with_context(|| format!("the load printed {text:?}"))
    }

    fn attack(&mut self, kind: &str) -> anyhow::Result<Attack> {
        let from = self.next_address;
        self.next_address = Ipv4Addr::from_bits(from.to_bits() + ADDRESSES);
        let mut attack = command("nice", &["--adjustment=19"]);
        attack.arg(program()).args(["hostile", kind]);
        attack.args(["--target", &self.balancer.address.to_string()]);
        attack.args(["--count", &self.count, "--from", &from.to_string()]);
        attack.args(["--addresses", &ADDRESSES.to_string()]);
        let mut child = attack.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("the standard output is a pipe")?;
        let mut lines = BufReader::new(output).lines();
        let first = lines.next().context("the attackers have ended")??;
        ensure!(first == "ready", "the attackers said {first:?}");
        Ok(Attack { child, lines })
    }

    /// CPU time of the balancer so far, by the kernel's own account.
    fn cpu(&self) -> anyhow::Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.balancer.id()))? {
            // A thread that has ended meanwhile has none.
            let account = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let time = account.split(' ').next().and_then(|time| time.parse().ok());
            nanoseconds += time.unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    fn files(&self) -> anyhow::Result<usize> {
        let path = format!("/proc/{}/fd", self.balancer.id());
        Ok(fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?.count())
    }

    fn resident_kib(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.balancer.id());
        let mut text = String::new();
        fs::File::open(&path)?.read_to_string(&mut text)?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        kib.with_context(|| format!("{path} has no VmRSS"))
    }
}

/// Attackers at work.
struct Attack {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Attack {
    /// Lets them all go at once.
    fn end(mut self) -> anyhow::Result<Attackers> {
        drop(self.child.stdin.take());
        let line = self.lines.next().context("the attackers have ended")??;
        self.child.wait()?;
        serde_json::from_str(&line).with_context(|| format!("the attackers said {line:?}"))
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
