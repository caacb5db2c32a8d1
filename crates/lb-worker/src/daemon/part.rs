//! The part that this process plays: it serves the built-in tasks, or stands beside another service.

use std::fmt;

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::service::Routes;

use lb_proto::v1::compute_server::ComputeServer;
use lb_tls::Tls;

use super::{spawn, watchdog};
use crate::{
    Control, ServeError, Worker,
    attach::Attached,
    compute::{ComputeService, Slowdown},
};

#[derive(Debug)]
pub(super) enum Part {
    Own(Worker, Slowdown),
    Attached(Attached),
}

impl Part {
    pub(super) fn control(&self) -> Control {
        match self {
            Self::Own(worker, _) => worker.control(),
            Self::Attached(attached) => attached.control(),
        }
    }

    pub(super) fn readiness(&self) -> watch::Receiver<bool> {
        match self {
            Self::Own(worker, _) => worker.readiness(),
            Self::Attached(attached) => attached.readiness(),
        }
    }

    /// Feeds systemd's watchdog while this process does its work.
    pub(super) fn watchdog(&self, tls: Tls) -> AbortOnDropHandle<()> {
        match self {
            Self::Own(worker, _) => spawn(watchdog::feed(worker.address(), tls)),
            Self::Attached(attached) => spawn(watchdog::feed_on(attached.looks())),
        }
    }

    pub(super) async fn serve(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        match self {
            Self::Own(worker, slowdown) => {
                let compute = ComputeService::new(worker.id().clone()).slowdown(slowdown);
                worker.serve(Routes::new(ComputeServer::new(compute)), shutdown).await
            }
            Self::Attached(attached) => attached.serve(shutdown).await,
        }
    }
}

/// For people, in the status of the service. lb-scaler reads the id in it.
impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(worker, _) => {
                write!(formatter, "worker {} on {}", worker.id(), worker.address())
            }
            Self::Attached(attached) => {
                write!(formatter, "worker {} beside {}", attached.id(), attached.address())
            }
        }
    }
}
