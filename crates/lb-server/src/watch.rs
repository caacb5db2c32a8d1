//! `LoadBalancer.Watch`: the whole list of a service's workers, each time it changes.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tonic::Status;

use lb_core::{
    id::{BalancerId, ServiceName},
    snapshot::{Snapshot, Worker},
};
use lb_proto::v1::{Assignment, Endpoint};

/// Least time between two lists to one client: when many workers come at once, it gets a few lists, not one each.
const SPACING: Duration = Duration::from_millis(50);

/// Sends lists until the client goes.
pub(crate) async fn run(
    mut changes: watch::Receiver<Arc<Snapshot>>,
    balancer: BalancerId,
    service: ServiceName,
    answers: mpsc::Sender<Result<Assignment, Status>>,
) {
    let mut last: Option<Assignment> = None;
    loop {
        let next = assignment(&changes.borrow_and_update().clone(), &balancer, &service);
        if last.as_ref().is_none_or(|last| differs(last, &next)) {
            last = Some(next.clone());
            if answers.send(Ok(next)).await.is_err() {
                return;
            }
            sleep(SPACING).await;
        }
        let more = tokio::select! {
            next = changes.changed() => next.is_ok(),
            () = answers.closed() => false,
        };
        if !more {
            return;
        }
    }
}

fn assignment(snapshot: &Snapshot, balancer: &BalancerId, service: &ServiceName) -> Assignment {
    let workers = snapshot.service(service.as_str()).map_or(&[][..], |view| view.workers());
    Assignment {
        generation: snapshot.generation,
        balancer_id: balancer.to_string(),
        policy: snapshot.policy.to_string(),
        endpoints: workers.iter().map(endpoint).collect(),
    }
}

fn endpoint(worker: &Worker) -> Endpoint {
    Endpoint {
        worker_id: worker.id.to_string(),
        address: worker.address.to_string(),
        slots: worker.slots.into(),
        weight: worker.weight,
        estimate: worker.estimate(),
    }
}

/// Whether a client would act otherwise. The estimate is of the moment and does not count.
fn differs(last: &Assignment, next: &Assignment) -> bool {
    let same = |a: &Endpoint, b: &Endpoint| Endpoint { estimate: b.estimate, ..a.clone() } == *b;
    last.policy != next.policy
        || last.endpoints.len() != next.endpoints.len()
        || !last.endpoints.iter().zip(&next.endpoints).all(|(a, b)| same(a, b))
}
