//! A cluster of real processes on this machine: one balancer and some workers, on the loopback, in a
//! cluster of their own name, so that several fleets and a real cluster do not see each other.
//!
//! The processes find one another by DNS-SD and end with this one.

use std::{
    fs::File, io::Read as _, os::unix::process::CommandExt as _, path::PathBuf, process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::{
    process::{Child, ChildStdin, Command},
    time::timeout,
};
use tonic::{Streaming, transport::Channel};

use lb_client::{Scope, Search};
use lb_proto::v1::{
    Event, ListWorkersRequest, WatchEventsRequest, WorkerInfo, admin_client::AdminClient,
};
use lb_runtime::tied::TIED_VARIABLE;

use crate::embedded::Daemon;

/// How long the processes may take to find one another. It takes one to two seconds; a busy machine may need more.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a process may take to stop in order, before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How much of a dead process's log an error repeats, in bytes.
const LOG_TAIL: usize = 600;

/// A worker to start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WorkerPlan {
    pub(crate) id: String,
    pub(crate) slots: u32,
    /// Calls that may wait beyond the slots.
    pub(crate) queue: u32,
    /// How many times as long its tasks take.
    pub(crate) slowdown: f64,
}

/// Memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub(crate) struct Memory {
    /// All that stands in memory, its program included.
    pub(crate) resident_bytes: u64,
    /// Of that, what the program has written: heap and stacks.
    pub(crate) anonymous_bytes: u64,
}

/// The running processes.
#[derive(Debug)]
pub(crate) struct Fleet {
    search: Search,
    members: Vec<Member>,
    logs: PathBuf,
}

#[derive(Debug)]
struct Member {
    name: String,
    process: Child,
    /// Its standard input; see `embedded`. Held here since waiting for a process closes what it holds itself.
    leash: Option<ChildStdin>,
    /// It was told to stop, and drains.
    leaving: bool,
    log: PathBuf,
}

impl Fleet {
    /// Starts a balancer and workers, and waits until all workers take calls.
    ///
    /// # Errors
    /// When a process cannot be started, or dies, or they do not find one another in time; with what it last said.
    pub(crate) async fn start(workers: &[WorkerPlan]) -> anyhow::Result<Self> {
        let mut fleet = Self::new()?;
        fleet.spawn(Daemon::Server, "lb-server", &["--listen", ":0"], &[])?;
        for worker in workers {
            fleet.add(worker)?;
        }
        fleet.until_serving(workers).await?;
        Ok(fleet)
    }

    /// Starts a balancer with these variables and a scaler with these flags, and waits until a worker takes calls.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub(crate) async fn start_scaled(
        variables: &[(&str, &str)],
        flags: &[String],
    ) -> anyhow::Result<Self> {
        let mut fleet = Self::new()?;
        fleet.spawn(Daemon::Server, "lb-server", &["--listen", ":0"], variables)?;
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        fleet.spawn(Daemon::Scaler, "lb-scaler", &flags, &[])?;
        let serves = |worker: &WorkerInfo| worker.state == "serving";
        fleet.until("register", |listed| listed.iter().any(serves)).await?;
        Ok(fleet)
    }

    /// Nobody yet.
    fn new() -> anyhow::Result<Self> {
        let tag = fastrand::u64(..);
        let logs = std::env::temp_dir().join(format!("lbctl-{tag:016x}"));
        std::fs::create_dir(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let search = Search {
            cluster: format!("fleet-{tag:016x}"),
            scope: Scope::Loopback,
            wait: START_LIMIT,
            ..Search::default()
        };
        Ok(Self { search, members: Vec::new(), logs })
    }

    /// Starts a worker, and does not wait for it.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub(crate) fn add(&mut self, worker: &WorkerPlan) -> anyhow::Result<()> {
        let WorkerPlan { id, slots, queue, slowdown } = worker;
        let [slots, queue] = [slots, queue].map(ToString::to_string);
        let slowdown = slowdown.to_string();
        let flags = ["--slots", &slots, "--queue", &queue, "--slowdown", &slowdown];
        let flags = [&["--listen", ":0", "--id", id], &flags[..]].concat();
        self.spawn(Daemon::Worker, id, &flags, &[])
    }

    /// Kills a worker as a power cut would, and waits for its end.
    ///
    /// # Errors
    /// When there is no such process, or it cannot be killed.
    pub(crate) async fn kill(&mut self, worker_id: &str) -> anyhow::Result<()> {
        let mut member = self.take(worker_id)?;
        member.process.kill().await.with_context(|| format!("cannot kill {worker_id}"))
    }

    /// Tells a worker to stop, as `systemctl stop` would: it drains. Does not wait for it.
    ///
    /// # Errors
    /// When there is no such process.
    pub(crate) fn tell_to_stop(&mut self, worker_id: &str) -> anyhow::Result<()> {
        let member = self.members.iter_mut().find(|member| member.name == worker_id);
        let member = member.with_context(|| format!("{worker_id} is not running"))?;
        let id = member.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let id = id.with_context(|| format!("{worker_id} is not running"))?;
        member.leaving = true;
        kill_process(id, Signal::TERM).with_context(|| format!("cannot stop {worker_id}"))
    }

    /// Makes the fleet as it was planned: stops who is not of it, starts who is missing, and waits until all
    /// serve.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub(crate) async fn restore(&mut self, workers: &[WorkerPlan]) -> anyhow::Result<()> {
        let planned = |name: &str| workers.iter().any(|worker| worker.id == name);
        for place in (1..self.members.len()).rev() {
            let member = &mut self.members[place];
            let ended = member.process.try_wait()?.is_some();
            if ended || member.leaving || !planned(&member.name) {
                self.members.remove(place).stop().await;
            }
        }
        let running: Vec<String> = self.members.iter().map(|member| member.name.clone()).collect();
        // An id is free again when the balancer has seen its last owner leave.
        self.until("forget who left", |listed| {
            listed.iter().all(|worker| running.contains(&worker.worker_id))
        })
        .await?;
        for worker in workers.iter().filter(|worker| !running.contains(&worker.id)) {
            self.add(worker)?;
        }
        self.until_serving(workers).await
    }

    fn take(&mut self, worker_id: &str) -> anyhow::Result<Member> {
        let place = self.members.iter().position(|member| member.name == worker_id);
        let place = place.with_context(|| format!("{worker_id} is not running"))?;
        Ok(self.members.remove(place))
    }

    async fn until_serving(&mut self, workers: &[WorkerPlan]) -> anyhow::Result<()> {
        self.until("register", |listed| {
            let serving = |id: &str| {
                listed.iter().any(|worker| worker.worker_id == id && worker.state == "serving")
            };
            workers.iter().all(|worker| serving(&worker.id))
        })
        .await
    }

    /// Waits until the balancer's list of workers is as wanted.
    async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&[WorkerInfo]) -> bool,
    ) -> anyhow::Result<()> {
        match timeout(START_LIMIT, self.listed(wanted)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                bail!("the workers did not {what} within {START_LIMIT:?}{}", self.last_words())
            }
        }
    }

    fn spawn(
        &mut self,
        daemon: Daemon,
        name: &str,
        flags: &[&str],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("cannot find the path of this program")?;
        let log = self.logs.join(format!("{name}.log"));
        let file =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = std::process::Command::new(program);
        // Whatever keys this machine has, a fleet is for measuring and lives on the loopback.
        command.arg0(daemon.name()).args(["--local", "--log", "info", "--tls", "open"]);
        command.args(["--cluster", &self.search.cluster]).args(flags);
        // Its own group: a Ctrl-C in the terminal is for lbctl, which then stops the fleet in order.
        command.process_group(0);
        // One address plays all the machines.
        command.env("LB_SERVER_LIMITS__PER_PEER", "100000");
        command.envs(variables.iter().copied());
        command.env(TIED_VARIABLE, "1").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file);
        let process = Command::from(command).kill_on_drop(true).spawn();
        let mut process = process.with_context(|| format!("cannot start {name}"))?;
        let leash = process.stdin.take();
        self.members.push(Member { name: name.to_owned(), process, leash, leaving: false, log });
        Ok(())
    }

    /// Where to find the fleet's balancer.
    pub(crate) fn search(&self) -> &Search {
        &self.search
    }

    /// A connection to the fleet's balancer.
    pub(crate) async fn balancer(&self) -> anyhow::Result<Channel> {
        Ok(lb_client::connect_balancer(&self.search).await?.channel)
    }

    /// Where the fleet's balancer listens, "ip:port".
    pub(crate) async fn balancer_address(&self) -> anyhow::Result<String> {
        let mut found = self.search.start()?;
        let balancers = found.first(&self.search).await?;
        let address = balancers.iter().find_map(|balancer| balancer.addresses.first());
        Ok(address.context("the balancer announces no address")?.clone())
    }

    /// CPU time that the balancer's process has used so far, by the kernel's account.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn balancer_cpu(&self) -> anyhow::Result<Duration> {
        let process = self.balancer_process()?;
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
            // A thread may end between the listing and the reading; its time is then missing, which is little.
            let account =
                std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds +=
                account.split(' ').next().and_then(|time| time.parse().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Memory that the balancer's process holds now, by the kernel's account.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn balancer_memory(&self) -> anyhow::Result<Memory> {
        let path = format!("/proc/{}/status", self.balancer_process()?);
        let status =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let bytes = |field| {
            let kibibytes = status.lines().find_map(|line| kibibytes(line, field));
            kibibytes.map(|count| count * 1024).with_context(|| format!("{path} has no {field}"))
        };
        Ok(Memory { resident_bytes: bytes("VmRSS:")?, anonymous_bytes: bytes("RssAnon:")? })
    }

    fn balancer_process(&self) -> anyhow::Result<u32> {
        self.members[0].process.id().context("lb-server has ended")
    }

    async fn listed(&mut self, wanted: impl Fn(&[WorkerInfo]) -> bool) -> anyhow::Result<()> {
        let mut admin = AdminClient::new(self.balancer().await?);
        // Events first, then the list: what happens in between is in one of the two.
        let mut events = admin.watch_events(WatchEventsRequest {}).await?.into_inner();
        while !wanted(&list(&mut admin).await?) {
            self.next_event(&mut events).await?;
        }
        Ok(())
    }

    /// The next event of the balancer, or the news that a process has died.
    async fn next_event(&mut self, events: &mut Streaming<Event>) -> anyhow::Result<Event> {
        tokio::select! {
            event = events.message() => event?.context("the balancer ended the stream of events"),
            death = self.death() => bail!("{death}{}", self.last_words()),
        }
    }

    /// Waits for the first process to end, and says which and how.
    async fn death(&mut self) -> String {
        let ends = self
            .members
            .iter_mut()
            .map(|member| Box::pin(async { (member.name.clone(), member.process.wait().await) }));
        match futures_util::future::select_all(ends).await.0 {
            (name, Ok(status)) => format!("{name} ended: {status}"),
            (name, Err(error)) => format!("{name} cannot be waited for: {error}"),
        }
    }

    /// The end of each log, for an error message.
    fn last_words(&self) -> String {
        let words = self.members.iter().map(|member| {
            let mut text = String::new();
            // A log that cannot be read has nothing to add.
            drop(File::open(&member.log).and_then(|mut file| file.read_to_string(&mut text)));
            let start = text.len().saturating_sub(LOG_TAIL);
            let start = (start..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            format!("\n--- {} said:\n{}", member.name, &text[start..])
        });
        words.collect()
    }

    /// Stops workers first, then the balancer, each in order.
    pub(crate) async fn stop(mut self) {
        while let Some(member) = self.members.pop() {
            member.stop().await;
        }
    }
}

impl Member {
    async fn stop(mut self) {
        // The end of standard input is the order to end.
        drop(self.leash.take());
        if timeout(STOP_LIMIT, self.process.wait()).await.is_err() {
            drop(self.process.kill().await);
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Logs are for errors, which have been told by now.
        drop(std::fs::remove_dir_all(&self.logs));
    }
}

/// The value of a line of `/proc/PID/status`, if it is the one of this field.
fn kibibytes(line: &str, field: &str) -> Option<u64> {
    line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// All workers of a balancer.
pub(crate) async fn list(
    admin: &mut AdminClient<Channel>,
) -> Result<Vec<WorkerInfo>, tonic::Status> {
    Ok(admin.list_workers(ListWorkersRequest {}).await?.into_inner().workers)
}

/// How long workers may take to finish what nobody waits for any more.
const QUIET_LIMIT: Duration = Duration::from_secs(5);

/// Between two looks whether they have: workers report changes at most this often.
const QUIET_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until no worker has a call, by the balancer's estimate, so that the next measurement does not begin in the
/// last one's wake. Other users' calls may go on for ever; after five seconds it ends all the same.
pub(crate) async fn until_quiet(admin: &mut AdminClient<Channel>) -> Result<(), tonic::Status> {
    let until = tokio::time::Instant::now() + QUIET_LIMIT;
    while tokio::time::Instant::now() < until {
        if list(admin).await?.iter().all(|worker| worker.estimate == 0) {
            break;
        }
        tokio::time::sleep(QUIET_INTERVAL).await;
    }
    Ok(())
}
