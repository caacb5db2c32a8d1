//! A balancer and its workers: real processes on the loopback, in a cluster of their own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::tools::{command, output, root, run};

const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(50);

/// Calls that may wait at a worker: none is turned away here.
const QUEUE: &str = "10000";

#[derive(Deserialize)]
struct Listed {
    workers: Vec<Worker>,
}

#[derive(Deserialize)]
struct Worker {
    state: String,
}

pub(super) struct Fleet {
    address: String,
    cluster: String,
    policy: &'static str,
    folder: PathBuf,
    balancer: Option<Child>,
    workers: BTreeMap<String, Child>,
}

impl Fleet {
    /// With a balancer and nobody else.
    pub(super) fn start(policy: &'static str) -> anyhow::Result<Self> {
        // Free now, and nobody else asks for it by number.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let cluster = format!("xds-{}", process::id());
        let folder = root().join("target/xds");
        fs::create_dir_all(&folder)?;
        let (balancer, workers) = (None, BTreeMap::new());
        let mut fleet = Self { address, cluster, policy, folder, balancer, workers };
        fleet.start_balancer()?;
        Ok(fleet)
    }

    pub(super) fn start_balancer(&mut self) -> anyhow::Result<()> {
        let flags = ["--listen", &self.address, "--policy", self.policy];
        let mut balancer = self.spawn("lb-server", "balancer", &flags)?;
        let begun = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            ensure!(
                balancer.try_wait()?.is_none(),
                "the balancer ended, see {}",
                self.folder.display()
            );
            ensure!(begun.elapsed() < PATIENCE, "the balancer does not listen");
            sleep(GLANCE);
        }
        self.balancer = Some(balancer);
        Ok(())
    }

    /// As a power cut would.
    pub(super) fn kill_balancer(&mut self) -> anyhow::Result<()> {
        let mut balancer = self.balancer.take().context("there is no balancer")?;
        balancer.kill()?;
        balancer.wait()?;
        Ok(())
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Starts a worker, and does not wait for it.
    pub(super) fn add(&mut self, id: &str, slots: u32) -> anyhow::Result<()> {
        let slots = slots.to_string();
        let (address, listen) = (self.address.clone(), "127.0.0.1:0");
        let flags =
            ["--listen", listen, "--lb", &address, "--id", id, "--slots", &slots, "--queue", QUEUE];
        let worker = self.spawn("lb-worker", id, &flags)?;
        self.workers.insert(id.to_owned(), worker);
        Ok(())
    }

    /// Starts a worker that stands beside a service called as itself, and does not wait for it.
    pub(super) fn attach(&mut self, id: &str, service: &str) -> anyhow::Result<()> {
        let address = self.address.clone();
        let flags =
            ["--attach", service, "--service", id, "--lb", &address, "--id", id, "--slots", "8"];
        let worker = self.spawn("lb-worker", id, &flags)?;
        self.workers.insert(id.to_owned(), worker);
        Ok(())
    }

    /// Tells a worker to stop, as systemd would, and waits until it has.
    pub(super) fn stop(&mut self, id: &str) -> anyhow::Result<()> {
        let mut worker = self.workers.remove(id).with_context(|| format!("{id} does not run"))?;
        run(command("kill", &[&worker.id().to_string()]))?;
        let status = worker.wait()?;
        ensure!(status.success(), "{id} ended with {status}");
        Ok(())
    }

    /// Waits until so many workers take calls.
    pub(super) fn until_serving(&self, wanted: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let serving = self.serving()?;
            if serving >= wanted {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "{serving} of {wanted} workers serve");
            sleep(GLANCE);
        }
    }

    /// How many workers take calls.
    pub(super) fn serving(&self) -> anyhow::Result<usize> {
        let listed: Listed =
            serde_json::from_str(&output(self.lbctl(&["workers", "--output", "json"]))?)?;
        Ok(listed.workers.iter().filter(|worker| worker.state == "serving").count())
    }

    /// Takes a drained worker back.
    pub(super) fn undrain(&self, worker: &str) -> anyhow::Result<()> {
        output(self.lbctl(&["undrain", worker])).map(drop)
    }

    /// The bootstrap file, made from what DNS-SD says.
    pub(super) fn bootstrap(&self) -> anyhow::Result<PathBuf> {
        let file = self.folder.join("bootstrap.json");
        let mut lbctl = command(program("lbctl"), &["--local", "--cluster", &self.cluster]);
        lbctl.args(["--tls", "open", "xds-bootstrap", "--out"]).arg(&file);
        run(lbctl)?;
        let text = fs::read_to_string(&file)?;
        ensure!(text.contains(&self.address), "{} is not in the bootstrap: {text}", self.address);
        Ok(file)
    }

    fn lbctl(&self, arguments: &[&str]) -> Command {
        let mut lbctl = command(program("lbctl"), &["--lb", &self.address, "--tls", "open"]);
        lbctl.args(arguments);
        lbctl
    }

    fn spawn(&self, daemon: &str, name: &str, flags: &[&str]) -> anyhow::Result<Child> {
        let log = File::create(self.folder.join(format!("{name}.log")))?;
        let mut tied = tied(daemon, &self.cluster, "open");
        tied.args(flags).stderr(log);
        tied.spawn().with_context(|| format!("cannot start {daemon}"))
    }
}

/// A daemon on the loopback. If this process ends first, the kernel ends that one.
pub(super) fn tied(daemon: &str, cluster: &str, mode: &str) -> Command {
    let mut tied = command("setpriv", &["--pdeathsig", "TERM", "--"]);
    tied.arg(program(daemon)).args(["--local", "--tls", mode, "--cluster", cluster]);
    tied.stdin(Stdio::null()).stdout(Stdio::null());
    tied
}

pub(super) fn program(name: &str) -> PathBuf {
    Path::new(&root()).join("target/debug").join(name)
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for process in self.workers.values_mut().chain(&mut self.balancer) {
            drop(process.kill());
            drop(process.wait());
        }
    }
}
