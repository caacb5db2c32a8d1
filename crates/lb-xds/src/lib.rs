//! The balancer's lists as xDS resources, so that the gRPC library of any language follows its decisions unmodified.
//!
//! A client that is started with target `xds:///S` asks for the listener `S`, which leads to the cluster `S` and to its
//! endpoints. The first two say nothing but that (`resources`); the workers are in the third. Stock clients follow the weights of
//! localities and ignore those of endpoints, so each worker is a locality of its own, and what a policy can say to such a client is
//! a weight (`weights`).
//!
//! Everything here is pure: [`Builder`] turns snapshots into [`Lists`], [`Subscriptions`] turns lists and what one client
//! asks into answers. Streams and clocks are those of `lb-server`.

mod builder;
pub mod proto;
mod resources;
mod subscriptions;
mod weights;

pub use builder::{Builder, Lists};
pub use resources::{REGION, worker_of};
pub use subscriptions::{Kind, NAMES_LIMIT, Refused, Subscriptions};
pub use weights::SAMPLE;
