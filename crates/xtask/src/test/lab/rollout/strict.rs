//! What certificates are for: who has one may do what it says, and nothing else; daemons take new ones while they serve.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};

use super::{super::cluster::Cluster, OLD, ansible::Ansible, one_of_each, under_load};
use crate::{lab::Host, repo::Repository, tools::say};

const SOON: Duration = Duration::from_secs(20);
const WORKER: &str = "lb-worker.service";

/// All of it, on the cluster that `site.yml` has made.
///
/// # Errors
/// When somebody may do too much or too little, or a call fails.
pub(super) fn all(cluster: &Cluster, repository: &Repository) -> anyhow::Result<()> {
    say("- certificates: a client calls and does not drain; who has none gets in nowhere");
    let client = cluster.client(0);
    client.run("lbctl run factorial 5")?;
    refused(client, "lbctl drain h3", 77, "may not call /lb.v1.Admin/Drain")?;
    refused(client, "lbctl --tls open --wait 1s workers", 69, "announces the mode mtls")?;

    let ansible = Ansible::new(cluster, repository)?;
    say("- certificates: lbctl makes one with the CA of the role, and it counts");
    let pki = ansible.folder().join("pki");
    take_along(&pki, &client.path("/root")?)?;
    let issued = "lbctl pki --directory /root/pki issue admin operator";
    let files = "/root/pki/admin-operator/lb-client";
    let order = format!("lbctl --tls-certificate {files}.crt --tls-key {files}.key");
    client.run(&format!("{issued}; {order} drain h3; {order} undrain h3"))?;
    say("- certificates: a second worker of a machine has one of its own");
    second_worker(client, cluster.workers().last().context("there are workers")?)?;

    under_load(cluster, "site.yml makes certificates new, and leaves a drained worker so", || {
        let (balancer, drained) = (&cluster.balancers()[0], &cluster.workers()[0].name);
        balancer.run(&format!("lbctl drain {drained}"))?;
        let now = ["--extra-vars", "lb_pki_renew_days=366", "--limit", &one_of_each(cluster)];
        ansible.play("site.yml", OLD, &now)?;
        balancer.run(&format!("lbctl workers | grep -q '^{drained} *draining'"))?;
        balancer.run(&format!("lbctl undrain {drained}"))?;
        reads_them(&cluster.workers()[0])
    })?;
    under_load(cluster, "a worker takes its certificate from systemd", || {
        has_credentials(&cluster.workers()[0], cluster.client(0))
    })
}

/// A command says why it may not.
fn refused(host: &Host, script: &str, code: i32, why: &str) -> anyhow::Result<()> {
    let ended = host.command(script).output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    let expected = ended.status.code() == Some(code) && said.contains(why);
    ensure!(expected, "{script}: expected {code} and \"{why}\", got {}: {said}", ended.status);
    Ok(())
}

/// Copies the CA, and nothing else, into a folder.
fn take_along(pki: &Path, home: &Path) -> anyhow::Result<()> {
    let place = home.join("pki");
    fs::create_dir(&place)?;
    for file in ["lb-ca.crt", "lb-ca.key"] {
        fs::copy(pki.join(file), place.join(file)).with_context(|| format!("the role's {file}"))?;
    }
    Ok(())
}

/// Starts an instance beside the worker that Ansible has made, as operations.md says.
fn second_worker(authority: &Host, host: &Host) -> anyhow::Result<()> {
    let id = format!("{}-2", host.name);
    authority.run(&format!("lbctl pki --directory /root/pki issue worker {id}"))?;
    host.run("mkdir /etc/lb/tls/2")?;
    for file in ["lb-worker.crt", "lb-worker.key"] {
        let from = authority.path(&format!("/root/pki/worker-{id}/{file}"))?;
        fs::copy(from, host.path(&format!("/etc/lb/tls/2/{file}"))?)?;
    }
    let name = |key, file| format!("LB_WORKER_TLS__{key}=/etc/lb/tls/2/lb-worker.{file}\n");
    let (certificate, key) = (name("CERTIFICATE", "crt"), name("KEY", "key"));
    let environment = format!("LB_WORKER_ID={id}\n{certificate}{key}");
    host.write("/etc/default/lb-worker@2", &environment)?;
    host.run("chown --recursive lb-worker /etc/lb/tls/2")?;
    start_second_worker(authority, host)
}

/// Where one worker on each host is expected, it rests.
pub(super) fn stop_second_worker(host: &Host) -> anyhow::Result<()> {
    host.run("systemctl disable --quiet --now lb-worker@2").map(drop)
}

/// Starts it again, and waits until it serves.
pub(super) fn start_second_worker(client: &Host, host: &Host) -> anyhow::Result<()> {
    host.run("systemctl enable --quiet --now lb-worker@2")?;
    client.wait_for(&format!("lbctl workers | grep -q '^{}-2 *serving'", host.name), SOON)
}

/// New certificates are in use after a reload, in the same process.
fn reads_them(host: &Host) -> anyhow::Result<()> {
    let process = host.main_process(WORKER)?;
    host.run(&format!("systemctl reload {WORKER}"))?;
    let renewed = format!("journalctl --quiet _PID={process} LB_EVENT=certificates_renewed");
    host.wait_for(&format!("{renewed} | grep -q ."), SOON)?;
    ensure!(host.main_process(WORKER)? == process, "{} has restarted its worker", host.name);
    Ok(())
}

/// The files are where systemd alone reads them, and the worker serves again.
fn has_credentials(host: &Host, client: &Host) -> anyhow::Result<()> {
    let there = format!(
        "test $(lbctl workers --output json | grep -A20 '\"id\": \"{}\"' | grep -c '\"serving\"') = 1",
        host.name
    );
    let move_to = |from: &str, to: &str| {
        let files = format!("{from}/lb-worker.crt {from}/lb-worker.key {from}/lb-ca.crt");
        host.run(&format!("mkdir -p {to}; mv {files} {to}; systemctl restart {WORKER}"))?;
        client.wait_for(&there, SOON)
    };
    move_to("/etc/lb/tls", "/etc/credstore")?;
    move_to("/etc/credstore", "/etc/lb/tls")
}
