//! What packages leave behind when they are purged: nothing.

use std::collections::BTreeSet;

use anyhow::ensure;

use crate::{lab::Host, tools::say};

/// Where others write down what was done, ours or not.
const OTHERS: [&str; 7] = [
    "/var/cache/",
    "/var/lib/apt/",
    "/var/lib/dpkg/",
    "/var/log/",
    "/var/lib/systemd/",
    "/var/backups/",
    "/etc/apt/sources.list.d",
];
/// Copies that the tools for users make of their files.
const COPIES: [&str; 5] =
    ["/etc/passwd-", "/etc/shadow-", "/etc/group-", "/etc/gshadow-", "/etc/.pwd.lock"];

/// Files and users of a host.
pub(super) fn list(host: &Host) -> anyhow::Result<BTreeSet<String>> {
    let files = host.run("find / -xdev -not -path '/tmp/*' -not -path '/root/*'")?;
    let users = "sed 's/^/user /; s/:.*//' /etc/passwd; sed 's/^/group /; s/:.*//' /etc/group";
    let users = host.run(users)?;
    let ours =
        |line: &&str| !COPIES.contains(line) && !OTHERS.iter().any(|other| line.starts_with(other));
    Ok(files.lines().filter(ours).chain(users.lines()).map(ToOwned::to_owned).collect())
}

/// Removes and purges everything; what is there then was there `before`.
pub(super) fn purge(host: &Host, before: &BTreeSet<String>) -> anyhow::Result<()> {
    say("- purged: nothing is left");
    host.run("apt-get purge --yes --quiet lb-server lb-worker lb-client 2>&1")?;
    let running = host.run("ls -l /proc/[0-9]*/exe 2>/dev/null | grep '/usr/bin/lb' || true")?;
    ensure!(running.is_empty(), "still running:\n{running}");
    let now = list(host)?;
    let left: Vec<_> = now.difference(before).collect();
    ensure!(left.is_empty(), "left behind: {left:#?}");
    let states = host.run("find /var/lib/systemd -name 'lb-*'")?;
    ensure!(states.is_empty(), "left behind:\n{states}");
    Ok(())
}
