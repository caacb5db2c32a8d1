//! What goes wrong on hosts: a daemon hangs, is stopped by mistake, or finds a configuration that it cannot use.

use std::time::Duration;

use anyhow::ensure;

use super::{FIRST, Hosts, NEW, OLD, install};
use crate::tools::say;

const SOON: Duration = Duration::from_secs(20);

/// A daemon that hangs is killed by the watchdog and comes back.
pub(super) fn hangs(hosts: &Hosts) -> anyhow::Result<()> {
    say("- a daemon that hangs is replaced");
    let first = &hosts.first;
    for unit in ["lb-server.service", "lb-worker.service"] {
        // The same mechanism with less patience.
        let quick = format!("/run/systemd/system/{unit}.d/quick.conf");
        first.write(&quick, "[Service]\nWatchdogSec=2\n")?;
        first.run(&format!("systemctl daemon-reload; systemctl restart {unit}"))?;
        let process = first.main_process(unit)?;
        first.run(&format!("kill -STOP {process}"))?;
        let replaced = format!(
            "p=$(systemctl show --property=MainPID --value {unit}); \
             test $p != 0 -a $p != {process} && systemctl is-active {unit}"
        );
        first.wait_for(&replaced, Duration::from_secs(60))?;
        first.run(&format!("journalctl --unit={unit} | grep -q 'Watchdog timeout'"))?;
        first.run(&format!("rm -r /run/systemd/system/{unit}.d; systemctl daemon-reload"))?;
    }
    hosts.second.wait_for("lbctl run echo back", SOON)
}

/// With the optional socket, whoever connects starts the balancer.
pub(super) fn started_by_its_socket(hosts: &Hosts) -> anyhow::Result<()> {
    say("- with its socket unit, the balancer is started by whoever connects");
    let first = &hosts.first;
    first.run("systemctl stop lb-server.service && systemctl start lb-server.socket")?;
    hosts.second.run(&format!("lbctl --lb {FIRST} policy"))?;
    first.wait_for("systemctl is-active lb-server.service", SOON)?;
    first.run("systemctl stop lb-server.socket lb-server.service")?;
    first.run("systemctl start lb-server.service")?;
    hosts.second.wait_for("lbctl run echo back", SOON)
}

/// A broken file in /etc ends the daemon with one clear line and exit status 78, and hinders no package.
pub(super) fn broken_configuration(hosts: &Hosts) -> anyhow::Result<()> {
    say("- a broken configuration: one clear line, exit status 78, packages still change");
    let first = &hosts.first;
    for package in ["lb-server", "lb-worker"] {
        let (unit, file) = (format!("{package}.service"), format!("/etc/lb/{package}.toml"));
        first.run(&format!("cp -p {file} /root/good; sed -i '1i nonsense = 1' {file}"))?;
        let cursor =
            first.run("journalctl --quiet --lines=1 --show-cursor | sed -n 's/^-- cursor: //p'")?;
        first.run(&format!("systemctl restart {unit} || true"))?;
        first.wait_for(&format!("systemctl is-failed {unit}"), SOON)?;
        let status =
            first.run(&format!("systemctl show --property=ExecMainStatus --value {unit}"))?;
        ensure!(status.trim() == "78", "{unit} ended with status {status}");
        let lines = first.run(&format!(
            "journalctl --after-cursor='{}' --identifier={package} --output=cat",
            cursor.trim()
        ))?;
        let lines: Vec<_> = lines.lines().filter(|line| line.contains("error")).collect();
        let clear = |line: &&str| line.contains("nonsense") && line.contains(&file);
        ensure!(lines.len() == 1 && lines.iter().all(clear), "{unit} says: {lines:#?}");

        install(first, &[package], NEW)?;
        first.run(&format!("apt-get remove --yes --quiet {package}"))?;
        install(first, &[package], OLD)?;
        first.run(&format!("mv /root/good {file}; systemctl restart {unit}"))?;
    }
    hosts.second.wait_for("lbctl run echo back", SOON)
}
