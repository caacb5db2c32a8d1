//! The processes that are measured, and the load put on them.

use std::{net::SocketAddr, process::Command};

use anyhow::Context as _;

use super::{
    Measured,
    plan::{Group, Server, Way},
    process::Process,
    program,
    proxy::Proxy,
};
use crate::tools;

/// Workers, as many as the bounds are stated for.
const WORKERS: usize = 4;

/// Everything but the proxies.
#[derive(Debug)]
pub(super) struct Fleet {
    balancer: Process,
    workers: Vec<Process>,
    /// What the balancer is compared with: tonic's server alone, on as many threads.
    bare: Process,
    /// What the workers are compared with: tonic's server alone, on one thread each.
    bare_workers: Vec<Process>,
}

impl Fleet {
    pub(super) fn start() -> anyhow::Result<Self> {
        let program = program();
        let start = |arguments: &[&str]| Process::ours(&program, arguments);
        let balancer = start(&["balancer"])?;
        let at = balancer.address.to_string();
        let worker = |number| start(&["worker", "--id", &format!("w{number}"), "--balancer", &at]);
        let workers = (1..=WORKERS).map(worker).collect::<Result<_, _>>()?;
        let bare_worker = |_| start(&["bare", "--single-threaded"]);
        let bare_workers = (1..=WORKERS).map(bare_worker).collect::<Result<_, _>>()?;
        Ok(Self { balancer, workers, bare: start(&["bare"])?, bare_workers })
    }

    pub(super) fn worker_addresses(&self) -> Vec<SocketAddr> {
        self.workers.iter().map(|worker| worker.address).collect()
    }

    /// Measures one way once.
    ///
    /// # Errors
    /// When the load fails, or a single call of it.
    pub(super) fn load(
        &mut self,
        group: &Group,
        way: &Way,
        proxies: &[Proxy],
        seconds: u32,
    ) -> anyhow::Result<Measured> {
        let mut load = tools::command(program(), &["load", way.load]);
        load.args(&group.load).args(["--seconds", &seconds.to_string()]);
        self.aim(&mut load, way.server, proxies)?;
        let text = tools::output(load)?;
        let measured: Measured = serde_json::from_str(&text)
            .with_context(|| format!("the load printed {text:?} and not a result"))?;
        if measured.failed > 0 {
            let first = measured.first_failure.as_deref().unwrap_or("unknown");
            tools::say(&format!("{}: {} failed; the first: {first}", way.name, measured.failed));
        }
        Ok(measured)
    }

    fn aim(&self, load: &mut Command, server: Server, proxies: &[Proxy]) -> anyhow::Result<()> {
        let count = |load: &mut Command, name: &str, processes: &[Process]| {
            for process in processes {
                load.arg("--process").arg(format!("{name}={}", process.id()));
            }
        };
        let targets = |load: &mut Command, processes: &[Process]| {
            let addresses: Vec<_> = processes.iter().map(|one| one.address.to_string()).collect();
            load.arg("--targets").arg(addresses.join(","));
        };
        let one = std::slice::from_ref;
        match server {
            Server::Bare => {
                targets(load, one(&self.bare));
                count(load, "server", one(&self.bare));
            }
            Server::BareWorkers => {
                targets(load, &self.bare_workers);
                count(load, "workers", &self.bare_workers);
            }
            Server::Workers => {
                targets(load, &self.workers);
                count(load, "workers", &self.workers);
            }
            Server::Balancer { calls } => {
                load.arg("--balancer").arg(self.balancer.address.to_string());
                load.args(["--workers", &self.workers.len().to_string()]);
                count(load, if calls { "balancer" } else { "server" }, one(&self.balancer));
                if calls {
                    count(load, "workers", &self.workers);
                }
            }
            Server::Proxy(index) => {
                let proxy = &proxies.get(index).context("a proxy that runs")?.process;
                targets(load, one(proxy));
                count(load, "proxy", one(proxy));
                count(load, "workers", &self.workers);
            }
        }
        Ok(())
    }
}
