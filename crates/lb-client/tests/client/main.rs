//! The client library against fakes of both its counterparts, over real sockets on the loopback.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod balancer;
mod calls;
mod failover;
mod picks;
mod worker;

use std::{future::Future, net::SocketAddr, sync::Mutex, time::Duration};

use lb_client::{Balanced, CallInfo};
use lb_proto::v1::{
    Reverse, Sleep, Task, TaskResult, compute_client::ComputeClient, task::Kind, task_result::Value,
};
use tokio::{
    net::TcpSocket,
    runtime::{Builder, Runtime},
};
use tonic::Response;

use crate::balancer::FakeBalancer;

const SERVICE: &str = "lb.v1.Compute";
/// Longest wait for something that happens at once, on a machine that is busy otherwise.
const SOON: Duration = Duration::from_secs(20);

/// A runtime of its own for each fake: stopping it closes its sockets, like a killed process.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("happens soon")
}

async fn connect(balancers: &[&FakeBalancer]) -> Balanced {
    let addresses = balancers.iter().map(|balancer| balancer.address.to_string());
    Balanced::builder(SERVICE).balancers(addresses).wait(SOON).connect().await.unwrap()
}

fn client(channel: &Balanced) -> ComputeClient<Balanced> {
    ComputeClient::new(channel.clone())
}

fn reverse(text: &str) -> Task {
    Task { kind: Some(Kind::Reverse(Reverse { text: text.into() })) }
}

fn sleep(duration: Duration) -> Task {
    let duration_us = u64::try_from(duration.as_micros()).unwrap();
    Task { kind: Some(Kind::Sleep(Sleep { duration_us })) }
}

fn text(response: &Response<TaskResult>) -> &str {
    match &response.get_ref().value {
        Some(Value::Text(text)) => text,
        other => panic!("expected a text, got {other:?}"),
    }
}

fn info(response: &Response<TaskResult>) -> &CallInfo {
    response.extensions().get().expect("every response carries its CallInfo")
}

/// An address of the loopback where nobody listens, nor will: the port stays bound.
fn nobody() -> SocketAddr {
    static RESERVED: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    RESERVED.lock().unwrap().push(socket);
    address
}

/// An address of the loopback where nobody listens yet.
fn nobody_yet() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
