//! `lbctl bench pick`: picks a second and their latency, in ways that a client may choose from.
//!
//! All ways are measured in each round, one after the other, and what counts is the ratio inside a round: a shared
//! machine changes its own speed within seconds. The balancer's CPU time comes from the kernel's account
//! of its process (`/proc/PID/task/*/schedstat`), so it holds also where the rate does not.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use lb_client::Balanced;
use lb_proto::v1::{PickRequest, load_balancer_client::LoadBalancerClient};

use crate::{
    commands::demo::environment,
    context::Common,
    failure::Failure,
    fleet::{Fleet, WorkerPlan},
    output::{note, table},
};

/// How to measure.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Rounds; each measures every way once
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long one way runs in one round
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Workers to start
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
}

/// The service picked for. Nobody is called.
const SERVICE: &str = "lb.v1.Compute";

/// How to pick, and how many picks are under way at once on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Unary { depth: usize },
    Session { depth: usize },
}

const WAYS: [Way; 4] = [
    Way::Unary { depth: 1 },
    Way::Unary { depth: 64 },
    Way::Session { depth: 1 },
    Way::Session { depth: 64 },
];

impl Way {
    fn name(self) -> String {
        match self {
            Self::Unary { depth } => format!("unary, depth {depth}"),
            Self::Session { depth } => format!("session, depth {depth}"),
        }
    }

    fn depth(self) -> usize {
        match self {
            Self::Unary { depth } | Self::Session { depth } => depth,
        }
    }
}

/// One way in one round.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measured {
    picks_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    server_cpu_us_per_pick: f64,
}

/// One way over all rounds.
#[derive(Debug, Serialize)]
struct Row {
    way: String,
    rounds: Vec<Measured>,
    /// Median over the rounds of its rate against that of the first way in the same round.
    rate_ratio: f64,
    /// The same for the balancer's CPU time for a pick.
    cpu_ratio: f64,
}

pub(crate) async fn run(
    common: &Common,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    note(&format!("starting lb-server and {} workers on the loopback …", arguments.workers));
    let worker = |number| WorkerPlan { id: format!("w{number}"), slots: 4, queue: 16 };
    let workers: Vec<_> = (1..=arguments.workers).map(worker).collect();
    let fleet =
        stop.run_until_cancelled(Fleet::start(&workers)).await.ok_or(Failure::Interrupted)??;
    let measured = rounds(&fleet, arguments, stop).await;
    fleet.stop().await;
    let rows = summarise(&measured?);
    if rows.is_empty() {
        return Err(Failure::Interrupted);
    }
    let json = serde_json::json!({
        "environment": environment::describe(),
        "workers": arguments.workers,
        "seconds_per_round": arguments.time.as_secs_f64(),
        "ways": rows,
    });
    Ok(common.printer().print(&text(&rows), &json)?)
}

async fn rounds(
    fleet: &Fleet,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> Result<Vec<Vec<Measured>>, Failure> {
    let balanced = Balanced::builder(SERVICE).search(fleet.search().clone()).connect().await?;
    let channel = fleet.balancer().await?;
    let mut rounds = Vec::new();
    for round in 1..=arguments.rounds {
        let mut measured = Vec::new();
        for way in WAYS {
            if stop.is_cancelled() {
                return Ok(rounds);
            }
            note(&format!("round {round} of {}: {}", arguments.rounds, way.name()));
            measured.push(one(way, fleet, &balanced, &channel, arguments.time).await?);
        }
        rounds.push(measured);
    }
    Ok(rounds)
}

async fn one(
    way: Way,
    fleet: &Fleet,
    balanced: &Balanced,
    channel: &Channel,
    time: Duration,
) -> Result<Measured, Failure> {
    let cpu_before = fleet.balancer_cpu()?;
    let started = Instant::now();
    let until = started + time;
    let mut callers = JoinSet::new();
    for _ in 0..way.depth() {
        match way {
            Way::Unary { .. } => {
                callers.spawn(unary(LoadBalancerClient::new(channel.clone()), until))
            }
            Way::Session { .. } => callers.spawn(session(balanced.clone(), until)),
        };
    }
    let mut latencies = histogram()?;
    while let Some(ended) = callers.join_next().await {
        let caller = ended.context("a caller panicked")??;
        latencies.add(caller).context("cannot add latencies")?;
    }
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = fleet.balancer_cpu()?.saturating_sub(cpu_before);
    #[expect(clippy::cast_precision_loss, reason = "a count of picks")]
    let picks = latencies.len() as f64;
    let quantile = |at| Duration::from_nanos(latencies.value_at_quantile(at)).as_secs_f64() * 1e6;
    Ok(Measured {
        picks_per_second: picks / elapsed,
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        server_cpu_us_per_pick: cpu.as_secs_f64() * 1e6 / picks.max(1.0),
    })
}

async fn unary(
    mut client: LoadBalancerClient<Channel>,
    until: Instant,
) -> Result<Histogram<u64>, Failure> {
    let mut latencies = histogram()?;
    loop {
        let before = Instant::now();
        if before >= until {
            return Ok(latencies);
        }
        client.pick(PickRequest { service: SERVICE.into(), ..PickRequest::default() }).await?;
        record(&mut latencies, before);
    }
}

async fn session(balanced: Balanced, until: Instant) -> Result<Histogram<u64>, Failure> {
    let mut latencies = histogram()?;
    loop {
        let before = Instant::now();
        if before >= until {
            return Ok(latencies);
        }
        // Dropped at once: the call was never sent, and the balancer hears of it.
        drop(balanced.pick().await?);
        record(&mut latencies, before);
    }
}

/// Nanoseconds, three digits.
fn histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new(3).context("cannot make a histogram")?)
}

fn record(latencies: &mut Histogram<u64>, since: Instant) {
    latencies.saturating_record(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
}

fn summarise(rounds: &[Vec<Measured>]) -> Vec<Row> {
    if rounds.is_empty() {
        return Vec::new();
    }
    let row = |(place, way): (usize, &Way)| {
        let ratio = |of: fn(&Measured) -> f64| {
            median(rounds.iter().map(|round| of(&round[place]) / of(&round[0])).collect())
        };
        Row {
            way: way.name(),
            rounds: rounds.iter().map(|round| round[place]).collect(),
            rate_ratio: ratio(|measured| measured.picks_per_second),
            cpu_ratio: ratio(|measured| measured.server_cpu_us_per_pick),
        }
    };
    WAYS.iter().enumerate().map(row).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn text(rows: &[Row]) -> String {
    let head = ["WAY", "PICKS/S", "× UNARY", "P50", "P99", "SERVER CPU", "× UNARY"];
    let lines = rows.iter().map(|row| {
        let middle = |of: fn(&Measured) -> f64| median(row.rounds.iter().map(of).collect());
        vec![
            row.way.clone(),
            format!("{:.0}", middle(|measured| measured.picks_per_second)),
            format!("{:.2}", row.rate_ratio),
            format!("{:.0} µs", middle(|measured| measured.p50_us)),
            format!("{:.0} µs", middle(|measured| measured.p99_us)),
            format!("{:.1} µs", middle(|measured| measured.server_cpu_us_per_pick)),
            format!("{:.2}", row.cpu_ratio),
        ]
    });
    table(&head, lines.collect())
}
