//! What an operator sees and orders.

use tonic::Code;

use lb_core::policy::PolicyKind;
use lb_proto::v1::{
    DrainRequest, GetPolicyRequest, ListWorkersRequest, PickRequest, SetPolicyRequest,
    UndrainRequest, WorkerState, load_balancer_client::LoadBalancerClient,
    registry_message::Kind as Answer,
};

use crate::support::{Balancer, SERVICE, until};

#[tokio::test]
async fn the_policy_is_shown_and_changed_at_run_time() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let mut admin = balancer.admin();
    let shown = admin.get_policy(GetPolicyRequest {}).await.unwrap().into_inner();
    assert_eq!(shown.policy, "least_load");
    assert_eq!(shown.available.len(), PolicyKind::ALL.len());
    let set = admin.set_policy(SetPolicyRequest { policy: "first".into() }).await.unwrap();
    assert_eq!(set.into_inner().policy, "pick_first");
    let shown = admin.get_policy(GetPolicyRequest {}).await.unwrap().into_inner();
    assert_eq!(shown.policy, "pick_first", "in force when the answer comes");
    let status = admin.set_policy(SetPolicyRequest { policy: "best".into() }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("policy: unknown policy \"best\": expected pick_first"));
}

#[tokio::test]
async fn a_drained_worker_is_out_at_once_and_back_when_it_says_so() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let mut worker = balancer.worker("a", 4001).await;
    let mut events = balancer.events().await;
    let mut admin = balancer.admin();
    let id = || "a".to_owned();
    let drained = admin.drain(DrainRequest { worker_id: id() }).await.unwrap().into_inner();
    assert_eq!(drained.outstanding, 0);
    let mut client = LoadBalancerClient::new(balancer.channel.clone());
    let pick = || PickRequest { service: SERVICE.into(), ..PickRequest::default() };
    assert_eq!(client.pick(pick()).await.unwrap_err().code(), Code::Unavailable);
    let Some(Answer::Order(order)) = worker.stream.answer().await.unwrap() else {
        panic!("expected an order")
    };
    assert_eq!(order.state(), WorkerState::Draining);
    worker.drain().await;
    let list = admin.list_workers(ListWorkersRequest {}).await.unwrap().into_inner();
    assert_eq!(list.workers[0].state, "draining");
    assert_eq!(list.workers[0].why, "out of rotation: finishes what it has");

    admin.undrain(UndrainRequest { worker_id: id() }).await.unwrap();
    let Some(Answer::Order(order)) = worker.stream.answer().await.unwrap() else {
        panic!("expected an order")
    };
    assert_eq!(order.state(), WorkerState::Serving);
    worker.report.set_state(WorkerState::Serving);
    worker.send_report().await;
    until(&mut events, "worker_serving").await;
    assert!(client.pick(pick()).await.is_ok());
}

#[tokio::test]
async fn unknown_and_unsound_ids_are_told_apart() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let mut admin = balancer.admin();
    let unknown = admin.drain(DrainRequest { worker_id: "ghost".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(unknown.message(), "no worker with id ghost is registered");
    let unsound = admin.undrain(UndrainRequest { worker_id: "a b".into() }).await.unwrap_err();
    assert_eq!(unsound.code(), Code::InvalidArgument);
    assert!(unsound.message().starts_with("worker_id: worker id \"a b\" is not valid"));
}

#[tokio::test]
async fn the_list_shows_what_workers_report() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let mut worker = balancer.worker("a", 4001).await;
    worker.report.in_flight = 3;
    worker.report.queued = 1;
    worker.report.cpu = 0.5;
    worker.report.completed_total = 9;
    worker.report.errors_total = 2;
    worker.send_report().await;
    worker.drain().await;
    let list = balancer.admin().list_workers(ListWorkersRequest {}).await.unwrap().into_inner();
    let shown = &list.workers[0];
    assert_eq!((shown.in_flight, shown.queued, shown.estimate), (3, 1, 3));
    assert_eq!((shown.completed_total, shown.errors_total), (9, 2));
    assert!((shown.cpu - 0.5).abs() < f64::EPSILON);
    assert_eq!(list.cluster, "test");
}
