//! Daemons as processes, and `lbctl` run against them.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::Value;

/// How long something that happens within two seconds may take before the test gives up: machines can be slow.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const LBCTL: &str = env!("CARGO_BIN_EXE_lbctl");

/// A process that plays a daemon; killed when the test ends.
pub(crate) struct Daemon {
    process: Child,
    log: Receiver<String>,
    /// Lines that nobody has waited for yet.
    said: Vec<String>,
}

impl Daemon {
    pub(crate) fn spawn(name: &str, arguments: &[&str]) -> Self {
        let mut process = command(LBCTL)
            .arg0(name)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = process.stderr.take().unwrap();
        let (sender, log) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, log, said: Vec::new() }
    }

    /// Waits until the daemon has logged a line with all of these words, and returns it. Lines come in any order: each
    /// is found once, also if it came before it was waited for.
    pub(crate) fn until(&mut self, words: &[&str]) -> String {
        let wanted = |line: &String| words.iter().all(|word| line.contains(word));
        loop {
            if let Some(place) = self.said.iter().position(wanted) {
                return self.said.remove(place);
            }
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => self.said.push(line),
                Err(error) => {
                    panic!("{words:?} was not logged ({error}); but:\n{}", self.said.join("\n"))
                }
            }
        }
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.process, name);
    }

    /// Number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it has logged a line with all of these words by now.
    pub(crate) fn has_said(&mut self, words: &[&str]) -> bool {
        self.said.extend(self.log.try_iter());
        self.said.iter().any(|line| words.iter().all(|word| line.contains(word)))
    }

    /// Waits for the end of the process and returns its exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }

    /// Everything it logs until it ends.
    pub(crate) fn last_words(&mut self) -> String {
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            self.said.push(line);
        }
        self.said.join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    // Nothing of the developer's own settings.
    for variable in
        ["LB_LOCAL", "LB_CLUSTER", "LB_LOG", "LB_SERVER_POLICY", "LB_TLS_MODE", "LB_TLS_CA"]
    {
        command.env_remove(variable);
    }
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    command
}

/// A cluster of its own name: one balancer and any number of workers.
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) balancer: Daemon,
}

impl Cluster {
    /// A balancer that has been announced.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with further flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let name = format!("test-{:016x}", fastrand::u64(..));
        let balancer = start_balancer(&name, flags);
        Self { name, balancer }
    }

    /// A worker that takes calls and has been announced.
    pub(crate) fn worker(&mut self, id: &str, flags: &[&str]) -> Daemon {
        let mut worker = self.worker_starting(id, flags);
        worker.until(&["ready", &format!("worker={id}")]);
        self.balancer.until(&["worker takes calls", &format!("worker={id}")]);
        worker
    }

    /// A worker of which nothing is known yet.
    pub(crate) fn worker_starting(&self, id: &str, flags: &[&str]) -> Daemon {
        let mut arguments = vec!["--local", "--listen", ":0", "--cluster", &self.name, "--id", id];
        arguments.extend(flags);
        Daemon::spawn("lb-worker", &arguments)
    }

    /// Kills the balancer; another can take its place by [`Self::restart_balancer`].
    pub(crate) fn kill_balancer(&mut self) {
        self.balancer.signal("KILL");
        self.balancer.exit_code();
    }

    pub(crate) fn restart_balancer(&mut self) {
        self.restart_balancer_with(&[]);
    }

    pub(crate) fn restart_balancer_with(&mut self, flags: &[&str]) {
        self.balancer = start_balancer(&self.name, flags);
    }

    /// Runs lbctl in this cluster.
    pub(crate) fn lbctl(&self, arguments: &[&str]) -> Ended {
        lbctl(&[&["--local", "--cluster", &self.name], arguments].concat())
    }

    /// Runs lbctl in this cluster and reads what it prints as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.lbctl(&[arguments, &["--output", "json"]].concat());
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    }
}

fn start_balancer(cluster: &str, flags: &[&str]) -> Daemon {
    let arguments = [&["--local", "--listen", ":0", "--cluster", cluster], flags].concat();
    let mut balancer = Daemon::spawn("lb-server", &arguments);
    balancer.until(&["balancer ready"]);
    balancer
}

/// How a run of lbctl ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs lbctl to its end.
pub(crate) fn lbctl(arguments: &[&str]) -> Ended {
    let Output { status, stdout, stderr } = command(LBCTL).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
}

/// Starts lbctl and does not wait for it.
pub(crate) fn start_lbctl(arguments: &[&str]) -> Child {
    command(LBCTL).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Sends a signal by name.
pub(crate) fn signal(process: &Child, name: &str) {
    signal_process(process.id(), name);
}

/// Sends a signal by name to a process that the test, or what it started, has started.
pub(crate) fn signal_process(process: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process.to_string()]).status();
    assert!(sent.unwrap().success());
}
