//! Picks and outcomes over one long stream.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use lb_core::policy::PolicyKind;
use lb_proto::v1::{
    ListWorkersRequest, Outcome, SessionOpen, SessionPick, SessionRequest, SessionResponse,
    load_balancer_client::LoadBalancerClient,
};

use crate::support::{Balancer, SERVICE};

pub(crate) struct Session {
    say: mpsc::Sender<SessionRequest>,
    answers: Streaming<SessionResponse>,
}

impl Session {
    async fn start(balancer: &Balancer) -> Self {
        let (say, said) = mpsc::channel(64);
        let mut client = LoadBalancerClient::new(balancer.channel.clone());
        let answers = client.session(ReceiverStream::new(said)).await.unwrap().into_inner();
        Self { say, answers }
    }

    pub(crate) async fn open(balancer: &Balancer) -> Self {
        let mut session = Self::start(balancer).await;
        let open = SessionOpen { service: SERVICE.into(), ..SessionOpen::default() };
        session.say(SessionRequest { open: Some(open), ..SessionRequest::default() }).await;
        assert!(session.answer().await.unwrap().opened.is_some());
        session
    }

    pub(crate) async fn say(&mut self, request: SessionRequest) {
        self.say.send(request).await.unwrap();
    }

    pub(crate) async fn pick(&mut self, ids: impl IntoIterator<Item = u64>) -> SessionResponse {
        let pick = |id| SessionPick { id, ..SessionPick::default() };
        let picks = ids.into_iter().map(pick).collect();
        self.say(SessionRequest { picks, ..SessionRequest::default() }).await;
        self.answer().await.unwrap()
    }

    pub(crate) async fn answer(&mut self) -> Result<SessionResponse, Status> {
        self.answers.message().await.map(|answer| answer.expect("the session goes on"))
    }
}

async fn estimates(balancer: &Balancer) -> Vec<u32> {
    let list = balancer.admin().list_workers(ListWorkersRequest {}).await.unwrap().into_inner();
    list.workers.iter().map(|worker| worker.estimate).collect()
}

fn outcome(worker_number: u32, sequence: u64, sent: bool) -> Outcome {
    Outcome { worker_number, sequence, sent, code: 0, latency_us: 1 }
}

#[tokio::test]
async fn picks_come_in_batches_and_workers_are_introduced_once() {
    let balancer = Balancer::start(PolicyKind::RoundRobin).await;
    let a = balancer.worker("a", 4001).await.accepted.worker_number;
    // The worker of the line above is gone again: only those with a live stream count.
    let _a = balancer.worker("a", 4001).await;
    let _b = balancer.worker("b", 4002).await;
    let mut session = Session::open(&balancer).await;
    let answer = session.pick(10..14).await;
    assert_eq!(answer.choices.iter().map(|choice| choice.id).collect::<Vec<_>>(), [10, 11, 12, 13]);
    assert_eq!(answer.workers.len(), 2);
    assert!(answer.choices.iter().all(|choice| choice.second != choice.worker_number));
    assert!(answer.choices.iter().all(|choice| choice.worker_number != a));
    let again = session.pick([20]).await;
    assert_eq!((again.workers.len(), again.choices.len()), (0, 1));
}

#[tokio::test]
async fn outcomes_take_the_estimate_back() {
    let balancer = Balancer::start(PolicyKind::PickFirst).await;
    let _worker = balancer.worker("a", 4001).await;
    let mut session = Session::open(&balancer).await;
    let choices = session.pick(0..4).await.choices;
    assert_eq!(estimates(&balancer).await, [4]);
    let number = choices[0].worker_number;
    let outcomes = vec![
        outcome(number, choices[0].sequence, true),
        outcome(number, choices[1].sequence, false),
        outcome(number + 7, 1, true),
    ];
    session.say(SessionRequest { outcomes, ..SessionRequest::default() }).await;
    // The answer to a pick on the same session comes after the outcomes have been handed over.
    session.pick([9]).await;
    assert_eq!(
        estimates(&balancer).await,
        [3],
        "two of five are over, a forged one does not count"
    );
}

#[tokio::test]
async fn calls_of_a_session_that_ended_count_until_the_worker_says_otherwise() {
    let balancer = Balancer::start(PolicyKind::PickFirst).await;
    let mut worker = balancer.worker("a", 4001).await;
    let mut session = Session::open(&balancer).await;
    session.pick(0..3).await;
    assert_eq!(estimates(&balancer).await, [3]);
    let Session { say, mut answers } = session;
    drop(say);
    // The balancer ends its half after it has handed over what was open.
    while answers.message().await.unwrap().is_some() {}
    worker.report_session(3, 1, 2).await;
    worker.drain().await;
    assert_eq!(estimates(&balancer).await, [2]);
}

#[tokio::test]
async fn a_worker_counts_a_session_pick_once() {
    let balancer = Balancer::start(PolicyKind::PickFirst).await;
    let mut worker = balancer.worker("a", 4001).await;
    let mut session = Session::open(&balancer).await;
    session.pick(0..3).await;
    worker.report_session(2, 0, 2).await;
    worker.report_session(3, 1, 2).await;
    let (_picked, expected) = worker.drain().await;
    assert_eq!(expected, 3);
    assert_eq!(estimates(&balancer).await, [2]);
}

#[tokio::test]
async fn picks_without_workers_fail_one_by_one() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let mut session = Session::open(&balancer).await;
    let answer = session.pick([7]).await;
    assert_eq!(answer.failures.len(), 1);
    let failure = &answer.failures[0];
    assert_eq!((failure.id, Code::from(failure.code)), (7, Code::NotFound));
    assert_eq!(failure.message, "service lb.v1.Compute: no worker offers this service");
    let _worker = balancer.worker("a", 4001).await;
    assert_eq!(session.pick([8]).await.choices.len(), 1, "the session goes on");
}

#[tokio::test]
async fn a_pick_out_of_range_fails_alone() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let _worker = balancer.worker("a", 4001).await;
    let mut session = Session::open(&balancer).await;
    let picks = vec![
        SessionPick { id: 1, affinity_key: "k".repeat(257), ..SessionPick::default() },
        SessionPick { id: 2, exclude: vec![0; 65], ..SessionPick::default() },
        SessionPick { id: 3, ..SessionPick::default() },
    ];
    session.say(SessionRequest { picks, ..SessionRequest::default() }).await;
    let answer = session.answer().await.unwrap();
    assert_eq!(answer.choices.iter().map(|choice| choice.id).collect::<Vec<_>>(), [3]);
    let failures: Vec<_> =
        answer.failures.iter().map(|failure| (failure.id, &*failure.message)).collect();
    assert_eq!(
        failures,
        [
            (1, "affinity_key has 257 bytes: expected at most 256"),
            (2, "exclude is a list of 65: expected at most 64"),
        ]
    );
}

#[tokio::test]
async fn what_a_session_may_not_say_ends_it() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let open = |service: &str| SessionRequest {
        open: Some(SessionOpen { service: service.into(), ..SessionOpen::default() }),
        ..SessionRequest::default()
    };
    let picks = |count| SessionRequest {
        picks: vec![SessionPick::default(); count],
        ..SessionRequest::default()
    };
    let cases = [
        (vec![picks(1)], "expected open in the first message"),
        (vec![open("not a service")], "open.service: service name"),
        (vec![open(SERVICE), open(SERVICE)], "open was already said on this session"),
        (vec![open(SERVICE), picks(1025)], "picks is a list of 1025: expected at most 1024"),
    ];
    for (requests, expected) in cases {
        let mut session = Session::start(&balancer).await;
        for request in requests {
            session.say(request).await;
        }
        let status = loop {
            if let Err(status) = session.answer().await {
                break status;
            }
        };
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(expected), "{status}");
    }
}

#[tokio::test]
async fn a_stopping_balancer_ends_sessions_with_a_reason() {
    let mut balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let mut session = Session::open(&balancer).await;
    balancer.stop().await;
    let status = session.answers.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the balancer is stopping"));
}
