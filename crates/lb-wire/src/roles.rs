//! The servers: each as its user would run it, on the loopback, at a free port.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    process, thread,
};

use anyhow::Context as _;
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{net::TcpListener, runtime};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};

use lb_client::Scope;
use lb_core::policy::PolicyKind;
use lb_runtime::logging;
use lb_server::{Limits, Settings};
use lb_worker::Worker;

use crate::echo::{Echo, EchoServer, SERVICE};

/// Nobody else is in this cluster; peers are given by address.
pub(crate) const CLUSTER: &str = "wire";
/// Calls that a worker runs at once: twice its share of the largest load here.
const SLOTS: u32 = 32;

/// A balancer's flags.
#[derive(Debug, Args)]
pub(crate) struct BalancerArguments {
    /// Write the log that the daemon writes
    #[arg(long)]
    log: bool,
}

/// A worker's flags.
#[derive(Debug, Args)]
pub(crate) struct WorkerArguments {
    /// The worker's id
    #[arg(long)]
    id: String,
    /// The balancer to register with
    #[arg(long, value_name = "ADDRESS")]
    balancer: SocketAddr,
    /// Calls that may wait in it; by default more than any load here has under way, so that none is refused
    #[arg(long, value_name = "COUNT", default_value_t = 4096)]
    queue: u32,
}

/// A bare server's flags.
#[derive(Debug, Args)]
pub(crate) struct BareArguments {
    /// Run on one thread, as the workers do; by default one for each core, as lb-server does
    #[arg(long)]
    single_threaded: bool,
}

/// Runs a balancer on as many threads as the daemon has.
pub(crate) fn balancer(arguments: &BalancerArguments) -> anyhow::Result<()> {
    allow_files()?;
    let _log = if arguments.log { Some(logging::init("lb-server", "info")?) } else { None };
    runtime::Runtime::new()?.block_on(async {
        let settings = Settings {
            listen: "127.0.0.1:0".into(),
            cluster: CLUSTER.parse()?,
            policy: PolicyKind::LeastLoad,
            scope: Scope::Loopback,
            limits: Limits::default(),
            tls: lb_server::Tls::open(),
            scale: lb_server::ScaleSettings::default(),
            xds_plain: None,
        };
        let server = lb_server::Server::bind(settings)?;
        let address = server.address();
        let ready = move || announce(address);
        Ok(server.run(CancellationToken::new(), ready, || {}).await?)
    })
}

/// Runs a worker on one thread.
pub(crate) fn worker(arguments: &WorkerArguments) -> anyhow::Result<()> {
    single_threaded()?.block_on(async {
        let worker = Worker::builder(SERVICE)
            .id(&arguments.id)
            .cluster(CLUSTER)
            .scope(Scope::Loopback)
            .slots(SLOTS)
            .queue(arguments.queue)
            .balancers([arguments.balancer.to_string()])
            .build()?;
        announce(worker.address());
        let routes = Routes::new(EchoServer::new(Echo));
        Ok(worker.serve(routes, CancellationToken::new()).await?)
    })
}

/// Runs the echo service behind tonic's server as it is.
pub(crate) fn bare(arguments: &BareArguments) -> anyhow::Result<()> {
    let runtime =
        if arguments.single_threaded { single_threaded() } else { runtime::Runtime::new() };
    runtime?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        announce(listener.local_addr()?);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = Server::builder().add_service(EchoServer::new(Echo));
        Ok(server.serve_with_incoming(incoming).await?)
    })
}

/// A runtime without further threads.
pub(crate) fn single_threaded() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// Lets this process have as many open files as the system allows it, as the units of the daemons do.
pub(crate) fn allow_files() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, all).context("cannot raise the limit of open files")
}

/// Tells whoever started this process where it listens, and ends together with them.
pub(crate) fn announce(address: SocketAddr) {
    let mut output = io::stdout();
    if writeln!(output, "{address}").and_then(|()| output.flush()).is_err() {
        process::exit(1);
    }
    thread::spawn(|| {
        wait_for_end();
        process::exit(0);
    });
}

/// Waits until nobody holds the standard input any more.
pub(crate) fn wait_for_end() {
    let mut ignored = [0; 64];
    while io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
}
