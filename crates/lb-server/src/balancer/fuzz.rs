//! A client's and an operator's request from bytes, on a balancer that knows some workers.

use std::{cell::RefCell, collections::BTreeMap};

use futures_util::FutureExt as _;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use lb_core::{
    id::{BalancerId, ClientKey, ServiceName, WorkerId},
    load::{Hello, LoadReport, RawLoad, TokenCounts, WorkerState},
    policy::PolicyKind,
    time::Timestamp,
};
use lb_proto::v1::{
    DrainRequest, PickRequest, SessionRequest, SetPolicyRequest, WatchRequest,
    load_balancer_server::LoadBalancer as _,
};

use super::{Balancer, CHOICES_LIMIT};
use crate::{
    ScaleSettings,
    config::Limits,
    limits::Streams,
    owner::{Handle, Owner},
    registration::fuzz::assert_short,
    session::Session,
};

thread_local! {
    /// Made once: an input changes nothing but counters.
    static FLEET: RefCell<(Owner, Handle, Balancer)> = RefCell::new(fleet());
}

/// Reads a request of this kind and answers it.
pub fn request(kind: u8, bytes: &[u8]) {
    match kind {
        1 => with(bytes, pick),
        2 => with(bytes, session),
        3 => with(bytes, |request: WatchRequest| drop(request.service.parse::<ServiceName>())),
        4 => with(bytes, |request: SetPolicyRequest| drop(request.policy.parse::<PolicyKind>())),
        _ => with(bytes, |request: DrainRequest| drop(request.worker_id.parse::<WorkerId>())),
    }
}

fn with<M: Message + Default>(bytes: &[u8], take: impl Fn(M)) {
    if let Ok(message) = M::decode(bytes) {
        take(message);
    }
}

fn pick(request: PickRequest) {
    FLEET.with_borrow(|(_, _, balancer)| {
        let wanted = request.labels.clone();
        let exclude = request.exclude.clone();
        let answer =
            balancer.pick(Request::new(request)).now_or_never().expect("a pick never waits");
        match answer {
            Ok(response) => {
                let choices = response.into_inner().choices;
                assert!((1..=CHOICES_LIMIT as usize).contains(&choices.len()));
                for choice in &choices {
                    assert!(!exclude.contains(&choice.worker_id), "an excluded worker was picked");
                    let has = |(key, value): (&String, &String)| {
                        key == "gpu" && *value == choice.worker_id
                    };
                    assert!(wanted.iter().all(has), "a worker without the labels was picked");
                }
            }
            Err(status) => assert_short(status.message()),
        }
    });
}

/// Says the same twice, so that the second message finds a session that is open.
fn session(request: SessionRequest) {
    FLEET.with_borrow(|(_, handle, balancer)| {
        let mut session = Session::new(handle.clone(), balancer.id.clone(), ClientKey(1));
        let later = SessionRequest { open: None, ..request.clone() };
        for request in [request, later] {
            match session.answer(&request) {
                Ok(Some(response)) => {
                    assert_eq!(
                        response.choices.len() + response.failures.len(),
                        request.picks.len()
                    );
                    response.failures.iter().for_each(|failure| assert_short(&failure.message));
                }
                Ok(None) => assert!(request.picks.is_empty(), "a pick without an answer"),
                Err(status) => {
                    assert_short(status.message());
                    break;
                }
            }
        }
    });
    // It has told the owner what it left open.
    FLEET.with_borrow_mut(|(owner, ..)| owner.settle(Timestamp::default()));
}

/// Three workers of one service, each with a label of its own.
fn fleet() -> (Owner, Handle, Balancer) {
    let id: BalancerId = "lb-1".parse().expect("a label");
    let (mut owner, handle) =
        Owner::new(PolicyKind::LeastLoad, id.clone(), &ScaleSettings::default());
    for place in 1..=3_u16 {
        let id = format!("w{place}");
        let hello = Hello {
            labels: BTreeMap::from([("gpu".to_owned(), id.clone())]),
            id: id.parse().expect("a label"),
            instance: place.into(),
            address: ([10, 0, 0, 7], place).into(),
            services: vec!["a.B".parse().expect("a service name")],
            slots: place,
            zone: String::new(),
            version: String::new(),
        };
        owner.join(hello, idle(place), Timestamp::default());
    }
    let streams = Streams::new(Limits { sessions: 1, watchers: 1, ..Limits::default() });
    let balancer = Balancer {
        owner: handle.clone(),
        id,
        sessions: streams.sessions,
        watchers: streams.watchers,
        stop: CancellationToken::new(),
    };
    (owner, handle, balancer)
}

fn idle(slots: u16) -> LoadReport {
    LoadReport::parse(RawLoad {
        state: WorkerState::Serving,
        in_flight: 0,
        queued: 0,
        slots: slots.into(),
        picked: TokenCounts::default(),
        session: TokenCounts::default(),
        completed_total: 0,
        errors_total: 0,
        faults_total: 0,
        in_flight_integral: 0.0,
        busy_seconds: 0.0,
        cpu: 0.0,
        memory: 0.0,
    })
    .expect("it does nothing")
}
