//! One pick or one call, in each of the ways.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

use lb_client::Balanced;
use lb_core::token::METADATA_KEY;
use lb_proto::v1::{PickRequest, load_balancer_client::LoadBalancerClient};

use crate::echo::{EchoClient, Message, SERVICE};

/// Something that is done again and again; clones do it at the same time, on the same connections.
pub(super) trait Operation: Clone + Send + 'static {
    /// Does it once.
    fn once(&mut self) -> impl Future<Output = Result<(), Status>> + Send;
}

/// A connection of tonic's, as any client would open it.
pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    endpoint.connect().await.with_context(|| format!("cannot connect to {address}"))
}

/// A call to each of several channels in turn: a static list, or one proxy.
#[derive(Debug, Clone)]
pub(super) struct CallInTurn {
    clients: Vec<EchoClient<Channel>>,
    next: Arc<AtomicUsize>,
    message: Message,
}

impl CallInTurn {
    pub(super) fn new(channels: Vec<Channel>, message: Message) -> Self {
        let clients = channels.into_iter().map(EchoClient::new).collect();
        Self { clients, next: Arc::default(), message }
    }
}

impl Operation for CallInTurn {
    async fn once(&mut self) -> Result<(), Status> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len();
        self.clients[turn].call(self.message.clone()).await.map(drop)
    }
}

/// A call through the client library.
#[derive(Debug, Clone)]
pub(super) struct CallBalanced {
    client: EchoClient<Balanced>,
    message: Message,
}

impl CallBalanced {
    pub(super) fn new(channel: Balanced, message: Message) -> Self {
        Self { client: EchoClient::new(channel), message }
    }
}

impl Operation for CallBalanced {
    async fn once(&mut self) -> Result<(), Status> {
        self.client.call(self.message.clone()).await.map(drop)
    }
}

/// A pick over a session. Nobody is called: the balancer hears that the pick was not used.
#[derive(Debug, Clone)]
pub(super) struct PickBySession(pub(super) Balanced);

impl Operation for PickBySession {
    async fn once(&mut self) -> Result<(), Status> {
        self.0.pick().await.map(drop)
    }
}

/// A unary Pick.
#[derive(Debug, Clone)]
pub(super) struct PickUnary(LoadBalancerClient<Channel>);

impl PickUnary {
    pub(super) fn new(channel: Channel) -> Self {
        Self(LoadBalancerClient::new(channel))
    }
}

impl Operation for PickUnary {
    async fn once(&mut self) -> Result<(), Status> {
        self.0
            .pick(PickRequest { service: SERVICE.into(), ..PickRequest::default() })
            .await
            .map(drop)
    }
}

/// A unary Pick, then the call: what a client in any language does without a library.
#[derive(Debug, Clone)]
pub(super) struct CallByPick {
    balancer: LoadBalancerClient<Channel>,
    workers: Arc<Mutex<HashMap<String, EchoClient<Channel>>>>,
    message: Message,
}

impl CallByPick {
    pub(super) fn new(balancer: Channel, message: Message) -> Self {
        Self { balancer: LoadBalancerClient::new(balancer), workers: Arc::default(), message }
    }

    fn worker(&self, address: String) -> Result<EchoClient<Channel>, Status> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = workers.get(&address) {
            return Ok(known.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|error| Status::internal(error.to_string()))?;
        let client = EchoClient::new(endpoint.tcp_nodelay(true).connect_lazy());
        workers.insert(address, client.clone());
        Ok(client)
    }
}

impl Operation for CallByPick {
    async fn once(&mut self) -> Result<(), Status> {
        let wanted = PickRequest { service: SERVICE.into(), ..PickRequest::default() };
        let picked = self.balancer.pick(wanted).await?.into_inner();
        let best = picked.choices.into_iter().next();
        let best = best.ok_or_else(|| Status::internal("a pick without a worker"))?;
        let mut request = Request::new(self.message.clone());
        let token = best.token.parse().map_err(|_| Status::internal("a token that is no text"))?;
        request.metadata_mut().insert(METADATA_KEY, token);
        self.worker(best.address)?.call(request).await.map(drop)
    }
}

/// An empty message there and back on one stream. Answers come in order, so whoever has waited
/// longest gets the next one.
#[derive(Debug, Clone)]
pub(super) struct EchoStream {
    sender: mpsc::UnboundedSender<Message>,
    waiting: Arc<Mutex<VecDeque<oneshot::Sender<()>>>>,
}

impl EchoStream {
    pub(super) async fn open(channel: Channel) -> anyhow::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let requests = UnboundedReceiverStream::new(receiver);
        let answers = EchoClient::new(channel).stream(requests).await?.into_inner();
        let waiting = Arc::default();
        tokio::spawn(hand_out(answers, Arc::clone(&waiting)));
        Ok(Self { sender, waiting })
    }
}

async fn hand_out(
    mut answers: Streaming<Message>,
    waiting: Arc<Mutex<VecDeque<oneshot::Sender<()>>>>,
) {
    while let Ok(Some(_)) = answers.message().await {
        let first = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        // Nobody waits any more when the load is over.
        first.map(|answer| answer.send(()));
    }
    // Whoever still waits learns that no answer comes.
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

impl Operation for EchoStream {
    async fn once(&mut self) -> Result<(), Status> {
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push_back(answer);
            let lost = |_| Status::unavailable("the stream has ended");
            self.sender.send(Message::default()).map_err(lost)?;
        }
        answered.await.map_err(|_| Status::unavailable("the stream has ended"))
    }
}
