//! What happens to a worker, or to its host.

use std::{
    thread::sleep,
    time::{Duration, SystemTime},
};

use anyhow::ensure;

use super::super::{cluster::Cluster, drill::Happened, load::now};
use crate::lab::{Host, Lost};

/// The worker that all these happen to.
const WORKER: usize = 1;
const UNIT: &str = "lb-worker.service";

/// What happened from `at` to `returned`.
fn happened(at: f64, returned: f64) -> Happened {
    Happened { worker: Some(WORKER), at, returned }
}

pub(super) fn stopped(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let host = cluster.worker(WORKER);
    let at = now();
    host.run(&format!("systemctl stop {UNIT}"))?;
    sleep(Duration::from_secs(2));
    host.run(&format!("systemctl start {UNIT}"))?;
    Ok(happened(at, host.started_at(UNIT)?))
}

pub(super) fn restarted(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let host = cluster.worker(WORKER);
    let at = now();
    host.run(&format!("systemctl restart {UNIT}"))?;
    Ok(happened(at, host.started_at(UNIT)?))
}

pub(super) fn drained(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let id = cluster.ids()[WORKER].clone();
    let at = now();
    // Under mTLS, balancers' hosts have the certificate of an administrator.
    let host = &cluster.balancers()[0];
    host.run(&format!("lbctl drain {id}"))?;
    sleep(Duration::from_secs(2));
    let returned = now();
    host.run(&format!("lbctl undrain {id}"))?;
    Ok(happened(at, returned))
}

pub(super) fn killed(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let host = cluster.worker(WORKER);
    let process = host.main_process(UNIT)?;
    let at = signal(host, "KILL", process)?;
    host.await_other_process(UNIT, process)?;
    Ok(happened(at, host.started_at(UNIT)?))
}

pub(super) fn frozen(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let host = cluster.worker(WORKER);
    let process = host.main_process(UNIT)?;
    let at = signal(host, "STOP", process)?;
    sleep(Duration::from_secs(10));
    let returned = signal(host, "CONT", process)?;
    ensure!(host.main_process(UNIT)? == process, "the watchdog was quicker");
    Ok(happened(at, returned))
}

pub(super) fn without_power(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let host = cluster.worker(WORKER);
    let at = now();
    host.cut_power()?;
    sleep(Duration::from_secs(5));
    host.boot()?;
    Ok(happened(at, host.started_at(UNIT)?))
}

pub(super) fn cut(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let host = cluster.worker(WORKER);
    let at = now();
    host.cable.cut()?;
    sleep(Duration::from_secs(30));
    let returned = now();
    host.cable.heal()?;
    Ok(happened(at, returned))
}

pub(super) fn silent(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    lose(cluster, Lost::Both, Duration::from_secs(10))
}

pub(super) fn sends_nothing(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    lose(cluster, Lost::Out, Duration::from_secs(10))
}

pub(super) fn receives_nothing(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    lose(cluster, Lost::In, Duration::from_secs(10))
}

pub(super) fn long_silent(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    lose(cluster, Lost::Both, Duration::from_secs(300))
}

fn lose(cluster: &mut Cluster, lost: Lost, time: Duration) -> anyhow::Result<Happened> {
    let host = cluster.worker(WORKER);
    let at = now();
    host.cable.lose(lost)?;
    sleep(time);
    let returned = now();
    host.cable.heal()?;
    Ok(happened(at, returned))
}

pub(super) fn moved(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let host = cluster.worker(WORKER);
    let (old, new) = ("10.90.0.14", "10.90.0.74");
    let other = if host.address == old { new } else { old };
    let at = host.move_to(other)?.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    Ok(happened(at, now()))
}

/// Sends a signal; says when, without the time it takes to get into the host.
fn signal(host: &Host, signal: &str, process: u32) -> anyhow::Result<f64> {
    let at = host.run(&format!("date +%s.%N; kill -{signal} {process}"))?;
    Ok(at.trim().parse()?)
}
