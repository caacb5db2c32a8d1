//! What an operator does to running hosts: reload, restart, another version. No call may fail.

use std::{process::Stdio, time::Duration};

use anyhow::ensure;

use super::{FIRST, Hosts, NEW, OLD, fresh, load::Load};
use crate::{lab::Lab, tools::say};

const SOON: Duration = Duration::from_secs(20);

/// `systemctl reload` puts what was edited in force, and the journal explains it.
pub(super) fn reload(hosts: &Hosts) -> anyhow::Result<()> {
    say("- reload applies an edited policy");
    let first = &hosts.first;
    let process = first.main_process("lb-server.service")?;
    first.run("sed -i 's/^policy = .*/policy = \"round_robin\"/' /etc/lb/lb-server.toml")?;
    first.run("systemctl reload lb-server.service")?;
    first.wait_for("lbctl policy | grep -q round_robin", SOON)?;
    ensure!(first.main_process("lb-server.service")? == process, "a reload restarted lb-server");
    // The second line is of the catalog that the package has installed.
    first.run(
        "journalctl --catalog LB_EVENT=reloaded | grep -q 'The configuration was read again'",
    )?;
    Ok(())
}

/// Restarts, an upgrade and a downgrade of everything while calls are made.
pub(super) fn under_load(hosts: &Hosts, lab: &Lab) -> anyhow::Result<()> {
    let first = &hosts.first;
    first.run("systemctl enable --now --quiet lb-worker@2.service")?;
    let three = "test $(lbctl workers --output json | grep -c '\"id\"') = 3";
    first.wait_for(three, SOON)?;
    let workers = first.run("lbctl workers --output json | grep '\"id\"' | sort")?;

    say("- restarts under load: who connects meanwhile waits, workers drain");
    let load = Load::start(lab, first)?;
    connect_through_a_restart(hosts)?;
    first.run("systemctl restart lb-workers.target lb-worker.service")?;
    first.wait_for(three, SOON)?;
    load.end(first)?;

    for (revision, what) in [(NEW, "upgrade"), (OLD, "downgrade")] {
        say(&format!("- {what} under load: edited configuration stays"));
        let units = ["lb-server.service", "lb-worker.service", "lb-worker@2.service"];
        let processes = units.map(|unit| first.main_process(unit).ok());
        let load = Load::start(lab, first)?;
        fresh::install_all(hosts, revision)?;
        first.wait_for(three, SOON)?;
        load.end(first)?;
        for (unit, process) in units.into_iter().zip(processes) {
            let now = first.main_process(unit).ok();
            ensure!(now.is_some() && now != process, "{unit} is still the old process");
        }
        first.run("grep -qx 'policy = \"round_robin\"' /etc/lb/lb-server.toml")?;
    }
    let now = first.run("lbctl workers --output json | grep '\"id\"' | sort")?;
    ensure!(now == workers, "workers have other ids than before:\n{now}\nbefore:\n{workers}");
    Ok(())
}

/// Restarts the balancer while one program after another connects to it anew: none is refused.
fn connect_through_a_restart(hosts: &Hosts) -> anyhow::Result<()> {
    let until = "/tmp/restarted";
    let script = format!("until test -e {until}; do lbctl --lb {FIRST} policy; done; rm {until}");
    let mut connect = hosts.second.command(&script);
    let mut connect = connect.stdout(Stdio::null()).spawn()?;
    hosts.first.run("systemctl restart lb-server.service")?;
    hosts.second.run(&format!("touch {until}"))?;
    ensure!(connect.wait()?.success(), "who connected while lb-server restarted was refused");
    Ok(())
}
