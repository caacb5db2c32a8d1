//! What the demo calls, and how it watches the workers meanwhile.

use std::time::Duration;

use fastrand::Rng;
use tonic::transport::Channel;

use lb_client::Balanced;
use lb_proto::v1::{
    Sleep, Task, WorkerInfo, admin_client::AdminClient, compute_client::ComputeClient, task::Kind,
};

use crate::{
    failure::code_name,
    fleet,
    load::{Probe, Sample, Target, WorkerReading},
};

/// The service that the demo calls.
pub(super) const SERVICE: &str = "lb.v1.Compute";

/// A task takes at most this many times its mean, lest one draw decide a run.
const LONGEST: f64 = 8.0;

/// Sleeps of random length; the same index sleeps as long in every run.
#[derive(Clone)]
pub(super) struct Tasks {
    client: ComputeClient<Balanced>,
    mean: Duration,
}

impl Tasks {
    pub(super) fn new(channel: Balanced, mean: Duration) -> Self {
        Self { client: ComputeClient::new(channel), mean }
    }

    fn duration(&self, index: u64) -> Duration {
        let uniform = Rng::with_seed(index).f64();
        self.mean.mul_f64((-(1.0 - uniform).ln()).min(LONGEST))
    }
}

impl Target for Tasks {
    async fn call(&self, index: u64) -> Sample {
        let duration_us = u64::try_from(self.duration(index).as_micros()).unwrap_or(u64::MAX);
        let task = Task { kind: Some(Kind::Sleep(Sleep { duration_us })) };
        match self.client.clone().run(task).await {
            Ok(response) => {
                let result = response.into_inner();
                let micros = Duration::from_micros;
                Sample::ok()
                    .on_worker(result.worker_id)
                    .with_server_times(micros(result.queued_us), micros(result.service_us))
            }
            Err(status) => Sample::failed(code_name(status.code())),
        }
    }
}

/// Reads the workers through the balancer.
pub(super) struct AdminProbe {
    admin: AdminClient<Channel>,
}

impl AdminProbe {
    pub(super) fn new(admin: AdminClient<Channel>) -> Self {
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
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_mean_is_the_mean() {
        let mean = |index| -(1.0 - fastrand::Rng::with_seed(index).f64()).ln();
        let sum: f64 = (0..20_000).map(mean).sum();
        assert!((0.97..1.03).contains(&(sum / 20_000.0)), "{}", sum / 20_000.0);
    }
}
