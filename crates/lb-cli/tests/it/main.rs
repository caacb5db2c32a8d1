//! Real processes on the loopback, found by DNS-SD, used as a person would.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod bench;
mod bench_fleet;
mod by_hand;
mod demo;
mod faults;
mod pki;
mod scale;
mod support;
