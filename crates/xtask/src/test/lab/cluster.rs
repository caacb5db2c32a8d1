//! The hosts of the tier: h1 and h2 balance, h3 to h6 work, h7 and h8 call.

use std::{
    ops::Range,
    path::Path,
    process::{Child, Command},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::super::repository::{self, OLD};
use crate::{
    lab::{self, Host, Image, Lab, wait_until},
    tools::say,
};

const BALANCERS: Range<usize> = 0..2;
const WORKERS: Range<usize> = 2..6;
const CLIENTS: Range<usize> = 6..8;
/// Multicast DNS takes a second, a registration less.
const SOON: Duration = Duration::from_secs(30);

/// Tasks of the tier sleep: hosts have room for more of them than the machine has cores.
const SLOTS: &str = "[Service]\nEnvironment=LB_WORKER_SLOTS=8\n";

/// The hosts, and what they are for.
pub(super) struct Cluster {
    hosts: Vec<Host>,
    /// By number of the worker.
    ids: Vec<String>,
    server: Child,
    /// Last, since hosts need it.
    lab: Lab,
}

impl Cluster {
    /// Boots the hosts, with nothing of ours on them.
    ///
    /// # Errors
    /// When one does not come up.
    pub(super) fn boot(repository: &Path) -> anyhow::Result<Self> {
        let mut lab = Lab::new()?;
        let server = repository::serve(&lab, repository, &lab.folder().join("requests.log"))?;
        let image = Image::of(&lab::release()?)?;
        let hosts = lab.boot_all(&image, repository, CLIENTS.end)?;
        for host in &hosts {
            // There is one drill with it; all others are without.
            host.run("systemctl --quiet disable --now avahi-daemon.service avahi-daemon.socket")?;
            host.write("/etc/systemd/system/lb-worker.service.d/slots.conf", SLOTS)?;
        }
        Ok(Self { hosts, ids: Vec::new(), server, lab })
    }

    /// Puts our packages on all hosts.
    ///
    /// # Errors
    /// When one cannot be installed.
    pub(super) fn roll_out(&self) -> anyhow::Result<()> {
        say("- roll-out: packages from the signed repository");
        let url = format!("http://{}:8080", Lab::address());
        let install = |host: &Host, packages: &[&str]| {
            repository::take_packages_from(host, &url)?;
            repository::install(host, packages, OLD)
        };
        thread::scope(|scope| {
            let hosts = self.hosts.iter().enumerate();
            let installations = hosts.map(|(place, host)| {
                let packages: &[&str] = match place {
                    place if BALANCERS.contains(&place) => &["lb-server", "lb-client"],
                    place if WORKERS.contains(&place) => &["lb-worker", "lb-client"],
                    _ => &["lb-client"],
                };
                scope.spawn(move || install(host, packages))
            });
            let installations: Vec<_> = installations.collect();
            for installation in installations {
                installation.join().ok().context("an installation panicked")??;
            }
            Ok(())
        })
    }

    /// A client host finds all balancers and workers, though no file names an address.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn discover(&mut self) -> anyhow::Result<()> {
        say("- discovery: a client finds the cluster without any configuration");
        let network = Lab::address().trim_end_matches('1');
        for host in &self.hosts {
            ensure!(
                !host.succeeds(&format!("grep -rqF {network} /etc/lb /etc/systemd/system"))?,
                "a file of {} names an address",
                host.name
            );
        }
        let client = self.client(0);
        let count = |role: &str, number: usize| {
            format!(
                "test $(lbctl discover --output json | grep -c '\"role\": \"{role}\"') = {number}"
            )
        };
        client.wait_for(&count("balancer", BALANCERS.len()), SOON)?;
        client.wait_for(&count("worker", WORKERS.len()), SOON)?;
        let answer = client.run("lbctl run factorial 20")?;
        ensure!(answer.trim() == "2432902008176640000", "20! is {answer}");
        let mut ids = Vec::new();
        wait_until("all workers to be registered", SOON, || {
            ids = self.worker_ids()?;
            Ok(ids.len() == WORKERS.len())
        })?;
        self.ids = ids;
        Ok(())
    }

    /// Ids of those workers that balancers list, in the order of their hosts.
    fn worker_ids(&self) -> anyhow::Result<Vec<String>> {
        let listed: Value =
            serde_json::from_str(&self.client(0).run("lbctl workers --output json")?)?;
        let listed = listed["workers"].as_array().context("lbctl lists workers")?;
        let id = |host: &Host| {
            let here = format!("{}:", host.address);
            let found = listed.iter().find(|worker| {
                worker["address"].as_str().is_some_and(|address| address.starts_with(&here))
            });
            found?["id"].as_str().map(ToOwned::to_owned)
        };
        Ok(self.hosts[WORKERS].iter().filter_map(id).collect())
    }

    pub(super) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    pub(super) fn balancers(&self) -> &[Host] {
        &self.hosts[BALANCERS]
    }

    pub(super) fn workers(&self) -> &[Host] {
        &self.hosts[WORKERS]
    }

    pub(super) fn clients(&self) -> &[Host] {
        &self.hosts[CLIENTS]
    }

    pub(super) fn client(&self, number: usize) -> &Host {
        &self.hosts[CLIENTS][number]
    }

    pub(super) fn balancer(&mut self, number: usize) -> &mut Host {
        &mut self.hosts[BALANCERS][number]
    }

    pub(super) fn worker(&mut self, number: usize) -> &mut Host {
        &mut self.hosts[WORKERS][number]
    }

    /// A program of this machine, in the network of the hosts.
    pub(super) fn inside(&self, program: &str, arguments: &[&str]) -> Command {
        self.lab.inside(program, arguments)
    }

    /// A folder for files that are gone with the cluster.
    pub(super) fn folder(&self) -> &Path {
        self.lab.folder()
    }

    /// Ids of the workers, by number.
    pub(super) fn ids(&self) -> &[String] {
        &self.ids
    }

    /// The balancer that a client is connected to.
    ///
    /// # Errors
    /// When it is connected to none.
    pub(super) fn balancer_of(&self, client: usize) -> anyhow::Result<usize> {
        let peers =
            self.client(client).run("ss --no-header --tcp state established dport = :7460")?;
        let used = |host: &Host| {
            peers.contains(&format!("{}]:7460", host.address))
                || peers.contains(&format!("{}:7460", host.address))
        };
        let found = self.balancers().iter().position(used);
        found.with_context(|| format!("client {client} has no connection to a balancer: {peers}"))
    }

    /// Says what daemons have logged of late.
    pub(super) fn show_journals(&self) {
        for host in &self.hosts[..CLIENTS.start] {
            let journal = host.run("journalctl --no-pager --lines=60 --unit='lb-*'");
            say(&format!("journal of {}:\n{}", host.name, journal.unwrap_or_default()));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
