//! A worker over real sockets on the loopback, against a balancer whose every word the test decides.
#![expect(clippy::unwrap_used, reason = "in a test a failed step is a failed test")]

mod admission;
mod attach;
mod compute;
mod daemon;
mod discovery;
mod draining;
mod fake_registry;
mod harness;
mod probes;
mod registering;
mod reporting;
mod strict;
mod whole;
