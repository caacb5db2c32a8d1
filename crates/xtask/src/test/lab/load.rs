//! Constant calls from the client hosts, each of which is written down.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    process::Child,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use serde_json::Value;

use super::cluster::Cluster;
use crate::lab::wait_until;

/// Few enough that hosts leave the machine's two cores idle most of the time, and long enough that each worker always has some.
const LOAD: &str = "lbctl bench run --found --rate 30 --task 'sleep 200ms' --policies least_load --repeats 1 --warm-up 0 \
                    --duration 2h --calls /run/calls.csv --output json > /run/load.json 2> /run/load.err";
/// A client looks for balancers, and waits until workers are idle.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Seconds since 1970. All hosts have the machine's clock.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// One call that has ended.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) client: usize,
    /// Seconds since 1970.
    pub(super) begun: f64,
    pub(super) ended: f64,
    /// The worker that answered, or at which it failed, if that is known.
    pub(super) worker: String,
    pub(super) outcome: String,
}

impl Call {
    pub(super) fn is_answered(&self) -> bool {
        self.outcome == "OK"
    }
}

/// Calls made until it is told to end.
pub(super) struct Load {
    clients: Vec<Client>,
    calls: Vec<Call>,
}

struct Client {
    process: Child,
    /// As this machine sees it.
    list: PathBuf,
    read: u64,
}

impl Load {
    /// Begins to call from all client hosts; returns when both have answers.
    ///
    /// # Errors
    /// When one has none.
    pub(super) fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let mut clients = Vec::new();
        for host in cluster.clients() {
            // Not the list of a load before.
            host.run("rm -f /run/calls.csv")?;
            let mut lbctl = host.command(&format!("echo $$ > /run/load.pid; exec {LOAD}"));
            let process = lbctl.spawn().context("cannot start lbctl")?;
            clients.push(Client { process, list: host.path("/run/calls.csv")?, read: 0 });
        }
        let mut load = Self { clients, calls: Vec::new() };
        wait_until("clients to get answers", START_TIMEOUT, || {
            let calls = load.calls()?;
            let answered = |client| calls.iter().any(|call| call.client == client);
            Ok((0..cluster.clients().len()).all(answered))
        })?;
        Ok(load)
    }

    /// All calls that have ended so far.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub(super) fn calls(&mut self) -> anyhow::Result<&[Call]> {
        for (client, Client { list, read, .. }) in self.clients.iter_mut().enumerate() {
            let Ok(mut file) = File::open(list) else { continue };
            file.seek(SeekFrom::Start(*read))?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            // The last line may be half written.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            *read += u64::try_from(whole)?;
            let lines = text[..whole].lines().filter(|line| !line.starts_with("run,"));
            for line in lines {
                self.calls.push(parse(client, line).with_context(|| format!("a call: {line}"))?);
            }
        }
        Ok(&self.calls)
    }

    /// Ends it; says how many calls there were, and how many had not ended.
    ///
    /// # Errors
    /// When a client has ended before.
    pub(super) fn end(mut self, cluster: &Cluster) -> anyhow::Result<(u64, u64)> {
        let (mut calls, mut abandoned) = (0, 0);
        for (host, client) in cluster.clients().iter().zip(&mut self.clients) {
            host.run("kill -INT $(cat /run/load.pid)").context("lbctl has ended")?;
            client.process.wait()?;
            let text = fs::read_to_string(host.path("/run/load.json")?)?;
            let result: Value = serde_json::from_str(&text).context("lbctl prints JSON")?;
            let run = &result["runs"][0];
            calls += run["requests"].as_u64().context("a run has requests")?;
            abandoned += run["abandoned"].as_u64().context("a run says what was abandoned")?;
        }
        Ok((calls, abandoned))
    }
}

fn parse(client: usize, line: &str) -> Option<Call> {
    let mut values = line.split(',');
    let _policy = values.next()?;
    let begun: f64 = values.next()?.parse().ok()?;
    let seconds: f64 = values.next()?.parse().ok()?;
    let (worker, outcome) = (values.next()?.to_owned(), values.next()?.to_owned());
    Some(Call { client, begun, ended: begun + seconds, worker, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_call() {
        let call = parse(1, "least_load,10.5,0.25,w1,OK").unwrap();
        assert!(call.is_answered() && call.client == 1 && call.worker == "w1");
        assert!((call.ended - 10.75).abs() < 1e-9);
        assert!(!parse(0, "least_load,10.5,0.25,,UNAVAILABLE").unwrap().is_answered());
        assert!(parse(0, "least_load,10.5").is_none());
    }
}
