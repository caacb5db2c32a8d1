//! `lbctl workers`.

use clap::Args;
use serde_json::{Value, json};

use lb_proto::v1::{ListWorkersRequest, WorkerInfo, admin_client::AdminClient};

use crate::{context::Common, failure::Failure, output::table};

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Tell why each worker is, or is not, in rotation
    #[arg(long)]
    why: bool,
}

const HEAD: [&str; 13] = [
    "WORKER",
    "STATE",
    "ADDRESS",
    "SLOTS",
    "SHARE",
    "IN FLIGHT",
    "QUEUED",
    "ESTIMATE",
    "PICKS",
    "DONE",
    "FAILED",
    "CPU",
    "AGE",
];

pub(crate) async fn run(common: &Common, arguments: &Arguments) -> Result<(), Failure> {
    let mut admin = AdminClient::new(common.balancer().await?);
    let list = admin.list_workers(ListWorkersRequest {}).await?.into_inner();
    let mut text = if list.workers.is_empty() {
        "no workers are registered".to_owned()
    } else if arguments.why {
        let rows = list
            .workers
            .iter()
            .map(|worker| vec![worker.worker_id.clone(), worker.state.clone(), worker.why.clone()]);
        table(&["WORKER", "STATE", "WHY"], rows.collect())
    } else {
        table(&HEAD, list.workers.iter().map(row).collect())
    };
    if common.verbose {
        let (balancer, cluster, policy) = (&list.balancer_id, &list.cluster, &list.policy);
        text = format!("{text}\nbalancer {balancer} of cluster {cluster}, policy {policy}");
    }
    let json = json!({
        "balancer": list.balancer_id,
        "cluster": list.cluster,
        "policy": list.policy,
        "workers": list.workers.iter().map(as_json).collect::<Vec<_>>(),
    });
    Ok(common.printer().print(&text, &json)?)
}

fn row(worker: &WorkerInfo) -> Vec<String> {
    vec![
        worker.worker_id.clone(),
        worker.state.clone(),
        worker.address.clone(),
        worker.slots.to_string(),
        format!("{:.1} %", worker.share * 100.0),
        worker.in_flight.to_string(),
        worker.queued.to_string(),
        worker.estimate.to_string(),
        worker.issued.to_string(),
        worker.completed_total.to_string(),
        worker.errors_total.to_string(),
        format!("{:.0} %", worker.cpu * 100.0),
        format!("{} ms", worker.report_age_ms),
    ]
}

fn as_json(worker: &WorkerInfo) -> Value {
    json!({
        "id": worker.worker_id,
        "number": worker.worker_number,
        "state": worker.state,
        "why": worker.why,
        "address": worker.address,
        "services": worker.services,
        "slots": worker.slots,
        "share": worker.share,
        "in_flight": worker.in_flight,
        "queued": worker.queued,
        "estimate": worker.estimate,
        "issued": worker.issued,
        "completed_total": worker.completed_total,
        "errors_total": worker.errors_total,
        "faults_total": worker.faults_total,
        "ejections": worker.ejections,
        "busy_seconds": worker.busy_seconds,
        "cpu": worker.cpu,
        "memory": worker.memory,
        "report_age_ms": worker.report_age_ms,
        "zone": worker.zone,
        "labels": worker.labels,
        "version": worker.version,
    })
}
