//! A balancer that does as it is told: round robin over given workers, or silence, or refusal.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::{Stream, StreamExt as _};
use lb_proto::v1::{
    Assignment, Endpoint, Introduction, Outcome, PickRequest, PickResponse, SessionChoice,
    SessionFailure, SessionOpened, SessionPick, SessionRequest, SessionResponse, WatchRequest,
    load_balancer_server::{LoadBalancer, LoadBalancerServer},
};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::{TcpListenerStream, WatchStream};
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How picks are answered.
#[derive(Debug, Clone, Default)]
pub(crate) enum Mode {
    #[default]
    RoundRobin,
    Silent,
    Refuse(Code, &'static str),
}

#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) mode: Mode,
    /// Id and address; the number is the index plus one.
    pub(crate) workers: Vec<(String, String)>,
    /// Messages that carried picks.
    pub(crate) messages: usize,
    pub(crate) picks: Vec<SessionPick>,
    /// Picks answered with a worker.
    pub(crate) issued: u64,
}

#[derive(Clone)]
struct Service {
    id: String,
    script: Arc<Mutex<Script>>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    lists: watch::Receiver<Assignment>,
}

/// A running fake. Dropping it, or [`FakeBalancer::kill`], closes every socket at once.
pub(crate) struct FakeBalancer {
    pub(crate) address: SocketAddr,
    pub(crate) outcomes: mpsc::UnboundedReceiver<Outcome>,
    script: Arc<Mutex<Script>>,
    lists: watch::Sender<Assignment>,
    id: String,
    runtime: Option<Runtime>,
}

impl FakeBalancer {
    pub(crate) async fn start(id: &str, workers: &[(&str, SocketAddr)]) -> Self {
        Self::start_at(id, workers, ([127, 0, 0, 1], 0).into()).await
    }

    pub(crate) async fn start_at(
        id: &str,
        workers: &[(&str, SocketAddr)],
        address: SocketAddr,
    ) -> Self {
        let workers: Vec<(String, String)> =
            workers.iter().map(|(id, at)| ((*id).to_owned(), at.to_string())).collect();
        let (sender, outcomes) = mpsc::unbounded_channel();
        let (lists, receiver) = watch::channel(list(id, &workers));
        let script = Arc::new(Mutex::new(Script { workers, ..Script::default() }));
        let service = Service {
            id: id.to_owned(),
            script: Arc::clone(&script),
            outcomes: sender,
            lists: receiver,
        };
        let runtime = super::runtime();
        let (ready, bound) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            Server::builder()
                .add_service(LoadBalancerServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
        });
        let address = bound.await.unwrap();
        Self { address, outcomes, script, lists, id: id.to_owned(), runtime: Some(runtime) }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Changes the workers of later sessions and the list of those who watch.
    pub(crate) fn set_workers(&self, workers: &[(&str, SocketAddr)]) {
        let workers: Vec<(String, String)> =
            workers.iter().map(|(id, at)| ((*id).to_owned(), at.to_string())).collect();
        self.lists.send_replace(list(&self.id, &workers));
        self.script().workers = workers;
    }

    /// Closes every socket; done when it returns.
    pub(crate) async fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let stop = move || runtime.shutdown_timeout(super::SOON);
            tokio::task::spawn_blocking(stop).await.unwrap();
        }
    }

    pub(crate) async fn outcome(&mut self) -> Outcome {
        super::soon(self.outcomes.recv()).await.unwrap()
    }
}

impl Drop for FakeBalancer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn list(id: &str, workers: &[(String, String)]) -> Assignment {
    let endpoint = |(id, address): &(String, String)| Endpoint {
        worker_id: id.clone(),
        address: address.clone(),
        slots: 1,
        weight: 1.0,
        estimate: 0,
    };
    Assignment {
        generation: 1,
        balancer_id: id.to_owned(),
        policy: "round_robin".into(),
        endpoints: workers.iter().map(endpoint).collect(),
    }
}

impl Service {
    fn answer(&self, request: SessionRequest, is_first: bool) -> Option<SessionResponse> {
        for outcome in request.outcomes {
            let _ = self.outcomes.send(outcome);
        }
        let mut script = self.script.lock().unwrap();
        let mut response = SessionResponse::default();
        if is_first {
            assert!(request.open.is_some(), "the first message opens the session");
            response.opened = Some(SessionOpened { balancer_id: self.id.clone() });
        }
        let named = |(index, (id, address)): (usize, &(String, String))| Introduction {
            worker_number: number(index),
            worker_id: id.clone(),
            address: address.clone(),
        };
        response.workers = script.workers.iter().enumerate().map(named).collect();
        script.messages += usize::from(!request.picks.is_empty());
        script.picks.extend(request.picks.iter().cloned());
        match script.mode.clone() {
            Mode::Silent => return is_first.then_some(response),
            Mode::Refuse(code, message) => {
                let refuse = |pick: SessionPick| SessionFailure {
                    id: pick.id,
                    code: code.into(),
                    message: message.into(),
                };
                response.failures = request.picks.into_iter().map(refuse).collect();
            }
            Mode::RoundRobin => {
                for pick in request.picks {
                    match choose(&mut script, &pick) {
                        Some(choice) => response.choices.push(choice),
                        None => response.failures.push(SessionFailure {
                            id: pick.id,
                            code: Code::Unavailable.into(),
                            message: "nobody takes calls".into(),
                        }),
                    }
                }
            }
        }
        Some(response)
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap() + 1
}

fn choose(script: &mut Script, pick: &SessionPick) -> Option<SessionChoice> {
    let count = script.workers.len();
    let eligible: Vec<u32> =
        (0..count).map(number).filter(|number| !pick.exclude.contains(number)).collect();
    if eligible.is_empty() {
        return None;
    }
    let turn = usize::try_from(script.issued).unwrap() % eligible.len();
    script.issued += 1;
    let second = if eligible.len() > 1 { eligible[(turn + 1) % eligible.len()] } else { 0 };
    Some(SessionChoice {
        id: pick.id,
        worker_number: eligible[turn],
        sequence: script.issued,
        second,
    })
}

#[tonic::async_trait]
impl LoadBalancer for Service {
    type SessionStream = BoxStream<SessionResponse>;
    type WatchStream = BoxStream<Assignment>;

    async fn pick(&self, _: Request<PickRequest>) -> Result<Response<PickResponse>, Status> {
        Ok(Response::new(PickResponse { balancer_id: self.id.clone(), ..PickResponse::default() }))
    }

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let service = self.clone();
        let answers = request.into_inner().enumerate().filter_map(move |(index, message)| {
            let answer = message.ok().and_then(|message| service.answer(message, index == 0));
            std::future::ready(answer.map(Ok))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(WatchStream::new(self.lists.clone()).map(Ok))))
    }
}
