//! The pure core of a look-aside load balancer.
//!
//! Nothing here knows a clock, a runtime, a socket or a random number generator of its own: time
//! is an argument ([`time::Timestamp`]), randomness is an argument ([`fastrand::Rng`]), and
//! effects are values ([`registry::Output`]) that the caller carries out. The same code therefore
//! runs in the daemon, in the client library and in a simulator.
//!
//! Data flows one way: what arrives changes the [`registry::Registry`], which publishes an
//! immutable [`snapshot::Snapshot`]; picks read the snapshot and touch nothing but the
//! counters of the worker they chose.

pub mod allowance;
pub mod budget;
pub mod estimator;
pub mod health;
pub mod id;
pub mod load;
pub mod policy;
pub mod registry;
pub mod scale;
pub mod session;
pub mod snapshot;
pub mod time;
pub mod token;
