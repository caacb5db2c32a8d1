//! A cluster of real processes on this machine: one balancer and some workers, on the loopback, in a
//! cluster of their own name, so that several fleets and a real cluster do not see each other.
//!
//! The processes find one another by DNS-SD and end with this one.

use std::{
    collections::BTreeSet, fs::File, io::Read as _, os::unix::process::CommandExt as _,
    path::PathBuf, process::Stdio, time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    process::{Child, ChildStdin, Command},
    time::timeout,
};
use tonic::{Streaming, transport::Channel};

use lb_client::{Scope, Search};
use lb_proto::v1::{
    Event, ListWorkersRequest, WatchEventsRequest, WorkerInfo, admin_client::AdminClient,
};

use crate::embedded::{Daemon, TIED_VARIABLE};

/// How long the processes may take to find one another. It takes one to two seconds; a busy machine may need more.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a process may take to stop in order, before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How much of a dead process's log an error repeats, in bytes.
const LOG_TAIL: usize = 600;

/// A worker to start.
#[derive(Debug, Clone)]
pub(crate) struct WorkerPlan {
    pub(crate) id: String,
    pub(crate) slots: u32,
    /// Calls that may wait beyond the slots.
    pub(crate) queue: u32,
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
    log: PathBuf,
}

impl Fleet {
    /// Starts a balancer and workers, and waits until all workers take calls.
    ///
    /// # Errors
    /// When a process cannot be started, or dies, or they do not find one another in time; with what it last said.
    pub(crate) async fn start(workers: &[WorkerPlan]) -> anyhow::Result<Self> {
        let tag = fastrand::u64(..);
        let logs = std::env::temp_dir().join(format!("lbctl-{tag:016x}"));
        std::fs::create_dir(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let search = Search {
            cluster: format!("fleet-{tag:016x}"),
            scope: Scope::Loopback,
            wait: START_LIMIT,
            ..Search::default()
        };
        let mut fleet = Self { search, members: Vec::new(), logs };
        fleet.spawn(Daemon::Server, "lb-server", &[])?;
        for worker in workers {
            let (slots, queue) = (worker.slots.to_string(), worker.queue.to_string());
            fleet.spawn(
                Daemon::Worker,
                &worker.id,
                &["--id", &worker.id, "--slots", &slots, "--queue", &queue],
            )?;
        }
        let started = timeout(START_LIMIT, fleet.all_serving(workers)).await;
        match started {
            Ok(outcome) => outcome?,
            Err(_elapsed) => {
                bail!("the workers did not register within {START_LIMIT:?}{}", fleet.last_words())
            }
        }
        Ok(fleet)
    }

    fn spawn(&mut self, daemon: Daemon, name: &str, flags: &[&str]) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("cannot find the path of this program")?;
        let log = self.logs.join(format!("{name}.log"));
        let file =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = std::process::Command::new(program);
        command.arg0(daemon.name()).args(["--local", "--listen", ":0", "--log", "info"]);
        command.args(["--cluster", &self.search.cluster]).args(flags);
        // Its own group: a Ctrl-C in the terminal is for lbctl, which then stops the fleet in order.
        command.process_group(0);
        command.env(TIED_VARIABLE, "1").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file);
        let process = Command::from(command).kill_on_drop(true).spawn();
        let mut process = process.with_context(|| format!("cannot start {name}"))?;
        let leash = process.stdin.take();
        self.members.push(Member { name: name.to_owned(), process, leash, log });
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

    /// CPU time that the balancer's process has used so far, by the kernel's account.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn balancer_cpu(&self) -> anyhow::Result<Duration> {
        let process = self.members[0].process.id().context("lb-server has ended")?;
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

    async fn all_serving(&mut self, workers: &[WorkerPlan]) -> anyhow::Result<()> {
        let mut admin = AdminClient::new(self.balancer().await?);
        let mut missing: BTreeSet<&str> = workers.iter().map(|worker| worker.id.as_str()).collect();
        // Events first, then the list: whoever comes in between is in one of the two.
        let mut events = admin.watch_events(WatchEventsRequest {}).await?.into_inner();
        for worker in admin.list_workers(ListWorkersRequest {}).await?.into_inner().workers {
            if worker.state == "serving" {
                missing.remove(worker.worker_id.as_str());
            }
        }
        while !missing.is_empty() {
            let event = self.next_event(&mut events).await?;
            if event.kind == "worker_serving" {
                missing.remove(event.worker_id.as_str());
            }
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
        while let Some(mut member) = self.members.pop() {
            // The end of standard input is the order to end.
            drop(member.leash.take());
            if timeout(STOP_LIMIT, member.process.wait()).await.is_err() {
                drop(member.process.kill().await);
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Logs are for errors, which have been told by now.
        drop(std::fs::remove_dir_all(&self.logs));
    }
}

/// All workers of a balancer.
pub(crate) async fn list(
    admin: &mut AdminClient<Channel>,
) -> Result<Vec<WorkerInfo>, tonic::Status> {
    Ok(admin.list_workers(ListWorkersRequest {}).await?.into_inner().workers)
}
