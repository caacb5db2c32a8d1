//! A gRPC service of your own behind the load balancer.
//!
//! Start `lb-server --local`, then in two more terminals
//!
//! ```text
//! cargo run --example greeter -- serve --local
//! cargo run --example greeter -- call --local World
//! ```
//!
//! Start `serve` as often as you like, and stop it when you like: no call fails. Without `--local` all of it
//! works across the machines of a network, with no address configured anywhere.

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes};

use lb_client::{Balanced, CallInfo};
use lb_worker::{Scope, Worker};

use self::proto::{
    GreetRequest, GreetResponse,
    greeter_client::GreeterClient,
    greeter_server::{Greeter, GreeterServer},
};

#[expect(clippy::pedantic, unreachable_pub, reason = "generated from greeter.proto")]
mod proto {
    tonic::include_proto!("greeter");
}

/// The service's full name: workers offer it, clients ask for it.
const SERVICE: &str = "greeter.Greeter";

struct Polite;

#[tonic::async_trait]
impl Greeter for Polite {
    async fn greet(
        &self,
        request: Request<GreetRequest>,
    ) -> Result<Response<GreetResponse>, Status> {
        let name = request.into_inner().name;
        if name.is_empty() {
            return Err(Status::invalid_argument("name is empty: expected somebody to greet"));
        }
        Ok(Response::new(GreetResponse { text: format!("Hello, {name}!") }))
    }
}

/// An ordinary tonic service, as a worker: balancers are found, told the load, and left in order.
async fn serve(scope: Scope) -> anyhow::Result<()> {
    let worker = Worker::builder(SERVICE).scope(scope).build()?;
    let shutdown = CancellationToken::new();
    let on_interrupt = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_interrupt.cancel();
        }
    });
    say(&format!("worker {} serves on {}", worker.id(), worker.address()));
    worker.serve(Routes::new(GreeterServer::new(Polite)), shutdown).await?;
    Ok(())
}

/// An ordinary tonic client, on a balanced channel.
async fn call(scope: Scope, name: String) -> anyhow::Result<()> {
    let channel = Balanced::builder(SERVICE).scope(scope).connect().await?;
    let mut client = GreeterClient::new(channel);
    let response = client.greet(GreetRequest { name }).await?;
    let worker = response.extensions().get::<CallInfo>().map(|call| call.worker_id.clone());
    say(&format!("{} (from {worker:?})", response.into_inner().text));
    Ok(())
}

/// A service of your own behind the load balancer.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
    /// Stay on this machine
    #[arg(long, global = true)]
    local: bool,
}

#[derive(Subcommand)]
enum Part {
    /// Be a worker
    Serve,
    /// Be a client
    Call {
        /// Whom to greet
        name: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { part, local } = Arguments::parse();
    let scope = if local { Scope::Loopback } else { Scope::Lan };
    match part {
        Part::Serve => serve(scope).await,
        Part::Call { name } => call(scope, name).await,
    }
}

#[expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]
fn say(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::oneshot, time::timeout};
    use tonic::Code;

    use lb_core::policy::PolicyKind;
    use lb_server::{Limits, Server, Settings};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A real balancer, which is found by DNS-SD on the loopback, in a cluster of its own.
    async fn balancer(cluster: &str, stop: CancellationToken) {
        let settings = Settings {
            listen: "127.0.0.1:0".into(),
            cluster: cluster.parse().unwrap(),
            policy: PolicyKind::RoundRobin,
            scope: Scope::Loopback,
            limits: Limits { sessions: 10, watchers: 10, ..Limits::default() },
            tls: lb_server::Tls::open(),
            scale: lb_server::ScaleSettings::default(),
            xds_plain: None,
        };
        let server = Server::bind(settings).unwrap();
        let (ready, is_ready) = oneshot::channel();
        let tell = move || ready.send(()).unwrap();
        tokio::spawn(async move { server.run(stop, tell, || {}).await.unwrap() });
        timeout(PATIENCE, is_ready).await.expect("the balancer does not start").unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn greetings_are_registered_balanced_and_called() {
        let cluster = format!("greet-{:08x}", fastrand::u32(..));
        let stop = CancellationToken::new();
        balancer(&cluster, stop.clone()).await;
        let mut workers = Vec::new();
        for number in 1..=2 {
            let described = Worker::builder(SERVICE).id(format!("{cluster}-{number}"));
            let worker = described.cluster(&cluster).scope(Scope::Loopback).build().unwrap();
            let mut ready = worker.readiness();
            let routes = Routes::new(GreeterServer::new(Polite));
            workers.push(tokio::spawn(worker.serve(routes, stop.clone())));
            timeout(PATIENCE, ready.wait_for(|ready| *ready)).await.unwrap().unwrap();
        }
        let channel = Balanced::builder(SERVICE).cluster(&cluster).scope(Scope::Loopback);
        let mut client = GreeterClient::new(channel.connect().await.unwrap());
        let mut answered = std::collections::BTreeSet::new();
        for _ in 0..10 {
            let response = client.greet(GreetRequest { name: "World".into() }).await.unwrap();
            let call = response.extensions().get::<CallInfo>().unwrap();
            answered.insert(call.worker_id.to_string());
            assert_eq!(response.into_inner().text, "Hello, World!");
        }
        assert_eq!(answered.len(), 2, "both workers took part: {answered:?}");
        let status = client.greet(GreetRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);

        stop.cancel();
        for worker in workers {
            timeout(PATIENCE, worker).await.expect("a worker does not stop").unwrap().unwrap();
        }
    }
}
