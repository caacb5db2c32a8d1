//! A fresh installation: everything runs, is announced, finds the others and answers, with no configuration.

use std::{fs, path::Path, time::Duration};

use anyhow::ensure;

use super::{Hosts, OLD};
use crate::{lab::SHARED, tools::say};

/// Multicast DNS takes a second, a registration less.
const SOON: Duration = Duration::from_secs(20);

/// Puts one version of everything on both hosts.
pub(super) fn install_all(hosts: &Hosts, revision: &str) -> anyhow::Result<()> {
    super::install(&hosts.first, &["lb-server", "lb-worker", "lb-client"], revision)?;
    super::install(&hosts.second, &["lb-worker", "lb-client"], revision)
}

/// From nothing to services that run, now and after the next boot.
pub(super) fn install(hosts: &Hosts) -> anyhow::Result<()> {
    say("- installed: services are active and enabled");
    install_all(hosts, OLD)?;
    for unit in ["lb-server.service", "lb-worker.service"] {
        hosts.first.run(&format!("systemctl is-active {unit} && systemctl is-enabled {unit}"))?;
    }
    hosts.second.run("systemctl is-active lb-worker.service")?;
    super::install(&hosts.second, &["lb-worker-dbgsym"], OLD)
}

/// Lists are read by their hash, so that a publication in between does no harm.
pub(super) fn reads_by_hash(requests: &Path) -> anyhow::Result<()> {
    let requests = fs::read_to_string(requests)?;
    ensure!(requests.contains("/by-hash/SHA256/"), "apt asks for no list by its hash:\n{requests}");
    Ok(())
}

/// Bash completes lbctl's commands with what the package has installed.
pub(super) fn completes(hosts: &Hosts) -> anyhow::Result<()> {
    say("- a shell completes lbctl's commands");
    let offered = hosts.second.run(
        "bash -c '. /usr/share/bash-completion/completions/lbctl; \
         COMP_WORDS=(lbctl wor); COMP_CWORD=1; _lbctl lbctl wor lbctl; echo ${COMPREPLY[@]}'",
    )?;
    ensure!(offered.trim() == "workers", "bash offers {offered:?} for \"lbctl wor\"");
    Ok(())
}

/// apt takes nothing from a repository that somebody else has changed or signed.
pub(super) fn refuses_what_is_not_signed(hosts: &Hosts) -> anyhow::Result<()> {
    say("- a repository that was changed is refused");
    let host = &hosts.second;
    host.run(&format!("cp -r {SHARED} /tmp/changed; mkdir -p /tmp/changed-lists/partial"))?;
    host.run("sed -i 's/^Label: lb$/Label: xx/' /tmp/changed/dists/stable/InRelease")?;
    host.run("sed 's,^URIs: .*,URIs: file:///tmp/changed,' /etc/apt/sources.list.d/lb.sources > /tmp/changed.sources")?;
    let update = "apt-get update --error-on=any -o Dir::Etc::SourceParts=- -o Dir::Etc::SourceList=/tmp/changed.sources \
                  -o Dir::State::Lists=/tmp/changed-lists 2>&1";
    let said = host.run(&format!("! {update}"))?;
    ensure!(said.contains("signature"), "apt refuses for another reason:\n{said}");
    host.run("rm -r /tmp/changed*").map(drop)
}

/// A program that is not ours sees the announcements, and a task is answered from the other host.
pub(super) fn find_each_other(hosts: &Hosts) -> anyhow::Result<()> {
    say("- announced, found and used without any configuration");
    let second = &hosts.second;
    let answer = second.run("lbctl run factorial 20")?;
    ensure!(answer.trim() == "2432902008176640000", "20! is {answer}");
    second.wait_for("test $(lbctl workers --output json | grep -c '\"id\"') = 2", SOON)?;
    // A service is listed once for each protocol; lines that begin with = are resolved.
    let seen = |kind: &str, count: usize| {
        format!(
            "test $(avahi-browse --resolve --terminate --parsable _lb-{kind}._tcp | \
             grep '^=' | grep -o 'id=[a-z0-9-]*' | sort -u | wc -l) = {count}"
        )
    };
    second.wait_for(&seen("server", 1), SOON)?;
    second.wait_for(&seen("worker", 2), SOON)
}

/// What systemd thinks of how far the daemons are confined; 10 is not at all.
pub(super) fn is_confined(hosts: &Hosts) -> anyhow::Result<()> {
    say("- confined: exposure of at most 1.2");
    for unit in ["lb-server.service", "lb-worker.service", "lb-worker@1.service"] {
        hosts.first.run(&format!("systemd-analyze security --no-pager --threshold=12 {unit}"))?;
    }
    Ok(())
}
