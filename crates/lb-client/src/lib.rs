//! A balanced channel for any tonic client.
//!
//! [`Balanced`] stands where tonic's own channel would: it finds a balancer by DNS-SD, asks it for a
//! worker before each call, and calls that worker directly. The balancer is never in the data path.
//! When it is lost, calls go on from the last list of workers it sent, for as long as it takes to find
//! it, or another one, again.
//!
//! ```no_run
//! use lb_proto::v1::{Task, compute_client::ComputeClient};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let channel = lb_client::Balanced::builder("lb.v1.Compute").cluster("lab").connect().await?;
//! let mut client = ComputeClient::new(channel);
//! let response = client.run(Task::default()).await?;
//! let info = response.extensions().get::<lb_client::CallInfo>();
//! println!("{:?} answered", info.map(|info| &info.worker_id));
//! # Ok(())
//! # }
//! ```
//!
//! The path of a call: `balanced` (the service) → `call` (one call, up to three workers) → `state`
//! (session, else list) → `session` or `local` → `connection` → `response`, which reports the
//! outcome. A call moves to another worker only when it is certain that none has looked at it.

mod assignment;
mod backoff;
mod balanced;
mod balancers;
mod builder;
mod call;
mod connection;
mod deadline;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod local;
mod pick;
mod replay;
mod response;
mod search;
mod session;
mod state;
mod worker;

pub use balanced::Balanced;
pub use balancers::{BalancerConnection, connect_balancer};
pub use builder::Builder;
pub use call::CallInfo;
pub use lb_discovery::Scope;
pub use lb_tls::{Choice, Mode, Tls, TlsError};
pub use pick::{Picked, Source};
pub use response::WORKER_METADATA_KEY;
pub use search::{
    ConnectError, DEFAULT_CLUSTER, DEFAULT_WAIT, FoundBalancer, FoundBalancers, Search,
};
