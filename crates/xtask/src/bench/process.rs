//! Processes that end when they are dropped, and with this one, however it ends.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

/// How long a process may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked whether it has.
const GLANCE: Duration = Duration::from_millis(10);

/// A process that listens somewhere.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Process {
    /// Starts one of ours: its first line is its address, and it ends when its standard input does.
    ///
    /// # Errors
    /// When it cannot be started, or names no address.
    pub(super) fn ours(program: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::start(program, arguments, Stdio::inherit())
    }

    /// The same with its log in a file.
    ///
    /// # Errors
    /// As [`Process::ours`], and when the file cannot be written.
    pub(super) fn ours_with_log(
        program: &Path,
        arguments: &[&str],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        Self::start(program, arguments, file.into())
    }

    fn start(program: &Path, arguments: &[&str], log: Stdio) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {} {arguments:?}", program.display()))?;
        let mut line = String::new();
        let output = child.stdout.take().context("the standard output is a pipe")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse();
        let address = address.with_context(|| format!("{arguments:?} does not say where it is"))?;
        Ok(Self { child, address })
    }

    /// Starts somebody else's server, which will listen on `address`; what it says goes to `log`. If
    /// this process ends first, the kernel ends that one.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not listen in time.
    pub(super) fn foreign(
        command: &Command,
        address: SocketAddr,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let mut tied = Command::new("setpriv");
        tied.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program());
        tied.args(command.get_args());
        for (name, value) in command.get_envs() {
            tied.env(name, value.unwrap_or_default());
        }
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        tied.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = tied.spawn().context("cannot start setpriv")?;
        let mut process = Self { child, address };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.child.try_wait()? {
                bail!("it ended with {status}; see {}", log.display());
            }
            ensure!(Instant::now() < until, "it does not listen; see {}", log.display());
            sleep(GLANCE);
        }
        Ok(process)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    /// Asks it to end, so that it can end its own children; kills it if it does not.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = Command::new("kill").arg(self.id().to_string()).stderr(Stdio::null()).status();
        let until = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            sleep(GLANCE);
        }
    }
}
