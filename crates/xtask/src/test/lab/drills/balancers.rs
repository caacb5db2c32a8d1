//! What happens to balancers. No call goes through them, so none may fail.

use std::{thread::sleep, time::Duration};

use super::super::{cluster::Cluster, drill::Happened, load::now};

const UNIT: &str = "lb-server.service";
/// The client whose balancer it happens to.
const CLIENT: usize = 0;

fn happened(at: f64, returned: f64) -> Happened {
    Happened { worker: None, at, returned }
}

pub(super) fn restarted(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let used = cluster.balancer_of(CLIENT)?;
    let host = cluster.balancer(used);
    let at = now();
    host.run(&format!("systemctl restart {UNIT}"))?;
    Ok(happened(at, host.started_at(UNIT)?))
}

pub(super) fn killed(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let used = cluster.balancer_of(CLIENT)?;
    let host = cluster.balancer(used);
    let process = host.main_process(UNIT)?;
    let at = now();
    host.run(&format!("kill -KILL {process}"))?;
    host.await_other_process(UNIT, process)?;
    Ok(happened(at, host.started_at(UNIT)?))
}

pub(super) fn without_power(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let used = cluster.balancer_of(CLIENT)?;
    let host = cluster.balancer(used);
    let at = now();
    host.cut_power()?;
    sleep(Duration::from_secs(5));
    host.boot()?;
    Ok(happened(at, host.started_at(UNIT)?))
}

pub(super) fn both_restarted(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let at = now();
    for host in cluster.balancers() {
        host.run(&format!("systemctl --no-block restart {UNIT}"))?;
    }
    for host in cluster.balancers() {
        // Waits for the job that is under way.
        host.run(&format!("systemctl start {UNIT}"))?;
    }
    Ok(happened(at, last_start(cluster)?))
}

pub(super) fn both_dead(cluster: &mut Cluster) -> anyhow::Result<Happened> {
    let at = now();
    for host in cluster.balancers() {
        host.run(&format!("systemctl kill --signal=KILL {UNIT}; systemctl stop {UNIT}"))?;
    }
    sleep(Duration::from_secs(30));
    for host in cluster.balancers() {
        host.run(&format!("systemctl start {UNIT}"))?;
    }
    Ok(happened(at, last_start(cluster)?))
}

fn last_start(cluster: &Cluster) -> anyhow::Result<f64> {
    let starts: anyhow::Result<Vec<f64>> =
        cluster.balancers().iter().map(|host| host.started_at(UNIT)).collect();
    Ok(starts?.into_iter().fold(f64::MIN, f64::max))
}
