//! Scalers, made by hand: who is let in, what they are told, and what becomes of hosts.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use lb_core::{
    policy::PolicyKind,
    scale::{RawSettings, Settings},
};
use lb_proto::v1::{
    Goodbye, HostPlan, HostReport, InstanceReport, InstanceState, ManualSetting, ObeyedPlan,
    ScaleMode, ScaleStatusRequest, ScaleStatusResponse, ScalerHello, ScalerMessage, ScalerOrder,
    SetScaleRequest, scaler_message::Kind as Said, scaler_order::Kind as Told,
    scaling_client::ScalingClient,
};
use lb_server::{Limits, ScaleSettings};

use crate::support::{Balancer, SERVICE, until};

/// Nothing awaited here takes longer; a failure shows as an error and not as a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// A balancer that plans as soon as it has heard of a host.
async fn balancer() -> Balancer {
    let raw = RawSettings { settle: Duration::ZERO, ..RawSettings::default() };
    let service = SERVICE.parse().unwrap();
    let scale = ScaleSettings { service, planner: Settings::parse(raw).unwrap() };
    let limits = Limits { sessions: 10, watchers: 10, ..Limits::default() };
    Balancer::start_scaling(PolicyKind::LeastLoad, limits, scale).await
}

fn hello(host: &str) -> ScalerHello {
    ScalerHello {
        host_id: host.into(),
        instance: 1,
        cluster: "test".into(),
        services: vec![SERVICE.into()],
        max: 4,
        executor: "hand".into(),
        ..ScalerHello::default()
    }
}

/// One instance for each worker, numbered from 1.
fn report(workers: &[&str]) -> HostReport {
    let instances = workers.iter().zip(1..).map(|(worker, number)| InstanceReport {
        number,
        worker_id: (*worker).into(),
        state: InstanceState::Running.into(),
        reason: String::new(),
    });
    HostReport { instances: instances.collect(), free_memory: 1 << 30, ..HostReport::default() }
}

struct Scaler {
    say: mpsc::Sender<ScalerMessage>,
    told: Streaming<ScalerOrder>,
}

impl Scaler {
    async fn open(balancer: &Balancer, hello: ScalerHello) -> Self {
        let (say, said) = mpsc::channel(16);
        let mut client = ScalingClient::new(balancer.channel.clone());
        say.try_send(ScalerMessage { kind: Some(Said::Hello(hello)) }).unwrap();
        let told = client.offer(ReceiverStream::new(said)).await.unwrap().into_inner();
        Self { say, told }
    }

    /// One that is let in, with these workers.
    async fn with(balancer: &Balancer, hello: ScalerHello, workers: &[&str]) -> Self {
        let mut scaler = Self::open(balancer, hello).await;
        assert!(matches!(scaler.next().await, Ok(Some(Told::Accepted(_)))));
        scaler.say(Said::Report(report(workers))).await;
        scaler
    }

    async fn say(&self, kind: Said) {
        self.say.send(ScalerMessage { kind: Some(kind) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<Option<Told>, Status> {
        let next = timeout(PATIENCE, self.told.message()).await.expect("it says nothing");
        next.map(|order| order.and_then(|order| order.kind))
    }

    /// The first plan that is as wanted; the last report is repeated meanwhile, as a heartbeat.
    async fn plan(&mut self, report: &HostReport, wanted: impl Fn(&HostPlan) -> bool) -> HostPlan {
        let planned = async {
            loop {
                self.say(Said::Report(report.clone())).await;
                let next = timeout(Duration::from_millis(500), self.told.message()).await;
                let Ok(next) = next else { continue };
                if let Some(Told::Plan(plan)) = next.unwrap().and_then(|order| order.kind)
                    && wanted(&plan)
                {
                    return plan;
                }
            }
        };
        timeout(PATIENCE, planned).await.expect("no such plan comes")
    }

    async fn refused(balancer: &Balancer, hello: ScalerHello) -> (Code, String) {
        let mut scaler = Self::open(balancer, hello).await;
        let Ok(Some(Told::Refused(refused))) = scaler.next().await else { panic!("it is let in") };
        let status = scaler.next().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (refused.code.into(), &*refused.reason));
        (status.code(), refused.reason)
    }
}

async fn status(balancer: &Balancer) -> ScaleStatusResponse {
    balancer.admin().scale_status(ScaleStatusRequest {}).await.unwrap().into_inner()
}

fn numbers(plan: &HostPlan) -> Vec<u32> {
    plan.instances.iter().map(|instance| instance.number).collect()
}

#[tokio::test]
async fn who_offers_nonsense_is_told_what_is_wrong() {
    let balancer = balancer().await;
    let _there = Scaler::with(&balancer, hello("there"), &[]).await;
    for (hello, code, said) in [
        (
            ScalerHello { min: 5, ..hello("a") },
            Code::InvalidArgument,
            "hello.min is 5: expected at most hello.max, which is 4",
        ),
        (
            ScalerHello { cluster: "other".into(), ..hello("a") },
            Code::FailedPrecondition,
            "hello.cluster is other: this balancer serves cluster test",
        ),
        (
            ScalerHello { services: vec!["other.S".into()], ..hello("a") },
            Code::FailedPrecondition,
            "hello.services does not name lb.v1.Compute, the service that this balancer scales",
        ),
        (
            ScalerHello { instance: 2, ..hello("there") },
            Code::AlreadyExists,
            "host id there is taken by a live scaler",
        ),
    ] {
        let (found, reason) = Scaler::refused(&balancer, hello).await;
        assert!(found == code && reason.starts_with(said), "{found:?}: {reason}");
    }
    let mut scaler = Scaler::with(&balancer, hello("a"), &[]).await;
    let twice = InstanceReport { number: 1, state: 1, ..InstanceReport::default() };
    let nonsense = HostReport { instances: vec![twice.clone(), twice], ..HostReport::default() };
    scaler.say(Said::Report(nonsense)).await;
    let status = loop {
        if let Err(status) = scaler.next().await {
            break status;
        }
    };
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("1, twice: expected each number once"), "{status}");
}

#[tokio::test]
async fn what_runs_is_kept_and_what_is_set_by_hand_is_planned() {
    let balancer = balancer().await;
    let _worker = balancer.worker("w", 4001).await;
    let mut scaler = Scaler::with(&balancer, hello("h"), &["w"]).await;
    let plan = scaler.plan(&report(&["w"]), |plan| plan.generation > 0).await;
    assert_eq!((numbers(&plan), plan.desired, plan.manual), (vec![1], 1, None));
    let shown = status(&balancer).await;
    assert_eq!((shown.desired, shown.ready, shown.hosts.len()), (Some(1), 1, 1));
    let instance = &shown.hosts[0].instances[0];
    assert_eq!(
        (&*instance.state, &*instance.worker_id, instance.wanted),
        ("registered", "w", true)
    );

    let set = SetScaleRequest { mode: ScaleMode::Set.into(), count: 3 };
    balancer.admin().set_scale(set).await.unwrap();
    let plan = scaler.plan(&report(&["w"]), |plan| plan.desired == 3).await;
    assert_eq!(numbers(&plan), [1, 2, 3]);
    let manual = plan.manual.unwrap();
    assert_eq!((manual.mode(), manual.count, manual.generation), (ScaleMode::Set, 3, 1));
    assert_eq!(plan.reason, "set to 3 by hand");
    let unset = SetScaleRequest { mode: ScaleMode::Unspecified.into(), count: 0 };
    let refused = balancer.admin().set_scale(unset).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("mode is not set: expected"), "{refused}");
}

#[tokio::test]
async fn a_new_balancer_hears_from_scalers_what_was_set_and_plans_above_what_they_obey() {
    let balancer = balancer().await;
    let mut scaler = Scaler::with(&balancer, hello("h"), &[]).await;
    let manual = ManualSetting { mode: ScaleMode::Set.into(), count: 2, generation: 7 };
    let obeyed = ObeyedPlan { balancer_id: "b-before".into(), generation: 41 };
    let report = HostReport { manual: Some(manual), obeyed: Some(obeyed), ..report(&[]) };
    let plan = scaler.plan(&report, |plan| plan.desired == 2).await;
    assert!(plan.generation > 41, "{plan:?}");
    assert_eq!(plan.manual, Some(manual));
    assert_eq!((status(&balancer).await.mode(), numbers(&plan)), (ScaleMode::Set, vec![1, 2]));
}

#[tokio::test]
async fn a_host_without_its_scaler_stays_while_its_workers_are_registered() {
    let balancer = balancer().await;
    let worker = balancer.worker("w", 4001).await;
    let mut events = balancer.events().await;
    let mut scaler = Scaler::with(&balancer, hello("h"), &["w"]).await;
    scaler.plan(&report(&["w"]), |plan| plan.generation > 0).await;
    scaler.say(Said::Goodbye(Goodbye::default())).await;
    while scaler.next().await.unwrap().is_some() {}
    let shown = status(&balancer).await;
    assert_eq!((shown.hosts.len(), shown.ready), (1, 1), "{shown:?}");
    // It comes back as another process, and what it runs is what it ran.
    let again = ScalerHello { instance: 2, ..hello("h") };
    let mut scaler = Scaler::with(&balancer, again, &["w"]).await;
    let plan = scaler.plan(&report(&["w"]), |plan| plan.generation > 0).await;
    assert_eq!(numbers(&plan), [1]);
    drop(scaler);
    drop(worker);
    until(&mut events, "worker_lost").await;
    let gone = async { while !status(&balancer).await.hosts.is_empty() {} };
    timeout(PATIENCE, gone).await.expect("the host is still there");
}

#[tokio::test]
async fn a_scaler_that_is_silent_is_gone() {
    let balancer = balancer().await;
    let mut scaler = Scaler::with(&balancer, hello("h"), &[]).await;
    let status = loop {
        if let Err(status) = scaler.next().await {
            break status;
        }
    };
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(status.message(), "this scaler was silent for three heartbeats");
}

/// A host has one scaler; who says to be many does not get all places, nor the time to plan for them.
#[tokio::test]
async fn an_address_has_few_scalers() {
    let balancer = balancer().await;
    let mut scalers = Vec::new();
    let most = Limits::default().per_peer.div_ceil(64);
    for number in 0..most {
        scalers.push(Scaler::with(&balancer, hello(&format!("h{number}")), &[]).await);
    }
    let mut client = ScalingClient::new(balancer.channel.clone());
    let status = client.offer(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("scalers for this address"), "{status}");
}
