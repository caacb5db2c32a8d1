//! One client's counts of how its calls ended.
//!
//! Such calls carry no token, so the workers they are in count them, as calls of others, and that is all that the estimate needs:
//! what the client says to have issued and in progress is not looked at, or each call would count twice. How they ended speaks of the
//! worker's health, together with what everybody else says of it.

use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use lb_core::{
    health::Hearsay,
    id::{ClientKey, WorkerNumber},
    snapshot::Snapshot,
};
use lb_xds::{
    proto::{ClusterStats, LoadStatsRequest, LoadStatsResponse, UpstreamLocalityStats},
    worker_of,
};

use super::REPORT_INTERVAL;
use crate::owner::{Event, Handle};

/// Most calls of one kind in one count that are believed: what a program can make in a second, many times over.
const MOST: u64 = 10_000_000;

/// Listens until the client goes.
pub(super) async fn run(
    mut reports: Streaming<LoadStatsRequest>,
    owner: Handle,
    client: ClientKey,
    answers: mpsc::Sender<Result<LoadStatsResponse, Status>>,
) {
    let interval = REPORT_INTERVAL.try_into().ok();
    let wish = LoadStatsResponse {
        clusters: vec![],
        load_reporting_interval: interval,
        send_all_clusters: true,
    };
    if answers.send(Ok(wish)).await.is_err() {
        return;
    }
    while let Ok(Some(report)) = reports.message().await {
        let all = heard(&owner.snapshot(), &report);
        if !all.is_empty() && owner.send(Event::Hearsay { client, all }).await.is_err() {
            return;
        }
    }
}

pub(super) fn heard(
    snapshot: &Snapshot,
    report: &LoadStatsRequest,
) -> Vec<(WorkerNumber, Hearsay)> {
    let of_service = |stats: &ClusterStats| {
        let view = snapshot.service(&stats.cluster_name).ok()?;
        let workers = view.workers();
        let of_worker = |stats: &UpstreamLocalityStats| {
            let id = worker_of(stats.locality.as_ref()?)?;
            let place = workers.binary_search_by(|worker| worker.id.cmp(&id)).ok()?;
            let ends = Hearsay {
                answered: stats.total_successful_requests.min(MOST),
                failed: stats.total_error_requests.min(MOST),
            };
            (ends != Hearsay::default()).then_some((workers[place].number, ends))
        };
        Some(stats.upstream_locality_stats.iter().filter_map(of_worker).collect::<Vec<_>>())
    };
    report.cluster_stats.iter().filter_map(of_service).flatten().collect()
}
