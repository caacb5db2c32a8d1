//! `lbctl bench fleet`: what many connected workers cost the balancer, and whether picks feel them.
//!
//! One real `lb-server` process, and all workers played by this process: each has a TCP connection and a registration
//! of its own and reports once a second ([`crew`]). Nobody calls them; what counts is the balancer.
//! Its CPU time and memory come from the kernel's account of its process, while nothing but reports arrives. Picks are
//! timed by themselves ([`probe`]): with a few workers, with all of them, and with a few again, since a
//! shared machine changes its own speed.
//!
//! Memory grows for some minutes, until reports have filled the buffer that HTTP/2 keeps for each connection;
//! a shorter measurement shows less than the final size.

use std::{
    convert::Infallible,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    context::Common,
    environment,
    failure::Failure,
    fleet::{Fleet, Memory},
    output::{note, table},
};

mod crew;
mod descriptors;
mod probe;

use crew::Crew;
use probe::Latencies;

/// How to measure.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Workers to connect
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(WORKERS))]
    workers: u32,
    /// How long each part of the measurement takes, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

/// At least some more than [`FEW`]; at most what one address can connect to another: Linux gives it 28,232 ports.
const WORKERS: RangeInclusive<i64> = 10..=25_000;

/// Workers connected while picks are timed without a fleet; there must be somebody to pick.
const FEW: u32 = 4;

/// How often the balancer's memory is looked at.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);

/// Share of the intended reports that must have been sent; below it, the figures are of another load than asked for.
const RATE_KEPT: f64 = 0.98;

/// What the balancer spends on reports.
#[derive(Debug, Serialize)]
struct Cost {
    core_share: f64,
    reports_per_second: f64,
    cpu_us_per_report: f64,
    /// The most seen.
    memory: Memory,
    kib_per_worker: f64,
}

/// How long picks take beside so many workers.
#[derive(Debug, Serialize)]
struct Picks {
    workers: u32,
    #[serde(flatten)]
    latencies: Latencies,
}

/// Everything found so far. Parts are missing after Ctrl-C.
#[derive(Debug, Default, Serialize)]
struct Findings {
    registered: u32,
    /// Workers that could not register or lost their stream, and what the first of them met.
    lost: u32,
    trouble: Option<String>,
    register_seconds: Option<f64>,
    memory_empty: Memory,
    cost: Option<Cost>,
    memory_after: Option<Memory>,
    picks: Vec<Picks>,
}

pub(crate) async fn run(
    common: &Common,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    descriptors::allow(arguments.workers)?;
    note("starting lb-server on the loopback …");
    let fleet = stop.run_until_cancelled(Fleet::start(&[])).await.ok_or(Failure::Interrupted)??;
    let mut found = Findings::default();
    let measured = measure(&fleet, arguments, stop, &mut found).await;
    fleet.stop().await;
    measured?;
    if found.registered == 0 {
        return Err(Failure::Interrupted);
    }
    let json = serde_json::json!({
        "environment": environment::describe(),
        "workers": arguments.workers,
        "seconds": arguments.seconds,
        "found": found,
    });
    Ok(common.printer().print(&text(arguments, &found), &json)?)
}

async fn measure(
    fleet: &Fleet,
    arguments: &Arguments,
    stop: &CancellationToken,
    found: &mut Findings,
) -> Result<(), Failure> {
    let time = Duration::from_secs(arguments.seconds);
    let (address, channel) = (fleet.balancer_address().await?, fleet.balancer().await?);
    found.memory_empty = fleet.balancer_memory()?;
    let cluster = &fleet.search().cluster;
    let few = Crew::start(&address, cluster, 0..FEW);
    few.gathered(stop).await;
    picks(&channel, FEW, time, stop, found).await?;

    let started = Instant::now();
    let many = Crew::start(&address, cluster, FEW..arguments.workers);
    many.gathered(stop).await;
    found.register_seconds = (!stop.is_cancelled()).then(|| started.elapsed().as_secs_f64());
    found.registered = few.registered() + many.registered();
    note(&format!("{} workers are registered; the balancer's own cost …", found.registered));
    found.cost = cost(fleet, &[&few, &many], time, stop, found).await?;
    picks(&channel, found.registered, time, stop, found).await?;
    (found.lost, found.trouble) = (many.lost(), many.trouble());

    note("the workers leave …");
    many.leave().await?;
    if !stop.is_cancelled() {
        picks(&channel, FEW, time, stop, found).await?;
        found.memory_after = Some(fleet.balancer_memory()?);
    }
    few.leave().await
}

async fn picks(
    channel: &Channel,
    workers: u32,
    time: Duration,
    stop: &CancellationToken,
    found: &mut Findings,
) -> Result<(), Failure> {
    if !stop.is_cancelled() {
        note(&format!("picks with {workers} workers connected …"));
        let latencies = probe::measure(channel, time, stop).await?;
        found.picks.push(Picks { workers, latencies });
    }
    Ok(())
}

/// Watches the balancer while only reports arrive; `None` if there was no time for it.
async fn cost(
    fleet: &Fleet,
    crews: &[&Crew],
    time: Duration,
    stop: &CancellationToken,
    found: &Findings,
) -> Result<Option<Cost>, Failure> {
    let reports = || crews.iter().map(|crew| crew.reports()).sum::<u64>();
    let (cpu_before, reports_before, started) = (fleet.balancer_cpu()?, reports(), Instant::now());
    let memory = most_memory(fleet, time, stop).await?;
    let Some(memory) = memory else { return Ok(None) };
    let (cpu, sent) =
        (fleet.balancer_cpu()?.saturating_sub(cpu_before), reports() - reports_before);
    let elapsed = started.elapsed().as_secs_f64();
    let (cpu, sent) = (cpu.as_secs_f64(), sent as f64);
    let grown = memory.resident_bytes.saturating_sub(found.memory_empty.resident_bytes);
    Ok(Some(Cost {
        core_share: cpu / elapsed,
        reports_per_second: sent / elapsed,
        cpu_us_per_report: cpu * 1e6 / sent.max(1.0),
        memory,
        kib_per_worker: grown as f64 / 1024.0 / f64::from(found.registered.max(1)),
    }))
}

/// The most memory seen within a time; `None` if Ctrl-C came before it was looked at twice.
async fn most_memory(
    fleet: &Fleet,
    time: Duration,
    stop: &CancellationToken,
) -> Result<Option<Memory>, Failure> {
    let mut most = None;
    let watched = timeout(time, stop.run_until_cancelled(watch_memory(fleet, &mut most))).await;
    match watched {
        Ok(Some(Err(gone))) => Err(gone.into()),
        Ok(None) | Err(_) => Ok(most),
    }
}

async fn watch_memory(fleet: &Fleet, most: &mut Option<Memory>) -> anyhow::Result<Infallible> {
    let mut looks = interval(MEMORY_INTERVAL);
    looks.tick().await;
    loop {
        looks.tick().await;
        *most = (*most).max(Some(fleet.balancer_memory()?));
    }
}

fn text(arguments: &Arguments, found: &Findings) -> String {
    let Findings { registered, lost, .. } = found;
    let mut lines = vec![match found.register_seconds {
        Some(seconds) => format!("{registered} workers registered in {seconds:.1} s"),
        None => {
            format!("stopped after {registered} of {} workers had registered", arguments.workers)
        }
    }];
    if *lost > 0 {
        let trouble = found.trouble.as_deref().unwrap_or("no reason is known");
        lines.push(format!("{lost} workers were lost; the first: {trouble}"));
    }
    lines.extend(found.cost.iter().map(|cost| cost_text(cost, found)));
    lines.extend(
        found
            .memory_after
            .map(|after| format!("memory after they left: {:.0} MB", megabytes(after))),
    );
    lines.push(picks_text(&found.picks));
    lines.join("\n")
}

fn cost_text(cost: &Cost, found: &Findings) -> String {
    let (intended, sent) = (f64::from(found.registered), cost.reports_per_second);
    let warning = if sent < intended * RATE_KEPT {
        format!(
            "\nnot kept by this machine: {intended:.0} reports a second; the figures are of {sent:.0}"
        )
    } else {
        String::new()
    };
    format!(
        "balancer: {:.3} of a core for {sent:.0} reports a second, {:.1} µs each\n\
         memory: {:.0} MB, {:.1} KiB a worker above the {:.0} MB without any{warning}",
        cost.core_share,
        cost.cpu_us_per_report,
        megabytes(cost.memory),
        cost.kib_per_worker,
        megabytes(found.memory_empty),
    )
}

fn megabytes(memory: Memory) -> f64 {
    memory.resident_bytes as f64 / 1e6
}

fn picks_text(picks: &[Picks]) -> String {
    let rows = picks.iter().flat_map(|Picks { workers, latencies }| {
        [("unary", latencies.unary), ("session", latencies.session)].map(|(way, latency)| {
            vec![
                workers.to_string(),
                way.into(),
                format!("{:.0} µs", latency.p50_us),
                format!("{:.0} µs", latency.p99_us),
                latency.picks.to_string(),
            ]
        })
    });
    table(&["WORKERS", "PICK", "P50", "P99", "PICKS"], rows.collect())
}
