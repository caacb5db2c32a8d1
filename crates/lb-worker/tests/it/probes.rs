//! Health checks and reflection.

use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use lb_proto::v1::WorkerState;
use lb_worker::orca::{
    IN_FLIGHT, OrcaLoadReport, OrcaLoadReportRequest, open_rca_service_client::OpenRcaServiceClient,
};

use crate::{
    fake_registry::FakeRegistry,
    harness::{SERVICE, builder, gated, request, spawn_call},
};

/// Where the report of a call stands.
const TRAILER: &str = "endpoint-load-metrics-bin";

#[tokio::test]
async fn health_follows_the_state_and_does_not_hold_up_the_stop() {
    let mut registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).slots(1).queue(0));
    let mut stream = registry.accept(1, 60_000).await;
    stream.report().await;
    let mut health = HealthClient::new(worker.channel().await);
    let about = |service: &str| HealthCheckRequest { service: service.into() };
    let mut watch = health.watch(about("")).await.unwrap().into_inner();
    let status = watch.message().await.unwrap().unwrap();
    assert_eq!(status.status(), ServingStatus::Serving);
    // A full worker still answers, and health checks are not calls.
    let call = spawn_call(&worker.client().await, request(""));
    service.entered(1).await;
    let status = health.check(about("")).await.unwrap().into_inner();
    assert_eq!(status.status(), ServingStatus::Serving);
    service.release(1);
    call.await.unwrap().unwrap();
    worker.load_where(|load| load.completed_total == 1 && load.in_flight == 0).await;

    stream.order(WorkerState::Draining).await;
    let status = watch.message().await.unwrap().unwrap();
    assert_eq!(status.status(), ServingStatus::NotServing);
    let status = health.check(about(SERVICE)).await.unwrap().into_inner();
    assert_eq!(status.status(), ServingStatus::NotServing);
    drop(stream);
    worker.shutdown.cancel();
    worker.stopped().await;
    // The stream of the watch was cut, after whatever it still had to say.
    let cut = loop {
        match watch.message().await {
            Ok(Some(status)) => assert_eq!(status.status(), ServingStatus::NotServing),
            other => break other.unwrap_err(),
        }
    };
    assert_eq!(cut.code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let registry = FakeRegistry::start().await;
    let (worker, _service) = gated(builder(&registry).reflection(lb_proto::FILE_DESCRIPTOR_SET));
    let mut client = ServerReflectionClient::new(worker.channel().await);
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client.server_reflection_info(tokio_stream::once(question)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&SERVICE) && names.contains(&"grpc.health.v1.Health"), "{names:?}");
}

#[tokio::test]
async fn load_is_told_in_a_stream_that_takes_no_slot() {
    let registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).slots(1).queue(0));
    let call = spawn_call(&worker.client().await, request(""));
    service.entered(1).await;
    let mut client = OpenRcaServiceClient::new(worker.channel().await);
    let asked = client.stream_core_metrics(OrcaLoadReportRequest::default()).await.unwrap();
    let report = asked.into_inner().message().await.unwrap().unwrap();
    let told = (report.named_metrics.get(IN_FLIGHT), report.application_utilization);
    assert_eq!(told, (Some(&1.0), 1.0));
    service.release(1);
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_that_nobody_picked_are_told_the_load() {
    let registry = FakeRegistry::start().await;
    let (worker, service) = gated(builder(&registry).slots(2));
    service.release(2);
    let told = async |token| {
        let call = spawn_call(&worker.client().await, request(token));
        let answer = call.await.unwrap().unwrap();
        let report = answer.metadata().get_bin(TRAILER)?.to_bytes().unwrap();
        Some(<OrcaLoadReport as prost::Message>::decode(report).unwrap())
    };
    let report = told("").await.expect("no report in the trailers");
    assert_eq!(report.named_metrics.get(IN_FLIGHT), Some(&1.0), "itself");
    assert!(told("fake/7/p1").await.is_none(), "who has picked knows already");
}
