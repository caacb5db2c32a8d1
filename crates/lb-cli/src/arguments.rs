//! The command line of `lbctl`.

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        bench, demo, discover, drain, pick, pki, policy, report, run, scale, sim, workers,
        xds_bootstrap,
    },
    context::Common,
};

/// Try, watch, operate and measure the load balancer.
#[derive(Debug, Parser)]
#[command(name = "lbctl", version, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one task on the worker that the balancer picks
    Run(run::Arguments),
    /// List the balancers and workers that announce themselves by DNS-SD
    Discover(discover::Arguments),
    /// List the workers as the balancer sees them
    Workers(workers::Arguments),
    /// Ask the balancer once which worker to call
    Pick(pick::Arguments),
    /// Show the policy in force, or put another in force
    Policy(policy::Arguments),
    /// Take a worker out of rotation; it finishes what it has
    Drain(drain::Arguments),
    /// Take a drained worker back into rotation
    Undrain(drain::Arguments),
    /// Show, set, pause or resume how many workers there should be
    Scale(scale::Arguments),
    /// Make the certificates with which a cluster is strict
    Pki(pki::Arguments),
    /// Start a cluster on this machine, run one workload under three policies, and compare
    Demo(demo::Arguments),
    /// Run one scenario in the simulator, against oracles
    Sim(sim::Arguments),
    /// Measure
    Bench(bench::Arguments),
    /// Make one document of several results of bench run
    Report(report::Arguments),
    /// Write the file by which any gRPC library finds the balancers (xDS)
    XdsBootstrap(xds_bootstrap::Arguments),
}
