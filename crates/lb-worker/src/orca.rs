//! Load as gRPC itself speaks of it (ORCA, Open Request Cost Aggregation): what a worker says of itself, and what it reads of a
//! service that it stands beside.
//!
//! Balancers of ours take reports of our own protocol, which are exact to the call. These are for everybody else: a stream of
//! reports (`xds.service.orca.v3.OpenRcaService`), and one in the trailers of each call that carries no token, for clients that weigh
//! workers by themselves (gRPC's `weighted_round_robin`). Native clients do not pay for them.

use std::{pin::Pin, time::Duration};

use http::HeaderMap;
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_stream::{Stream, StreamExt as _, wrappers::IntervalStream};
use tonic::{
    Request, Response, Status,
    metadata::{MetadataMap, MetadataValue},
};

use crate::{load::Load, usage::Usage};

#[expect(unreachable_pub, reason = "generated; what is of use is named below")]
#[expect(clippy::pedantic, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/orca.rs"));
}

pub use generated::xds::{
    data::orca::v3::OrcaLoadReport,
    service::orca::v3::{OrcaLoadReportRequest, open_rca_service_client, open_rca_service_server},
};
use open_rca_service_server::{OpenRcaService, OpenRcaServiceServer};

/// Encoded `FileDescriptorSet` of these types, for server reflection.
pub(crate) const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orca.bin"));

/// The metric, of those without a fixed meaning, that says how many calls are inside. ORCA has no field for it.
pub const IN_FLIGHT: &str = "in_flight";

/// The report of a call stands in its trailers under this name.
const TRAILER: &str = "endpoint-load-metrics-bin";

/// The least time between two reports of a stream: CPU and rates are sampled no more often.
const INTERVAL_LEAST: Duration = Duration::from_secs(1);
/// And the most, so that a client can tell a slow worker from a dead one.
const INTERVAL_MOST: Duration = Duration::from_secs(60);

/// More calls than this are not believed: no server has as many.
const CALLS_MOST: f64 = 1e6;

/// What this worker says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    load: Load,
    usage: watch::Receiver<Usage>,
}

impl Reports {
    pub(crate) fn new(load: Load, usage: watch::Receiver<Usage>) -> Self {
        Self { load, usage }
    }

    pub(crate) fn service(self) -> OpenRcaServiceServer<Self> {
        OpenRcaServiceServer::new(self)
    }

    /// Adds the report of this moment to the trailers of a call.
    pub(crate) fn add_to(&self, trailers: &mut HeaderMap) {
        let mut metadata = MetadataMap::from_headers(std::mem::take(trailers));
        metadata.insert_bin(TRAILER, MetadataValue::from_bytes(&self.now().encode_to_vec()));
        *trailers = metadata.into_headers();
    }

    fn now(&self) -> OrcaLoadReport {
        let (load, usage) = (self.load.view(Instant::now()), *self.usage.borrow());
        OrcaLoadReport {
            cpu_utilization: usage.cpu,
            mem_utilization: usage.memory,
            rps_fractional: usage.calls_per_second,
            eps: usage.errors_per_second,
            application_utilization: f64::from(load.in_flight) / f64::from(self.load.slots()),
            named_metrics: [(IN_FLIGHT.to_owned(), f64::from(load.in_flight))].into(),
            ..OrcaLoadReport::default()
        }
    }
}

#[tonic::async_trait]
impl OpenRcaService for Reports {
    type StreamCoreMetricsStream =
        Pin<Box<dyn Stream<Item = Result<OrcaLoadReport, Status>> + Send>>;

    async fn stream_core_metrics(
        &self,
        request: Request<OrcaLoadReportRequest>,
    ) -> Result<Response<Self::StreamCoreMetricsStream>, Status> {
        let wanted = request.into_inner().report_interval;
        let wanted = wanted.and_then(|wanted| Duration::try_from(wanted).ok()).unwrap_or_default();
        let mut ticks = interval(wanted.clamp(INTERVAL_LEAST, INTERVAL_MOST));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reports = self.clone();
        let stream = IntervalStream::new(ticks).map(move |_| Ok(reports.now()));
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Calls inside a server of so many slots, as its report has it; `None` if it says nothing of them.
pub(crate) fn in_flight(report: &OrcaLoadReport, slots: u16) -> Option<u32> {
    let calls = report.named_metrics.get(IN_FLIGHT).copied().or_else(|| {
        let share = report.application_utilization;
        (share > 0.0).then(|| share * f64::from(slots))
    })?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range, or not a number, which becomes 0"
    )]
    let calls = calls.round().clamp(0.0, CALLS_MOST) as u32;
    Some(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(in_flight: Option<f64>, application_utilization: f64) -> OrcaLoadReport {
        let named_metrics = in_flight.map(|calls| (IN_FLIGHT.to_owned(), calls)).into_iter();
        OrcaLoadReport {
            named_metrics: named_metrics.collect(),
            application_utilization,
            ..OrcaLoadReport::default()
        }
    }

    #[test]
    fn calls_are_read_as_they_are_told() {
        assert_eq!(in_flight(&report(Some(3.0), 0.9), 8), Some(3));
        assert_eq!(in_flight(&report(Some(0.0), 0.9), 8), Some(0));
        assert_eq!(in_flight(&report(None, 1.5), 8), Some(12));
        assert_eq!(in_flight(&report(None, 0.0), 8), None, "as good as not set");
        for nonsense in [f64::NAN, -1.0] {
            assert_eq!(in_flight(&report(Some(nonsense), 0.0), 8), Some(0));
        }
        assert_eq!(in_flight(&report(Some(f64::INFINITY), 0.0), 8), Some(1_000_000));
    }

    #[tokio::test]
    async fn a_trailer_is_added_to_what_is_there() {
        let load = Load::new(4, 0, Instant::now());
        let _call = load.arrive(None, Instant::now()).unwrap();
        let usage = Usage { cpu: 0.25, calls_per_second: 7.0, ..Usage::default() };
        let reports = Reports::new(load, watch::Sender::new(usage).subscribe());
        let mut trailers = HeaderMap::from_iter([(
            "grpc-status".parse().unwrap(),
            http::HeaderValue::from_static("0"),
        )]);
        reports.add_to(&mut trailers);
        assert_eq!(trailers["grpc-status"], "0");
        let metadata = MetadataMap::from_headers(trailers);
        let bytes = metadata.get_bin(TRAILER).unwrap().to_bytes().unwrap();
        let told = OrcaLoadReport::decode(bytes).unwrap();
        assert_eq!((told.cpu_utilization, told.rps_fractional), (0.25, 7.0));
        assert_eq!((told.application_utilization, told.named_metrics[IN_FLIGHT]), (0.25, 1.0));
    }
}
