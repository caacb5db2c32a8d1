//! Makes any tonic server a worker of the load balancer, in a few lines:
//!
//! ```no_run
//! # async fn run(routes: tonic::service::Routes) -> Result<(), Box<dyn std::error::Error>> {
//! use tokio_util::sync::CancellationToken;
//!
//! let worker = lb_worker::Worker::builder("greeter.Greeter").slots(4).build()?;
//! worker.serve(routes, CancellationToken::new()).await?; // returns after a full drain
//! # Ok(())
//! # }
//! ```
//!
//! What happens behind it:
//! - a [`layer`] around the server counts calls, runs `slots` of them at once, queues some and refuses the rest;
//! - the counters are the worker's [`load`];
//! - every balancer on the network is found, and one registration task each streams the load to it;
//! - on shutdown the worker drains: balancers first stop picking it, then it finishes what is on its way,
//!   then it leaves. No call fails.
//!
//! A service that is no tonic server becomes a worker by standing beside it ([`attach`]).
//!
//! [`compute`] is the service that the `lb-worker` daemon serves, and [`daemon`] is that daemon.

pub mod attach;
mod builder;
pub mod compute;
pub mod daemon;
mod drain;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod identity;
pub mod layer;
mod listen;
pub mod load;
pub mod orca;
mod presence;
mod probes;
mod registration;
mod server;
mod state;
mod usage;
mod worker;

pub use lb_discovery::Scope;
pub use lb_tls::{Choice, Identity, Mode, Peer, Role, Tls, TlsError};

pub use self::{
    builder::{BuildError, Builder},
    layer::CallInfo,
    listen::ListenError,
    server::ServerError,
    worker::{Control, ServeError, Worker},
};
