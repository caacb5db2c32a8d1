//! The load: picks or calls in one of the ways that a client has, and what each of them costs.
//!
//! One way per process, so that no measurement inherits what another has left in memory. After a
//! short warm-up the window opens: what ends within it counts, and CPU times are read at its edges.

mod pace;
mod recorder;
mod ways;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tonic::transport::Channel;

use lb_client::{Balanced, Source};
use lb_proto::v1::{WatchRequest, load_balancer_client::LoadBalancerClient};

use self::{
    pace::Pace,
    recorder::Recorder,
    ways::{CallBalanced, CallByPick, CallInTurn, EchoStream, Operation, PickBySession, PickUnary},
};
use crate::{
    cpu::{self, Named},
    echo::{Message, SERVICE},
    roles,
};

/// How long the workers may take to register.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest run, in seconds.
const LONGEST: u64 = 600;

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Picks or calls, and how
    #[arg(value_enum)]
    way: Way,
    /// Servers to call, for the ways that ask no balancer; several are called in turn
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    targets: Vec<SocketAddr>,
    /// The balancer, for the ways that ask one
    #[arg(long, value_name = "ADDRESS")]
    balancer: Option<SocketAddr>,
    /// Workers that the balancer must know before the load begins
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    workers: usize,
    /// Clients, each with connections of its own
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    clients: u32,
    /// Picks or calls under way at once, of each client
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    depth: u32,
    /// Begin so many a second instead, at random moments, whatever is still under way
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "depth", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// How long to measure
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
    seconds: u64,
    /// Make exactly so many instead, without a warm-up
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["rate", "seconds"])]
    count: Option<u64>,
    /// How long a call takes in the worker, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    service_ms: u32,
    /// Bytes that a call carries, in each direction
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1 << 20))]
    payload: u32,
    /// Count the CPU time of this process, too, under a name
    #[arg(long = "process", value_name = "NAME=PID")]
    processes: Vec<Named>,
}

/// The ways to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// An empty message there and back on one stream to the first target
    EchoStream,
    /// A unary Pick
    Pick,
    /// A pick of the client library, over its session
    PickSession,
    /// A call to the targets in turn, each over a channel of tonic's
    Call,
    /// A call through the client library, which picks from its list
    CallLocal,
    /// A call through the client library, which picks over its session
    CallSession,
    /// A unary Pick, then a call to the worker it names, over a channel of tonic's
    CallPick,
}

/// What a load has found out.
#[derive(Debug, Serialize)]
struct Measured {
    /// Picks or calls that ended well in the window.
    count: u64,
    /// Those that did not.
    failed: u64,
    /// Why the first of them did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_failure: Option<String>,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// How late the load itself began its calls, at a fixed rate: 99 % were sooner.
    #[serde(skip_serializing_if = "Option::is_none")]
    late_p99_us: Option<f64>,
    /// CPU time for each pick or call, by process.
    cpu_us: BTreeMap<String, f64>,
}

/// Makes the load and prints what it costs.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let measured = roles::single_threaded()?.block_on(measure(arguments))?;
    let mut output = std::io::stdout();
    serde_json::to_writer(&mut output, &measured)?;
    Ok(std::io::Write::write_all(&mut output, b"\n")?)
}

async fn measure(arguments: &Arguments) -> anyhow::Result<Measured> {
    if arguments.workers > 0 {
        registered(arguments).await?;
    }
    let message = || Message {
        payload: vec![0x5a; arguments.payload as usize].into(),
        service_ms: arguments.service_ms,
    };
    match arguments.way {
        Way::Call => {
            let client = async || Ok(CallInTurn::new(channels(arguments).await?, message()));
            go(arguments, client).await
        }
        Way::EchoStream => {
            let client = async || EchoStream::open(channels(arguments).await?.remove(0)).await;
            go(arguments, client).await
        }
        Way::Pick => go(arguments, async || Ok(PickUnary::new(balancer(arguments).await?))).await,
        Way::PickSession => {
            let client = async || Ok(PickBySession(balanced(arguments, Source::Session).await?));
            go(arguments, client).await
        }
        Way::CallLocal | Way::CallSession => {
            let local = arguments.way == Way::CallLocal;
            let source = if local { Source::Local } else { Source::Session };
            let client =
                async || Ok(CallBalanced::new(balanced(arguments, source).await?, message()));
            go(arguments, client).await
        }
        Way::CallPick => {
            let client = async || Ok(CallByPick::new(balancer(arguments).await?, message()));
            go(arguments, client).await
        }
    }
}

/// Makes one client after the other, and puts them to work.
async fn go<O: Operation>(
    arguments: &Arguments,
    client: impl AsyncFn() -> anyhow::Result<O>,
) -> anyhow::Result<Measured> {
    let mut clients = Vec::new();
    for _ in 0..arguments.clients {
        clients.push(client().await?);
    }
    let window = Duration::from_secs(arguments.seconds);
    let pace = match (arguments.count, arguments.rate) {
        (Some(count), _) => Pace::Count { depth: arguments.depth, count },
        (None, Some(per_second)) => Pace::Rate { per_second, window },
        (None, None) => Pace::Depth { depth: arguments.depth, window },
    };
    let recorder = Recorder::new()?;
    pace::run(pace, clients, &recorder, || cpu::used(&arguments.processes)).await?;
    recorder.summary()
}

/// Waits until the balancer knows all workers.
async fn registered(arguments: &Arguments) -> anyhow::Result<()> {
    let mut client = LoadBalancerClient::new(balancer(arguments).await?);
    let all = async {
        let watch = client.watch(WatchRequest { service: SERVICE.into() }).await?;
        let mut lists = watch.into_inner();
        while let Some(list) = lists.message().await? {
            if list.endpoints.len() >= arguments.workers {
                return Ok(());
            }
        }
        anyhow::bail!("the balancer ended the list of workers")
    };
    let waited = tokio::time::timeout(PATIENCE, all).await;
    waited.with_context(|| format!("not {} workers within {PATIENCE:?}", arguments.workers))?
}

async fn balanced(arguments: &Arguments, source: Source) -> anyhow::Result<Balanced> {
    let address = arguments.balancer.context("this way needs --balancer")?;
    let builder = Balanced::builder(SERVICE).balancers([address.to_string()]).picks(source);
    Ok(builder.connect().await?)
}

async fn balancer(arguments: &Arguments) -> anyhow::Result<Channel> {
    ways::connect(arguments.balancer.context("this way needs --balancer")?).await
}

async fn channels(arguments: &Arguments) -> anyhow::Result<Vec<Channel>> {
    ensure!(!arguments.targets.is_empty(), "this way needs --targets");
    let mut channels = Vec::new();
    for target in &arguments.targets {
        channels.push(ways::connect(*target).await?);
    }
    Ok(channels)
}
