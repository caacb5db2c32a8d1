//! Failing workers: out by what several clients tell, or by what they report themselves.

use tonic::Code;

use lb_core::policy::PolicyKind;
use lb_proto::v1::{ListWorkersRequest, Outcome, SessionRequest, WorkerInfo};

use crate::{
    sessions::Session,
    support::{Balancer, until},
};

impl Session {
    /// Picks `count` times and tells that every call to `worker` ended with `code`, every other one well.
    async fn call(&mut self, count: u64, worker: u32, code: Code) {
        let choices = self.pick(0..count).await.choices;
        let outcomes = choices.iter().map(|choice| Outcome {
            worker_number: choice.worker_number,
            sequence: choice.sequence,
            sent: true,
            code: if choice.worker_number == worker { code.into() } else { 0 },
            latency_us: 1,
        });
        let outcomes = outcomes.collect();
        self.say(SessionRequest { outcomes, ..SessionRequest::default() }).await;
    }
}

async fn listed(balancer: &Balancer, id: &str) -> WorkerInfo {
    let list = balancer.admin().list_workers(ListWorkersRequest {}).await.unwrap().into_inner();
    list.workers.into_iter().find(|worker| worker.worker_id == id).unwrap()
}

/// Waits until the balancer has heard of the end of all calls.
async fn outcomes_are_known(balancer: &Balancer) {
    while listed(balancer, "a").await.estimate + listed(balancer, "b").await.estimate > 0 {}
}

#[tokio::test]
async fn a_worker_that_fails_for_several_clients_is_out_and_says_why() {
    let balancer = Balancer::start(PolicyKind::RoundRobin).await;
    let a = balancer.worker("a", 4001).await;
    let _b = balancer.worker("b", 4002).await;
    let sick = a.accepted.worker_number;
    let mut events = balancer.events().await;
    let mut clients = [Session::open(&balancer).await, Session::open(&balancer).await];
    // One of them finds it well at first, so the other is not believed.
    clients[0].call(8, sick, Code::Ok).await;
    outcomes_are_known(&balancer).await;
    clients[1].call(8, sick, Code::Unavailable).await;
    outcomes_are_known(&balancer).await;
    assert_eq!(listed(&balancer, "a").await.state, "serving");
    clients[0].call(8, sick, Code::Unavailable).await;
    let event = until(&mut events, "worker_ejected").await;
    assert_eq!(event.worker_id, "a");
    assert!(event.message.starts_with("out for 1 s: "), "{event:?}");
    assert!(event.message.ends_with("several clients say, the last: UNAVAILABLE"), "{event:?}");
    let worker = listed(&balancer, "a").await;
    assert_eq!((&*worker.state, worker.ejections), ("ejected", 1));
    assert!(worker.why.starts_with("out of rotation: "), "{}", worker.why);
    assert!(worker.why.contains("; tried again in "), "{}", worker.why);
    let answer = clients[0].pick(100..110).await;
    assert!(answer.choices.iter().all(|choice| choice.worker_number != sick));
}

#[tokio::test]
async fn a_worker_that_reports_faults_is_out_though_no_client_tells() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let mut a = balancer.worker("a", 4001).await;
    let _b = balancer.worker("b", 4002).await;
    let mut events = balancer.events().await;
    a.report.completed_total = 5;
    a.report.errors_total = 5;
    a.report.faults_total = 5;
    a.send_report().await;
    let event = until(&mut events, "worker_ejected").await;
    assert_eq!(event.message, "out for 1 s: 5 of 5 calls failed, as it reports itself");
    assert_eq!(listed(&balancer, "a").await.faults_total, 5);
}
