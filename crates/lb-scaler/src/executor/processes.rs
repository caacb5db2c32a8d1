//! Instances as child processes, for the demo and for machines without systemd. They end with this daemon, however it ends.

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, ChildStdin, Command},
    sync::mpsc,
};

use lb_core::id::{HostId, LABEL_LIMIT, WorkerId};
use lb_runtime::tied::TIED_VARIABLE;

use super::{Executor, ExecutorError, Found, FoundState};

/// What the program is called, whatever file it is: one file may be several daemons.
const WORKER: &str = "lb-worker";
/// Ends waiting to be noticed.
const ENDS: usize = 64;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// Its arguments, to which `--id` is added.
    pub arguments: Vec<String>,
    /// Variables beside those of this process: where its workers belong, unless the arguments say otherwise.
    pub environment: Vec<(&'static str, String)>,
}

/// Child processes, one for each instance.
#[derive(Debug)]
pub(crate) struct Processes {
    program: Program,
    host: HostId,
    instances: BTreeMap<u32, Instance>,
    ended: mpsc::Sender<(u32, u32, Result<ExitStatus, String>)>,
    ends: mpsc::Receiver<(u32, u32, Result<ExitStatus, String>)>,
}

#[derive(Debug)]
struct Instance {
    process: u32,
    /// Its standard input: when it closes, the process ends.
    _leash: Option<ChildStdin>,
    state: FoundState,
}

impl Processes {
    /// Runs `program`; ids of workers begin with that of the host.
    pub(crate) fn new(program: Program, host: HostId) -> Self {
        let (ended, ends) = mpsc::channel(ENDS);
        Self { program, host, instances: BTreeMap::new(), ended, ends }
    }

    fn worker(&self, number: u32) -> Option<WorkerId> {
        let suffix = format!("-{number}");
        let host = self.host.as_str();
        let room = host.len().min(LABEL_LIMIT - suffix.len());
        format!("{}{suffix}", host[..room].trim_end_matches('-')).parse().ok()
    }

    fn spawn(&self, number: u32) -> std::io::Result<Child> {
        let id = self.worker(number).map(|id| id.to_string()).unwrap_or_default();
        let mut command = std::process::Command::new(&self.program.path);
        command.arg0(WORKER).args(&self.program.arguments).args(["--id", &id]);
        // Its own group: what a terminal sends is for this daemon, which then stops its children in order.
        command.process_group(0);
        command.env(TIED_VARIABLE, "1").stdin(Stdio::piped());
        // What this daemon was told is not for its children; nor is systemd's ear.
        for (name, _) in std::env::vars_os() {
            let own = name.to_str().is_some_and(|name| name.starts_with("LB_SCALER_"));
            if own || name == "NOTIFY_SOCKET" || name == "WATCHDOG_USEC" || name == "WATCHDOG_PID" {
                command.env_remove(name);
            }
        }
        command.envs(self.program.environment.iter().map(|(name, value)| (name, value)));
        Command::from(command).kill_on_drop(true).spawn()
    }

    fn take_ends(&mut self) {
        while let Ok(end) = self.ends.try_recv() {
            self.take_end(end);
        }
    }

    fn take_end(&mut self, (number, process, status): (u32, u32, Result<ExitStatus, String>)) {
        let Some(instance) = self.instances.get_mut(&number) else { return };
        if instance.process != process {
            return;
        }
        if instance.state == FoundState::Stopping {
            self.instances.remove(&number);
            return;
        }
        let cause = status.map_or_else(|error| error, |status| status.to_string());
        instance.state = FoundState::Dead { cause };
    }
}

impl Executor for Processes {
    async fn list(&mut self) -> Result<BTreeMap<u32, Found>, ExecutorError> {
        self.take_ends();
        let found = self.instances.iter().map(|(&number, instance)| {
            let (state, worker) = (instance.state.clone(), self.worker(number));
            (number, Found { state, worker, restarts: 0 })
        });
        Ok(found.collect())
    }

    async fn start(&mut self, number: u32) -> Result<(), ExecutorError> {
        let path = self.program.path.display();
        let mut child = self.spawn(number).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                ExecutorError::Hopeless(format!("cannot run {path}: {error}"))
            }
            _ => ExecutorError::Unavailable(format!("cannot run {path}: {error}")),
        })?;
        let (leash, process) = (child.stdin.take(), child.id().unwrap_or_default());
        let ended = self.ended.clone();
        tokio::spawn(async move {
            let status = child.wait().await.map_err(|error| error.to_string());
            // Nobody is left to be told when the daemon ends.
            drop(ended.send((number, process, status)).await);
        });
        let instance = Instance { process, _leash: leash, state: FoundState::Running };
        self.instances.insert(number, instance);
        Ok(())
    }

    async fn stop(&mut self, number: u32) -> Result<(), ExecutorError> {
        // The number of a process that has ended may be another's by now.
        self.take_ends();
        let Some(instance) = self.instances.get_mut(&number) else { return Ok(()) };
        match instance.state {
            FoundState::Stopping => return Ok(()),
            FoundState::Dead { .. } => {
                self.instances.remove(&number);
                return Ok(());
            }
            FoundState::Starting | FoundState::Running => instance.state = FoundState::Stopping,
        }
        let process = i32::try_from(instance.process).ok().and_then(Pid::from_raw);
        if let Some(process) = process {
            // One that has ended meanwhile is told about soon.
            let _ = kill_process(process, Signal::TERM);
        }
        Ok(())
    }

    async fn news(&mut self) {
        if let Some(end) = self.ends.recv().await {
            self.take_end(end);
        }
    }

    fn outlives(&self) -> bool {
        false
    }
}
