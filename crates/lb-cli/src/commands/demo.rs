//! `lbctl demo`: a cluster of real processes, one workload, three policies, one table and one page; or workers that come and go.

mod scale;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use lb_client::Balanced;
use lb_core::policy::PolicyKind;
use lb_proto::v1::{SetPolicyRequest, admin_client::AdminClient};

use crate::{
    context::Common,
    environment,
    failure::Failure,
    fleet::{Fleet, WorkerPlan},
    load::{self, End, Plan, RunResult, Shape},
    output::{check_writable, line, note, width},
    progress::Bar,
    report::Report,
    workload::{self, AdminProbe, Distribution, Task, Tasks},
};

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Calls for each policy
    #[arg(long, value_name = "COUNT", default_value_t = 900, conflicts_with = "scale")]
    requests: u64,
    /// Clients that call at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 20, conflicts_with = "scale")]
    clients: usize,
    /// Mean time of a task; times are exponentially distributed
    #[arg(long, value_name = "TIME", default_value = "40ms", value_parser = humantime::parse_duration)]
    task: Duration,
    /// Where to write the report
    #[arg(long, value_name = "FILE", default_value = "lb-demo-report.html")]
    report: PathBuf,
    /// Show workers that come and go with a load that grows and shrinks, instead of policies
    #[arg(long)]
    scale: bool,
    /// How long that takes
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration, requires = "scale")]
    scale_duration: Duration,
}

/// Slots of the demo's workers: unequal, as machines are.
const SLOTS: [u32; 4] = [4, 2, 8, 1];

/// What the demo compares.
const POLICIES: [PolicyKind; 3] =
    [PolicyKind::PickFirst, PolicyKind::RoundRobin, PolicyKind::LeastLoad];

/// The same tasks in every demo.
const SEED: u64 = 1;

pub(crate) async fn run(
    common: &Common,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    if arguments.scale {
        return scale::run(common, arguments, stop).await;
    }
    check_writable(&arguments.report)?;
    let workers: Vec<_> = (1..).zip(SLOTS).map(|(n, slots)| plan(n, slots, arguments)).collect();
    note(&format!(
        "starting lb-server and {} workers ({} slots) on the loopback …",
        workers.len(),
        SLOTS.map(|slots| slots.to_string()).join(", ")
    ));
    let started = stop.run_until_cancelled(Fleet::start(&workers)).await;
    let fleet = started.ok_or(Failure::Interrupted)??;
    let measured = measure(&fleet, arguments, stop).await;
    fleet.stop().await;
    let report = report(arguments, measured?);
    show(common, arguments, &report)?;
    if stop.is_cancelled() { Err(Failure::Interrupted) } else { Ok(()) }
}

fn plan(number: usize, slots: u32, arguments: &Arguments) -> WorkerPlan {
    // Every client may wait at one worker: pick_first sends them all to the first.
    let queue = u32::try_from(arguments.clients).unwrap_or(u32::MAX);
    WorkerPlan { id: format!("w{number}"), slots, queue, slowdown: 1.0 }
}

async fn measure(
    fleet: &Fleet,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> Result<Vec<RunResult>, Failure> {
    let channel =
        Balanced::builder(workload::SERVICE).search(fleet.search().clone()).connect().await?;
    let mut admin = AdminClient::new(fleet.balancer().await?);
    let mut runs = Vec::new();
    for policy in POLICIES {
        if stop.is_cancelled() {
            break;
        }
        admin.set_policy(SetPolicyRequest { policy: policy.name().into() }).await?;
        runs.push(one_run(policy, &channel, &admin, arguments, stop).await?);
    }
    Ok(runs)
}

async fn one_run(
    policy: PolicyKind,
    channel: &Balanced,
    admin: &AdminClient<Channel>,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> Result<RunResult, Failure> {
    let shape = Shape::Closed { clients: arguments.clients };
    let plan = Plan::new(policy.name(), shape, End::Requests(arguments.requests))
        .map_err(|error| tonic::Status::invalid_argument(error.to_string()))?;
    let bar = Bar::new(policy.name());
    let task = Task::Sleep(arguments.task);
    let target = Tasks::new(channel.clone(), task, Distribution::Exponential, SEED);
    let probe = AdminProbe::new(admin.clone());
    let result = load::run(&plan, target, probe, stop, |progress| bar.show(progress)).await;
    bar.finish();
    Ok(result)
}

fn report(arguments: &Arguments, runs: Vec<RunResult>) -> Report {
    let slots = (1..).zip(SLOTS).map(|(n, slots)| format!("w{n} has {slots}"));
    let description = format!(
        "{} calls from {} clients for each policy, to four workers of unequal slots ({}). Each call is a \
         sleep of {:?} on average, exponentially distributed, the same sequence for every policy. \
         One balancer, all on one machine, real processes that found one another by DNS-SD.",
        arguments.requests,
        arguments.clients,
        slots.collect::<Vec<_>>().join(", "),
        arguments.task
    );
    Report {
        title: "Three policies, one workload".into(),
        description,
        environment: environment::describe(),
        runs,
        spreads: Vec::new(),
    }
}

fn show(common: &Common, arguments: &Arguments, report: &Report) -> Result<(), Failure> {
    let path = &arguments.report;
    let page = report.html().context("cannot make the report")?;
    std::fs::write(path, page).map_err(|source| Failure::write(path, source))?;
    let shown = path.canonicalize().unwrap_or_else(|_| path.clone());
    if common.printer().is_json() {
        let json = report.json().context("cannot make the report")?;
        return Ok(line(&json)?);
    }
    line(&report.table(width()))?;
    line(&format!("\nplots: {}", shown.display()))?;
    Ok(())
}
