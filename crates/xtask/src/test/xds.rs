//! xDS with the gRPC libraries of other languages, as their registries have them, against real processes on the loopback.
//!
//! Three clients call without pause while workers come, drain and stop, while weights change as fast as they can, and while there is
//! no balancer. None of them knows anything of us but a bootstrap file, and no call may fail.

mod beside;
mod client;
mod fleet;
mod report;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use clap::Args;
use serde::Deserialize;

use crate::tools::{self, cargo, command, output, root, say};

use client::{Client, Count};
use fleet::Fleet;
use report::Report;

const FOLDER: &str = "crates/xtask/src/test/xds";

/// Slots of the first workers, in the ratio 6:3:1, and enough of them for all callers at once.
const SLOTS: [(&str, u32); 3] = [("six", 24), ("three", 12), ("one", 4)];
/// How far the part of a worker may be from what its weight says, in percentage points.
const POINTS: f64 = 3.0;
/// Calls of each client from which its parts are known well: three standard deviations are two points then.
const CALLS: u64 = 5_000;

/// How long clients may take to notice something; far above what they take.
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(100);

/// How soon a list follows, in milliseconds.
const AT_ONCE_MS: f64 = 50.0;
/// How often that is measured, and workers that are accused of failing for it, one after the other.
const TIMES: usize = 20;
const ACCUSED: [&str; 5] = ["frail-a", "frail-b", "frail-c", "frail-d", "frail-e"];

/// A client that begins a call this long after the order, in milliseconds, was not told, however busy the machine is.
const LATE_MS: f64 = 500.0;

/// How long a call to a service that nobody offers may take to fail, in milliseconds.
const UNKNOWN_MS: f64 = 1000.0;

/// How long there is no balancer, in seconds; `LB_XDS_OUTAGE` takes another time.
const OUTAGE: u64 = 10;

/// When a balancer answers for services that have no workers.
const COMPLETE: Duration = Duration::from_secs(10);

/// Workers whose weights are rewritten, how often, and in how many seconds.
const MANY: usize = 40;
const REWRITES: (u32, u32) = (100, 5);

/// What to do with the figures.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Keep the result: docs/results/xds.json, and the table in docs/any-language.md
    #[arg(long)]
    save: bool,
}

/// The committed table must be that of the committed result.
///
/// # Errors
/// When they differ.
pub(crate) fn check_page() -> anyhow::Result<()> {
    report::check_page()
}

/// Runs the tier.
///
/// # Errors
/// What did not hold, and with which client.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    tools::need(&[("node", "nodejs"), ("npm", "npm"), ("setpriv", "util-linux")])?;
    // As for the tier `code`, which then has built them already: with integration tests come the programs that they start.
    let mut build = cargo(&["test", "--workspace", "--locked", "--no-run"]);
    build.args(super::KINDS);
    tools::run(build)?;
    let programs = programs()?;
    let mut fleet = Fleet::start("weighted_round_robin")?;
    let started = Instant::now();
    for (id, slots) in SLOTS {
        fleet.add(id, slots)?;
    }
    fleet.until_serving(SLOTS.len())?;
    let bootstrap = fleet.bootstrap()?;
    let clients =
        programs.into_iter().map(|(name, program)| Client::start(name, program, &bootstrap));
    let mut clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
    let report = Report::new(versions()?)?;
    let mut all = Drill { fleet, clients: &mut clients, report };
    beside::strict()?;
    beside::attach(&mut all.fleet, &bootstrap)?;
    sleep(COMPLETE.saturating_sub(started.elapsed()));
    all.unknown()?;
    all.lists()?;
    all.weights()?;
    // Not before: their calls are of another length, and from a few of them a worker's speed can only be misjudged.
    examples(&bootstrap)?;
    all.changes()?;
    all.rewrites()?;
    all.outage()?;
    if options.save { all.report.save() } else { Ok(()) }
}

/// Of the libraries that the clients use.
fn versions() -> anyhow::Result<BTreeMap<String, String>> {
    let of_python = |python| {
        output(command(python, &["-c", "import grpc; print(grpc.__version__)"]))
            .map(|version| version.trim().to_owned())
    };
    let mut of_node = node("-p")?;
    of_node.arg("require('@grpc/grpc-js/package.json').version");
    Ok(BTreeMap::from([
        (
            "grpcio".to_owned(),
            format!("{} and {}", of_python(new_python()?)?, of_python(old_python()?)?),
        ),
        ("grpc-js".to_owned(), output(of_node)?.trim().to_owned()),
    ]))
}

/// The clients, by name.
fn programs() -> anyhow::Result<Vec<(&'static str, Command)>> {
    let old = old_python()?;
    let python = |python| command(python, &[&format!("{FOLDER}/client.py")]);
    Ok(vec![
        ("grpcio", python(new_python()?)),
        ("grpcio of Debian 12", python(old)),
        ("grpc-js", node(&format!("{FOLDER}/client.js"))?),
    ])
}

/// What docs/any-language.md shows.
fn examples(bootstrap: &Path) -> anyhow::Result<()> {
    let python = command(new_python()?, &["examples/python/compute.py"]);
    for mut example in [python, node("examples/node/compute.js")?] {
        example.env("GRPC_XDS_BOOTSTRAP", bootstrap);
        let told = output(example)?;
        ensure!(
            told.lines().count() == SLOTS.len(),
            "an example does not reach all workers: {told}"
        );
    }
    Ok(())
}

fn new_python() -> anyhow::Result<PathBuf> {
    tools::python("target/test-grpc-new", "examples/python/requirements.txt", "grpc_tools")
}

fn old_python() -> anyhow::Result<PathBuf> {
    tools::python("target/test-grpc-old", &format!("{FOLDER}/python-old.txt"), "grpc")
}

/// A script for node, with the packages of the example.
fn node(script: &str) -> anyhow::Result<Command> {
    let folder = root().join("target/test-node");
    fs::create_dir_all(&folder)?;
    let (wanted, installed) =
        (root().join("examples/node/package.json"), folder.join("package.json"));
    let modules = folder.join("node_modules");
    let is_current = fs::read(&installed).ok() == fs::read(&wanted).ok();
    if !is_current || !modules.is_dir() {
        fs::copy(wanted, installed)?;
        let mut install = command("npm", &["install", "--no-audit", "--no-fund", "--silent"]);
        install.current_dir(&folder);
        tools::run(install)?;
    }
    let mut node = command("node", &[script]);
    node.env("NODE_PATH", modules);
    Ok(node)
}

struct Drill<'a> {
    fleet: Fleet,
    clients: &'a mut [Client],
    report: Report,
}

/// What `lists.py` says, in seconds.
#[derive(Deserialize)]
struct Lists {
    drained: Vec<f64>,
    back: Vec<f64>,
    accused: Vec<f64>,
}

impl Drill<'_> {
    /// Workers get calls by their weights.
    fn weights(&mut self) -> anyhow::Result<()> {
        self.clients.iter_mut().try_for_each(Client::go)?;
        self.until("all workers", |count| {
            SLOTS.iter().all(|(id, _)| count.answered.contains_key(*id))
        })?;
        let mut sums: Vec<Count> = self.clients.iter().map(|_| Count::default()).collect();
        let begun = Instant::now();
        while sums.iter().any(|sum| sum.calls() < CALLS) {
            ensure!(begun.elapsed() < 10 * PATIENCE, "the clients are too slow: {sums:?}");
            sleep(GLANCE);
            for (client, sum) in self.clients.iter_mut().zip(&mut sums) {
                sum.add(client.sound()?);
            }
        }
        let slots: u32 = SLOTS.iter().map(|(_, slots)| slots).sum();
        for (client, sum) in self.clients.iter().zip(&sums) {
            let parts = SLOTS.map(|(id, _)| format!("{id} {:.1} %", sum.part(id) * 100.0));
            say(&format!("{}: {} of {} calls", client.name, parts.join(", "), sum.calls()));
            let mut farthest = 0.0_f64;
            for (id, own) in SLOTS {
                let (part, wanted) = (sum.part(id), f64::from(own) / f64::from(slots));
                farthest = farthest.max((part - wanted).abs() * 100.0);
            }
            let what = format!("{}: farthest of three workers from its weight", client.name);
            self.report.take(what, "points", Some(POINTS), vec![farthest])?;
        }
        Ok(())
    }

    /// Workers come, are drained and come back, and stop.
    fn changes(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.fleet.add("new", 12)?;
        self.until("the new worker", |count| count.answered.contains_key("new"))?;
        say(&format!(
            "a new worker: called by all {:.1} s after its start",
            begun.elapsed().as_secs_f64()
        ));
        let address = self.fleet.address();
        let [first, ..] = self.clients else { bail!("no client") };
        let asked = first.drain(address, "three")?;
        sleep(Duration::from_secs(1));
        for client in self.clients.iter_mut() {
            let late = client.sound()?.begun.get("three").map_or(0.0, |begun| begun - asked);
            let what = format!("{}: last call begun after the order to drain", client.name);
            self.report.take(what, "ms", Some(LATE_MS), vec![late.max(0.0) * 1e3])?;
        }
        self.fleet.undrain("three")?;
        self.until("the drained worker", |count| count.answered.contains_key("three"))?;
        self.fleet.stop("new")?;
        sleep(Duration::from_secs(1));
        self.until("who is left", |count| !count.answered.contains_key("new") && count.calls() > 0)
    }

    /// A service that nobody offers. Before the load: a busy client would be measured, not the answer.
    fn unknown(&mut self) -> anyhow::Result<()> {
        for client in self.clients.iter_mut() {
            let (seconds, how) = client.unknown("no.Such")?;
            ensure!(how == "UNAVAILABLE", "{}: {how}", client.name);
            let what = format!("{}: an unknown service fails", client.name);
            self.report.take(what, "ms", Some(UNKNOWN_MS), vec![seconds * 1e3])?;
        }
        Ok(())
    }

    /// How soon lists follow an order, and a count of failures. Also before the load: nobody may speak for the accused.
    fn lists(&mut self) -> anyhow::Result<()> {
        for worker in ACCUSED {
            self.fleet.add(worker, 4)?;
        }
        self.fleet.until_serving(SLOTS.len() + ACCUSED.len())?;
        let times = TIMES.to_string();
        let mut lists = command(new_python()?, &[&format!("{FOLDER}/lists.py")]);
        lists.args([self.fleet.address(), "lb.v1.Compute", times.as_str(), "three"]).args(ACCUSED);
        let Lists { drained, back, accused } = serde_json::from_str(&output(lists)?)?;
        let ms = |seconds: Vec<f64>| seconds.into_iter().map(|one| one * 1e3).collect();
        let limit = Some(AT_ONCE_MS);
        self.report.take("from the order to drain to the list", "ms", limit, ms(drained))?;
        self.report.take("from the order to take back to the list", "ms", limit, ms(back))?;
        self.report.take("from the failures to the list (ejection)", "ms", limit, ms(accused))?;
        ACCUSED.iter().try_for_each(|worker| self.fleet.stop(worker))
    }

    /// All weights of many workers, again and again.
    fn rewrites(&mut self) -> anyhow::Result<()> {
        for number in SLOTS.len()..MANY {
            self.fleet.add(&format!("many{number}"), 1 + u32::try_from(number % 8)?)?;
        }
        self.fleet.until_serving(MANY)?;
        self.until("many workers", |count| count.answered.len() > MANY / 2)?;
        let (times, seconds) = REWRITES;
        let address = self.fleet.address();
        let [first, ..] = self.clients else { bail!("no client") };
        let taken =
            first.policies(times, seconds, address, ["round_robin", "weighted_round_robin"])?;
        let mut calls = 0;
        for client in self.clients.iter_mut() {
            calls += client.sound()?.calls();
        }
        say(&format!("{times} times in {taken:.1} s: {calls} calls"));
        // A failed one would have ended the drill.
        let what = format!(
            "failed calls while {MANY} weights are rewritten {times} times in {seconds} s, of {calls}"
        );
        self.report.take(what, "", Some(0.0), vec![0.0])
    }

    /// No balancer for a while, then another one at the same place.
    fn outage(&mut self) -> anyhow::Result<()> {
        let seconds = env::var("LB_XDS_OUTAGE").ok().map_or(Ok(OUTAGE), |text| text.parse())?;
        self.fleet.kill_balancer()?;
        sleep(Duration::from_secs(seconds));
        let mut calls = 0;
        for client in self.clients.iter_mut() {
            calls += client.sound()?.calls();
        }
        ensure!(calls > 0, "without a balancer nobody calls");
        self.fleet.start_balancer()?;
        let begun = Instant::now();
        self.fleet.until_serving(MANY)?;
        self.fleet.add("late", 24)?;
        self.until("the balancer", |count| count.answered.contains_key("late"))?;
        let what = format!("failed calls while there is no balancer for {seconds} s, of {calls}");
        self.report.take(what, "", Some(0.0), vec![0.0])?;
        let after = begun.elapsed().as_secs_f64();
        self.report.take("from its start until all clients follow it again", "s", None, vec![after])
    }

    /// Waits until all clients have noticed something. No call fails meanwhile.
    fn until(&mut self, what: &str, noticed: impl Fn(&Count) -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        for client in self.clients.iter_mut() {
            while !noticed(&client.sound()?) {
                ensure!(begun.elapsed() < PATIENCE, "{} does not notice {what}", client.name);
                sleep(GLANCE);
            }
        }
        Ok(())
    }
}
