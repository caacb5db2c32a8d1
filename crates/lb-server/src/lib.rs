//! The balancer: it knows who is there and how loaded, and tells clients whom to call.
//!
//! One task, the owner, holds the registry and takes every change as an event. What picks need is in
//! an immutable snapshot that the owner replaces; picks read it and never wait for the owner. The gRPC services
//! are thin: they parse, ask the owner or the snapshot, and answer.

mod admin;
mod balancer;
mod config;
pub mod daemon;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod limits;
mod owner;
mod registration;
mod requests;
mod scaling;
mod server;
mod session;
mod status;
mod two_sizes;
mod watch;
mod xds;

pub use lb_tls::Tls;

pub use config::{Limits, ScaleSettings, Settings};
pub use server::{Control, Server, ServerError};
