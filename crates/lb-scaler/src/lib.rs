//! Starts and stops workers on a host, as the balancer plans.
//!
//! Decisions are the balancer's (`lb_core::scale`); this daemon compares what should run with what runs, and tells what it sees.
//!
//! - `registration` finds every balancer, offers the host to each, and hears their plans;
//! - `plans` chooses the one that counts: that of the balancer with the lowest id;
//! - `instances` says what to start and to stop: what is missing, what is too much, what has died, and when to give up;
//! - an `executor` carries that out, by systemd or by plain child processes;
//! - `manager` is the loop around them.
//!
//! Everything is level-triggered: each plan and each report is complete, so nothing is lost with a message.

pub mod daemon;
mod executor;
mod instances;
mod manager;
mod plans;
mod registration;
mod room;

pub use executor::processes::Program;
