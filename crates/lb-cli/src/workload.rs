//! What the demo and the bench call, and how they watch the workers meanwhile.

use std::time::Duration;

use fastrand::Rng;
use tonic::{Status, transport::Channel};

use lb_client::{Balanced, CallInfo, WORKER_METADATA_KEY};
use lb_proto::v1::{self, WorkerInfo, admin_client::AdminClient, compute_client::ComputeClient};

use crate::{
    failure::code_name,
    fleet,
    load::{Probe, Sample, Target, WorkerReading},
};

mod task;

pub(crate) use task::{Distribution, Task};

/// The service that offers the tasks.
pub(crate) const SERVICE: &str = "lb.v1.Compute";

/// Tasks of varying length; the same index takes as long in every run of the same seed.
#[derive(Clone)]
pub(crate) struct Tasks {
    client: ComputeClient<Balanced>,
    task: Task,
    distribution: Distribution,
    seed: u64,
}

impl Tasks {
    pub(crate) fn new(
        channel: Balanced,
        task: Task,
        distribution: Distribution,
        seed: u64,
    ) -> Self {
        Self { client: ComputeClient::new(channel), task, distribution, seed }
    }

    fn task(&self, index: u64) -> Task {
        // The seed is spread over all bits: neighbouring seeds must not share their tasks.
        let mut random = Rng::with_seed(Rng::with_seed(self.seed).u64(..) ^ index);
        self.task.drawn(self.distribution, &mut random)
    }
}

impl Target for Tasks {
    async fn call(&self, index: u64) -> Sample {
        let task = v1::Task { kind: Some(self.task(index).to_proto()) };
        let response = match self.client.clone().run(task).await {
            Ok(response) => response,
            Err(status) => return failed(&status),
        };
        let pick = response.extensions().get::<CallInfo>().map(|info| info.pick_duration);
        let result = response.into_inner();
        let micros = Duration::from_micros;
        let sample = Sample::ok()
            .on_worker(result.worker_id)
            .with_server_times(micros(result.queued_us), micros(result.service_us));
        match pick {
            Some(pick) => sample.with_pick(pick),
            None => sample,
        }
    }
}

fn failed(status: &Status) -> Sample {
    let sample = Sample::failed(code_name(status.code()));
    let worker = status.metadata().get(WORKER_METADATA_KEY).and_then(|id| id.to_str().ok());
    match worker {
        Some(worker_id) => sample.on_worker(worker_id),
        None => sample,
    }
}

/// Reads the workers through the balancer.
pub(crate) struct AdminProbe {
    admin: AdminClient<Channel>,
}

impl AdminProbe {
    pub(crate) fn new(admin: AdminClient<Channel>) -> Self {
        Self { admin }
    }
}

impl Probe for AdminProbe {
    async fn read(&mut self) -> Vec<WorkerReading> {
        let workers = fleet::list(&mut self.admin).await.unwrap_or_default();
        workers.into_iter().map(reading).collect()
    }
}

fn reading(worker: WorkerInfo) -> WorkerReading {
    WorkerReading {
        worker_id: worker.worker_id,
        slots: worker.slots,
        in_flight: worker.in_flight,
        busy_slots: worker.in_flight.saturating_sub(worker.queued),
        cpu: worker.cpu,
        busy_seconds: worker.busy_seconds,
        age: Duration::from_millis(worker.report_age_ms),
    }
}
