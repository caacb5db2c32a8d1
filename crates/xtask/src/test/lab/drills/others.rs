//! Mistakes, neighbours and wrong clocks.

use std::{thread::sleep, time::Duration};

use anyhow::ensure;

use super::super::{cluster::Cluster, drill::Happened, load::now};
use crate::{
    lab::Host,
    tools::{command, output},
};

const WORKER: usize = 1;
/// Multicast DNS takes a second.
const SOON: Duration = Duration::from_secs(20);
/// How long a wrong clock is looked at: several heartbeats.
const A_WHILE: Duration = Duration::from_secs(5);
/// What a process is told of the time. The clock that only counts is left alone, as a step of a real clock leaves it.
const STEPPED: &str = "[Service]\n\
     Environment=LD_PRELOAD=/usr/$LIB/faketime/libfaketimeMT.so.1\n\
     Environment=FAKETIME_TIMESTAMP_FILE=/etc/faketime FAKETIME_CACHE_DURATION=1 FAKETIME_DONT_FAKE_MONOTONIC=1\n";

/// The second one is refused, and the first one goes on.
pub(super) fn one_id_twice(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let id = cluster.ids()[WORKER].clone();
    let at = now();
    let refused = format!(
        "journalctl --since=@{} --output=cat --identifier=lb-server LB_EVENT=worker_refused | grep -q .",
        at.floor()
    );
    let certificate =
        clone_certificate(&cluster.workers()[WORKER], &cluster.workers()[WORKER + 1])?;
    let twin = format!("lb-worker --id {id} --listen :7999");
    cluster
        .worker(WORKER + 1)
        .run(&format!("systemd-run --quiet --unit=lb-twin {certificate} {twin}"))?;
    for host in cluster.balancers() {
        host.wait_for(&refused, SOON)?;
    }
    sleep(A_WHILE);
    let returned = now();
    cluster.worker(WORKER + 1).run("systemctl stop lb-twin.service")?;
    Ok(Happened { worker: None, at, returned })
}

/// Under mTLS a twin has the certificate too, as the clone of a disk has. Returns what tells it so.
fn clone_certificate(worker: &Host, other: &Host) -> anyhow::Result<String> {
    let files = worker.path("/etc/lb/tls")?;
    if !files.exists() {
        return Ok(String::new());
    }
    let mut copy = command("cp", &["--recursive"]);
    copy.arg(files).arg(other.path("/run/lb-twin")?);
    output(copy)?;
    let name = |key, file| format!("--setenv=LB_WORKER_TLS__{key}=/run/lb-twin/lb-worker.{file}");
    Ok([name("CERTIFICATE", "crt"), name("KEY", "key")].join(" "))
}

/// Both announce on the same port, and see each other's announcements; nobody is renamed.
pub(super) fn avahi(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let at = now();
    for host in cluster.hosts() {
        host.run("systemctl start avahi-daemon.service")?;
    }
    cluster.worker(WORKER).run("systemctl restart lb-worker.service")?;
    let returned = now();
    let client = cluster.client(0);
    let seen = |kind: &str, count: usize| {
        format!(
            "test $(avahi-browse --resolve --terminate --parsable _lb-{kind}._tcp | \
             grep '^=' | grep -o 'id=[a-z0-9-]*' | sort -u | wc -l) = {count}"
        )
    };
    client.wait_for(&seen("worker", cluster.ids().len()), SOON)?;
    client.wait_for(&seen("server", cluster.balancers().len()), SOON)?;
    client.run("lbctl run echo back")?;
    for host in cluster.hosts() {
        let renamed = "journalctl --unit=avahi-daemon | grep -q 'Host name conflict'";
        ensure!(!host.succeeds(renamed)?, "{} was renamed", host.name);
        host.run("systemctl stop avahi-daemon.socket avahi-daemon.service")?;
    }
    Ok(Happened { worker: None, at, returned })
}

pub(super) fn balancer_ahead(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let used = cluster.balancer_of(0)?;
    step(cluster, &cluster.balancers()[used], "lb-server.service")
}

pub(super) fn worker_ahead(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    step(cluster, &cluster.workers()[WORKER], "lb-worker.service")
}

/// Steps the clock of a daemon by an hour while it runs, and back. Nobody drops out of rotation by that.
fn step(cluster: &Cluster, host: &Host, unit: &str) -> anyhow::Result<Happened> {
    let file = format!("/run/systemd/system/{unit}.d/faketime.conf");
    host.write("/etc/faketime", "+0\n")?;
    host.write(&file, STEPPED)?;
    let at = now();
    host.run(&format!("systemctl daemon-reload && systemctl restart {unit}"))?;
    let process = host.main_process(unit)?;
    host.run(&format!("grep -q libfaketime /proc/{process}/maps"))?;
    sleep(Duration::from_secs(2));
    let stepped = now().floor();
    host.write("/etc/faketime", "+3600\n")?;
    // A process with the same environment is an hour ahead, so this one is.
    let environment =
        format!("tr '\\0' '\\n' < /proc/{process}/environ | grep -E '^(LD_PRELOAD|FAKETIME)'");
    host.run(&format!("test $(env $({environment}) date +%s) -gt $(($(date +%s) + 3500))"))?;
    sleep(A_WHILE);
    host.write("/etc/faketime", "+0\n")?;
    sleep(A_WHILE);
    ensure!(host.main_process(unit)? == process, "{unit} was restarted");
    let lost = format!(
        "journalctl --quiet --since=@{stepped} --identifier=lb-server LB_EVENT=worker_lost"
    );
    for balancer in cluster.balancers() {
        ensure!(balancer.run(&lost)?.is_empty(), "{} has lost a worker", balancer.name);
    }
    host.run(&format!("rm {file}; systemctl daemon-reload; systemctl restart {unit}"))?;
    Ok(Happened { worker: None, at, returned: host.started_at(unit)? })
}
