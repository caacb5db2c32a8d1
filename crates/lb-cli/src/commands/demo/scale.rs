//! `lbctl demo --scale`: a load that grows and shrinks, and workers that come and go with it.
//!
//! One balancer, and one scaler that starts real workers as its children; all find one another by DNS-SD on the loopback. The
//! balancer judges the demand every second, so that what takes minutes in a cluster is seen within one.

mod screen;

use std::{
    fmt::Write as _,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use lb_client::Balanced;
use lb_proto::v1::{ScaleStatusRequest, ScaleStatusResponse, admin_client::AdminClient};

use super::{Arguments, SEED};
use crate::{
    context::Common,
    environment,
    failure::Failure,
    fleet::{self, Fleet},
    load::{
        self, End, Outcome, Plan, Probe, RateChange, RunResult, Sample, Shape, Spacing, Target,
        WorkerReading,
    },
    output::{check_writable, line, note},
    report::{Answer, Plots, Scaled, document, escaped, units},
    workload::{self, AdminProbe, Distribution, Task, Tasks},
};
use screen::Screen;

/// Workers at most, of one slot each: what they do is sleep, so a small machine has room for them.
const MAX: u32 = 8;
/// Calls at a time for which the balancer wants that many, at its target of 0.7 calls per slot; and at the least.
const BUSY: (f64, f64) = (0.7, 5.5);
/// The rate changes so often.
const STEP: Duration = Duration::from_secs(1);
/// The parts of the demo after which the load grows, is at its most, shrinks, and is at its least again.
const GROWS: f64 = 0.1;
const MOST: f64 = 0.4;
const SHRINKS: f64 = 0.5;
const LEAST: f64 = 0.75;
/// What takes minutes in a cluster takes seconds here.
const QUICK: [(&str, &str); 5] = [
    ("LB_SERVER_SCALE__SYNC_S", "1"),
    ("LB_SERVER_SCALE__STABILIZATION_S", "4"),
    ("LB_SERVER_SCALE__COOLDOWN_S", "1"),
    ("LB_SERVER_SCALE__SETTLE_S", "1"),
    ("LB_SERVER_SCALE__MAX", "8"),
];

/// What was seen, for the page.
#[derive(Debug, Default)]
struct Seen {
    moments: Vec<Scaled>,
    answers: Vec<Answer>,
    /// When plans were made, and what they say.
    decisions: Vec<(f64, String)>,
}

type Shared = Arc<Mutex<Seen>>;

pub(super) async fn run(
    common: &Common,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    check_writable(&arguments.report)?;
    let plan = plan(arguments)?;
    note(&format!("starting lb-server, and lb-scaler for up to {MAX} workers, on the loopback …"));
    let started = stop.run_until_cancelled(Fleet::start_scaled(&QUICK, &scaler(MAX))).await;
    let fleet = started.ok_or(Failure::Interrupted)??;
    let measured = measure(&fleet, &plan, arguments, stop).await;
    fleet.stop().await;
    let (run, seen) = measured?;
    show(common, arguments, &run, &seen)?;
    if stop.is_cancelled() { Err(Failure::Interrupted) } else { Ok(()) }
}

/// Flags of a scaler whose workers are this very program.
fn scaler(max: u32) -> Vec<String> {
    let program = std::env::current_exe().unwrap_or_default().to_string_lossy().into_owned();
    let mut flags = vec!["--id".to_owned(), "box".into(), "--executor".into(), "processes".into()];
    flags.extend(["--program".into(), program, "--max".into(), max.to_string()]);
    // A long queue: what is shown is how many workers there are, not what few of them refuse.
    for argument in ["--slots", "1", "--queue", "1000"] {
        flags.extend(["--argument".into(), argument.into()]);
    }
    flags
}

/// A load that grows and shrinks, in steps.
fn plan(arguments: &Arguments) -> Result<Plan, Failure> {
    let refused =
        |error: load::PlanError| Failure::from(tonic::Status::invalid_argument(error.to_string()));
    let rate = |part: f64| busy(part) / arguments.task.as_secs_f64();
    let shape =
        Shape::Open { rate_per_second: rate(0.0), spacing: Spacing::Poisson { seed: SEED } };
    let whole = arguments.scale_duration;
    let steps = (1..).map(|step| STEP * step).take_while(|at| *at < whole);
    let changes = steps.map(|at| {
        let rate_per_second = rate(at.as_secs_f64() / whole.as_secs_f64());
        RateChange { at, rate_per_second }
    });
    let plan = Plan::new("least_load", shape, End::Elapsed(whole)).map_err(refused)?;
    plan.with_rate_changes(changes.collect()).map_err(refused)
}

/// Calls at a time, at this part of the demo.
fn busy(part: f64) -> f64 {
    let (least, most) = BUSY;
    let height = match part {
        part if part < GROWS => 0.0,
        part if part < MOST => (part - GROWS) / (MOST - GROWS),
        part if part < SHRINKS => 1.0,
        part if part < LEAST => (LEAST - part) / (LEAST - SHRINKS),
        _ => 0.0,
    };
    least + (most - least) * height
}

async fn measure(
    fleet: &Fleet,
    plan: &Plan,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> Result<(RunResult, Seen), Failure> {
    let channel =
        Balanced::builder(workload::SERVICE).search(fleet.search().clone()).connect().await?;
    let admin = AdminClient::new(fleet.balancer().await?);
    let (seen, begun) = (Shared::default(), Instant::now());
    let task = Task::Sleep(arguments.task);
    let tasks = Tasks::new(channel, task, Distribution::Exponential, SEED);
    let target = Watched { inner: tasks, seen: Arc::clone(&seen), begun };
    let probe = Watcher {
        admin: admin.clone(),
        workers: AdminProbe::new(admin),
        seen: Arc::clone(&seen),
        begun,
        screen: Screen::new(plan.end_seconds()),
    };
    let run = load::run(plan, target, probe, stop, |_| {}).await;
    let seen = mem::take(&mut *locked(&seen));
    Ok((run, seen))
}

fn locked(seen: &Shared) -> std::sync::MutexGuard<'_, Seen> {
    // A panic elsewhere leaves lists that are whole.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls, whose times are kept.
#[derive(Clone)]
struct Watched {
    inner: Tasks,
    seen: Shared,
    begun: Instant,
}

impl Target for Watched {
    async fn call(&self, index: u64) -> Sample {
        let called = Instant::now();
        let sample = self.inner.call(index).await;
        if sample.outcome == Outcome::Ok {
            let at_seconds = called.duration_since(self.begun).as_secs_f64();
            let took_us = called.elapsed().as_secs_f64() * 1e6;
            locked(&self.seen).answers.push(Answer { at_seconds, took_us });
        }
        sample
    }
}

/// Looks at workers and at how they are scaled, and draws both.
struct Watcher {
    admin: AdminClient<Channel>,
    workers: AdminProbe,
    seen: Shared,
    begun: Instant,
    screen: Screen,
}

impl Probe for Watcher {
    async fn read(&mut self) -> Vec<WorkerReading> {
        let status = self.admin.scale_status(ScaleStatusRequest {}).await;
        let listed = fleet::list(&mut self.admin).await;
        if let (Ok(status), Ok(listed)) = (status, listed) {
            let status = status.into_inner();
            let moment = moment(&status, self.begun.elapsed());
            let mut seen = locked(&self.seen);
            seen.moments.push(moment);
            let decision = status.last_decision.lines().next().unwrap_or_default();
            if seen.decisions.last().is_none_or(|(_, last)| last != decision)
                && !decision.is_empty()
            {
                seen.decisions.push((moment.at_seconds, decision.to_owned()));
            }
            let calls = seen.answers.len();
            self.screen.draw(&seen.moments, &listed, decision, calls);
        }
        self.workers.read().await
    }
}

fn moment(status: &ScaleStatusResponse, at: Duration) -> Scaled {
    Scaled {
        at_seconds: at.as_secs_f64(),
        wanted: status.desired.unwrap_or_default(),
        ready: status.ready,
        outstanding: status.demand.map_or(0, |demand| demand.outstanding),
        slots: status.demand.map_or(0, |demand| demand.slots),
    }
}

fn show(
    common: &Common,
    arguments: &Arguments,
    run: &RunResult,
    seen: &Seen,
) -> Result<(), Failure> {
    let path = &arguments.report;
    let page = page(arguments, run, seen).context("cannot make the report")?;
    std::fs::write(path, page).map_err(|source| Failure::write(path, source))?;
    let shown = path.canonicalize().unwrap_or_else(|_| path.clone());
    if common.printer().is_json() {
        let value = json!({
            "environment": environment::describe(),
            "run": run,
            "moments": seen.moments,
            "decisions": seen.decisions,
        });
        return Ok(line(&serde_json::to_string_pretty(&value).context("cannot print")?)?);
    }
    line(&outcome(run, seen))?;
    for (at, decision) in &seen.decisions {
        line(&format!("{at:5.1} s  {decision}"))?;
    }
    line(&format!("\nplots: {}", shown.display()))?;
    Ok(())
}

/// What became of it, in one sentence.
fn outcome(run: &RunResult, seen: &Seen) -> String {
    let ready = || seen.moments.iter().map(|moment| moment.ready);
    let (most, last) = (ready().max().unwrap_or(0), ready().next_back().unwrap_or(0));
    let mut text = format!(
        "{} calls, {} failed; {most} workers at the most, {last} at the end",
        run.requests,
        run.failed()
    );
    if let Some(times) = &run.response {
        let [p50, p99] = [times.p50_us, times.p99_us].map(|time| units::duration(time as f64));
        write!(text, "; half of the calls answered within {p50}, 99 % within {p99}")
            .expect("a string takes everything");
    }
    text
}

fn page(
    arguments: &Arguments,
    run: &RunResult,
    seen: &Seen,
) -> Result<String, crate::report::ReportError> {
    let title = "Workers that come and go";
    let plots = Plots::of_scaling(&seen.moments, &seen.answers)?;
    let mut decisions = String::new();
    for (at, text) in &seen.decisions {
        writeln!(decisions, "<li>{at:.1} s: {}</li>", escaped(text))
            .expect("a string takes everything");
    }
    let about = format!(
        "A load that grows and shrinks for {:?}: sleeps of {:?} on average, exponentially distributed, from one client. \
         A balancer plans, and a scaler on the same machine starts and stops workers of one slot each, up to {MAX}. The balancer judges the \
         demand every second and takes workers away after four, so that it is seen within a minute; by default it is 15 and 300.",
        arguments.scale_duration, arguments.task
    );
    let body = format!(
        "<h1>{title}</h1>\n<p>{}</p>\n<p class=\"date\">{}</p>\n<p class=\"headline\">{}</p>\n{}\n\
         <h2>What the balancer decided</h2>\n<ul class=\"notes\">\n{decisions}</ul>\n",
        escaped(&about),
        escaped(&environment::describe().date),
        escaped(&outcome(run, seen)),
        plots.html(),
    );
    Ok(document(title, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_grows_and_shrinks_to_where_it_began() {
        let (least, most) = BUSY;
        for (part, expected) in
            [(0.0, least), (GROWS, least), (0.45, most), (0.8, least), (1.0, least)]
        {
            assert!((busy(part) - expected).abs() < 1e-9, "{part}");
        }
        let middle = busy(f64::midpoint(GROWS, MOST));
        assert!((middle - f64::midpoint(least, most)).abs() < 1e-9);
    }
}
