//! Workers: one that serves Compute and writes down who called, and ones that misbehave in HTTP/2.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use lb_proto::v1::{
    ResultChunk, Task, TaskResult,
    compute_server::{Compute, ComputeServer},
    task::Kind,
    task_result::Value,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::mpsc,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

#[derive(Clone)]
struct Service {
    id: String,
    /// Told of every call that arrives, with its token.
    calls: mpsc::UnboundedSender<Option<String>>,
}

/// A worker of the Compute service: reverses texts, sleeps, echoes, and fails sums.
pub(crate) struct FakeWorker {
    pub(crate) address: SocketAddr,
    pub(crate) calls: mpsc::UnboundedReceiver<Option<String>>,
    /// Connections accepted so far.
    pub(crate) connections: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl FakeWorker {
    pub(crate) async fn start(id: &str) -> Self {
        Self::start_at(id, ([127, 0, 0, 1], 0).into()).await
    }

    pub(crate) async fn start_at(id: &str, address: SocketAddr) -> Self {
        let (sender, calls) = mpsc::unbounded_channel();
        let service = Service { id: id.to_owned(), calls: sender };
        let runtime = super::runtime();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let (ready, bound) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            let incoming = TcpListenerStream::new(listener).inspect(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
            });
            Server::builder()
                .add_service(ComputeServer::new(service))
                .serve_with_incoming(incoming)
                .await
        });
        Self { address: bound.await.unwrap(), calls, connections, runtime: Some(runtime) }
    }

    /// Closes every socket; done when it returns.
    pub(crate) async fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let stop = move || runtime.shutdown_timeout(super::SOON);
            tokio::task::spawn_blocking(stop).await.unwrap();
        }
    }

    /// The token of the next call that arrives.
    pub(crate) async fn call(&mut self) -> Option<String> {
        super::soon(self.calls.recv()).await.unwrap()
    }
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Service {
    fn note<T>(&self, request: &Request<T>) {
        let token = request.metadata().get("lb-token");
        drop(self.calls.send(token.map(|token| token.to_str().unwrap().to_owned())));
    }
}

#[tonic::async_trait]
impl Compute for Service {
    type RunStreamStream = Pin<Box<dyn Stream<Item = Result<ResultChunk, Status>> + Send>>;

    async fn run(&self, request: Request<Task>) -> Result<Response<TaskResult>, Status> {
        self.note(&request);
        let value = match request.into_inner().kind {
            Some(Kind::Sleep(sleep)) => {
                tokio::time::sleep(Duration::from_micros(sleep.duration_us)).await;
                Value::ElapsedUs(sleep.duration_us)
            }
            Some(Kind::Reverse(reverse)) => Value::Text(reverse.text.chars().rev().collect()),
            Some(Kind::Echo(echo)) => Value::Payload(echo.payload),
            Some(Kind::Burn(burn)) => {
                let hint = Duration::from_micros(burn.cpu_us);
                return Err(lb_proto::retry::exhausted("full", hint));
            }
            _ => return Err(Status::resource_exhausted("no slot")),
        };
        let worker_id = self.id.clone();
        Ok(Response::new(TaskResult { value: Some(value), worker_id, queued_us: 0, service_us: 0 }))
    }

    async fn run_stream(
        &self,
        request: Request<Task>,
    ) -> Result<Response<Self::RunStreamStream>, Status> {
        self.note(&request);
        let first = ResultChunk { worker_id: self.id.clone(), ..ResultChunk::default() };
        let chunks = futures_util::stream::iter([Ok(first)]).chain(futures_util::stream::pending());
        Ok(Response::new(Box::pin(chunks)))
    }
}

/// How a raw worker treats its first call; all later ones it refuses to accept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trick {
    /// A reset with `REFUSED_STREAM`, after the whole request has been read.
    RefuseStream,
    /// GOAWAY that says no stream was looked at.
    GoAway,
    /// Closes the socket after the whole request has been read.
    HangUp,
    /// Keeps the socket and does nothing with it any more, after the whole request has been read.
    Freeze,
}

/// A worker that plays a trick on every connection. Counts the requests it saw.
pub(crate) struct RawWorker {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Mutex<usize>>,
}

impl RawWorker {
    pub(crate) async fn start(trick: Trick) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(play(socket, trick, Arc::clone(&counter)));
            }
        });
        Self { address, requests }
    }
}

async fn play(socket: TcpStream, trick: Trick, requests: Arc<Mutex<usize>>) {
    if let Trick::GoAway = trick {
        return go_away(socket).await;
    }
    let mut connection = h2::server::handshake(socket).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        *requests.lock().unwrap() += 1;
        let mut body = request.into_body();
        let read = async {
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
            }
        };
        tokio::select! {
            () = read => {}
            _ = std::future::poll_fn(|context| connection.poll_closed(context)) => {}
        }
        match trick {
            Trick::HangUp => return,
            Trick::Freeze => std::future::pending().await,
            _ => respond.send_reset(h2::Reason::REFUSED_STREAM),
        }
    }
}

/// By hand, because h2 only sends a GOAWAY for streams it has not seen.
async fn go_away(mut socket: TcpStream) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    // Empty SETTINGS, then the acknowledgement of the client's.
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let acknowledged = [0, 0, 0, 4, 1, 0, 0, 0, 0];
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    socket.write_all(&[settings, acknowledged].concat()).await.unwrap();
    let mut seen = Bytes::new();
    let mut buffer = vec![0; 4096];
    // Wait for a HEADERS frame: type 1 after the preface and the first frames.
    while !has_headers(&seen) {
        let size = socket.read(&mut buffer).await.unwrap();
        if size == 0 {
            return;
        }
        seen = [&seen, &buffer[..size]].concat().into();
    }
    socket.write_all(&goaway).await.unwrap();
    // Stay until the client has let go, so that GOAWAY is what it sees.
    while socket.read(&mut buffer).await.is_ok_and(|size| size > 0) {}
}

fn has_headers(seen: &[u8]) -> bool {
    const PREFACE: usize = 24;
    let mut rest = seen.get(PREFACE..).unwrap_or_default();
    while let [high, middle, low, kind, ..] = *rest {
        if kind == 1 {
            return true;
        }
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    false
}
