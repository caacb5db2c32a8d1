//! A client program and what it counts; see `client.py`.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// What a client has done since it was last asked.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Count {
    /// Calls, by worker.
    pub(super) answered: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
    /// When the last call to each worker began, in seconds.
    pub(super) begun: BTreeMap<String, f64>,
    longest: f64,
}

impl Count {
    pub(super) fn calls(&self) -> u64 {
        self.answered.values().sum()
    }

    /// The part of all calls that a worker has answered.
    pub(super) fn part(&self, worker: &str) -> f64 {
        let own = self.answered.get(worker).copied().unwrap_or(0);
        own as f64 / self.calls().max(1) as f64
    }

    pub(super) fn add(&mut self, other: Self) {
        for (worker, count) in other.answered {
            *self.answered.entry(worker).or_insert(0) += count;
        }
    }
}

#[derive(Deserialize)]
struct Unknown {
    seconds: f64,
    how: String,
}

#[derive(Deserialize)]
struct Time {
    seconds: f64,
}

/// A running client. It ends when this is dropped.
pub(super) struct Client {
    pub(super) name: &'static str,
    process: Child,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Client {
    pub(super) fn start(
        name: &'static str,
        mut program: Command,
        bootstrap: &Path,
    ) -> anyhow::Result<Self> {
        program.env("GRPC_XDS_BOOTSTRAP", bootstrap).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = program.spawn().with_context(|| format!("cannot start {name}"))?;
        let say = process.stdin.take().context("it is a pipe")?;
        let hear = BufReader::new(process.stdout.take().context("it is a pipe")?);
        Ok(Self { name, process, say, hear })
    }

    /// What it has counted. No call may have failed.
    pub(super) fn sound(&mut self) -> anyhow::Result<Count> {
        let count: Count = self.ask("count")?;
        let (name, failed, longest) = (self.name, &count.failed, count.longest);
        ensure!(
            failed.is_empty(),
            "{name}: calls failed, the longest took {longest} s: {failed:?}"
        );
        Ok(count)
    }

    /// Lets it call from now on.
    pub(super) fn go(&mut self) -> anyhow::Result<()> {
        self.ask::<serde_json::Value>("go").map(drop)
    }

    /// How long a call to an unknown service takes to fail, and how.
    pub(super) fn unknown(&mut self, service: &str) -> anyhow::Result<(f64, String)> {
        let Unknown { seconds, how } = self.ask(&format!("unknown {service}"))?;
        Ok((seconds, how))
    }

    /// Puts two policies in force by turns. How many seconds it took.
    pub(super) fn policies(
        &mut self,
        times: u32,
        seconds: u32,
        address: &str,
        [one, other]: [&str; 2],
    ) -> anyhow::Result<f64> {
        let order = format!("policies {times} {seconds} {address} {one} {other}");
        Ok(self.ask::<Time>(&order)?.seconds)
    }

    /// Drains a worker. When it was asked for, by the clock of [`Count::begun`].
    pub(super) fn drain(&mut self, address: &str, worker: &str) -> anyhow::Result<f64> {
        Ok(self.ask::<Time>(&format!("drain {address} {worker}"))?.seconds)
    }

    fn ask<T: for<'a> Deserialize<'a>>(&mut self, command: &str) -> anyhow::Result<T> {
        let name = self.name;
        writeln!(self.say, "{command}").with_context(|| format!("{name} has ended"))?;
        let mut answer = String::new();
        self.hear.read_line(&mut answer)?;
        serde_json::from_str(&answer).with_context(|| format!("{name} says {answer:?}"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
