//! The processes that `cargo xtask bench` starts: a balancer, workers with an echo service, a bare
//! server to compare with, the load that is put on them, and attackers.
//!
//! They are one program, so that one build makes all of them, and a crate of its own, so that xtask
//! stays quick to build. A server prints its address as its only line and runs until its standard
//! input is closed: no process outlives the one that started it.

mod cpu;
mod echo;
mod hostile;
mod load;
mod roles;

use clap::{Parser, Subcommand};

/// Processes of `cargo xtask bench`.
#[derive(Debug, Parser)]
#[command(name = "lb-wire")]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Be a balancer, on the loopback, found by address only
    Balancer(roles::BalancerArguments),
    /// Be a worker with the echo service
    Worker(roles::WorkerArguments),
    /// Be a tonic server with the echo service and nothing of ours
    Bare(roles::BareArguments),
    /// Make picks or calls, and print what they cost as one line of JSON
    Load(load::Arguments),
    /// Attack a balancer or a worker
    Hostile(hostile::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().role {
        Role::Balancer(arguments) => roles::balancer(&arguments),
        Role::Worker(arguments) => roles::worker(&arguments),
        Role::Bare(arguments) => roles::bare(&arguments),
        Role::Load(arguments) => load::run(&arguments),
        Role::Hostile(arguments) => hostile::run(&arguments),
    }
}
