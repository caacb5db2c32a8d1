//! A real balancer on a real socket, spoken to as workers, clients and operators do.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod daemon;
mod health;
mod limits;
mod picks;
mod registration;
mod rights;
mod scaling;
mod sessions;
mod support;
mod xds;
