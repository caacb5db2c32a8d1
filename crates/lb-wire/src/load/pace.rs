//! When picks or calls begin: the next when one has ended, or at moments of their own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinSet, time::sleep};

use super::{recorder::Recorder, ways::Operation};

/// What runs before the window opens: connections, caches and the scheduler settle.
const WARM_UP: Duration = Duration::from_millis(300);
/// The moments of arrival are the same in every run.
const SEED: u64 = 7;

/// How to drive the clients.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// So many under way at once, of each client, for as long as the window.
    Depth { depth: u32, window: Duration },
    /// So many under way at once, of each client, until `count` have ended in all.
    Count { depth: u32, count: u64 },
    /// So many begun a second, of all clients together, with independent (Poisson) arrivals.
    Rate { per_second: u32, window: Duration },
}

/// CPU time used so far, by process.
type Cpu = BTreeMap<String, u64>;

/// Puts the clients to work; `cpu` is asked when the window opens and when it closes.
///
/// # Errors
/// When a process whose CPU time counts is gone.
pub(super) async fn run<O: Operation>(
    pace: Pace,
    clients: Vec<O>,
    recorder: &Arc<Recorder>,
    cpu: impl Fn() -> anyhow::Result<Cpu>,
) -> anyhow::Result<()> {
    match pace {
        Pace::Count { depth, count } => {
            recorder.open(cpu()?);
            let left = Arc::new(AtomicU64::new(count));
            let mut tasks = closed(clients, depth, recorder, &left);
            while tasks.join_next().await.is_some() {}
            recorder.close(cpu()?);
        }
        Pace::Depth { depth, window } => {
            let endless = Arc::new(AtomicU64::new(u64::MAX));
            let tasks = closed(clients, depth, recorder, &endless);
            observe(window, recorder, cpu).await?;
            drop(tasks);
        }
        Pace::Rate { per_second, window } => {
            let arrivals = arrivals(per_second);
            let task = tokio::spawn(open(clients, arrivals, Arc::clone(recorder)));
            observe(window, recorder, cpu).await?;
            task.abort();
        }
    }
    Ok(())
}

async fn observe(
    window: Duration,
    recorder: &Recorder,
    cpu: impl Fn() -> anyhow::Result<Cpu>,
) -> anyhow::Result<()> {
    sleep(WARM_UP).await;
    recorder.open(cpu()?);
    sleep(window).await;
    recorder.close(cpu()?);
    Ok(())
}

/// `depth` tasks for each client, each with one pick or call under way, until none is left to make.
fn closed<O: Operation>(
    clients: Vec<O>,
    depth: u32,
    recorder: &Arc<Recorder>,
    left: &Arc<AtomicU64>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for client in clients {
        for _ in 0..depth {
            let mut client = client.clone();
            let (recorder, left) = (Arc::clone(recorder), Arc::clone(left));
            tasks.spawn(async move {
                let take = |left: u64| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    let begun = Instant::now();
                    let result = client.once().await;
                    recorder.ended(begun, &result);
                }
            });
        }
    }
    tasks
}

/// One task for each arrival. Latency counts from the intended moment, so that a system that makes
/// the load wait cannot hide it.
async fn open<O: Operation>(
    clients: Vec<O>,
    mut arrivals: mpsc::UnboundedReceiver<Instant>,
    recorder: Arc<Recorder>,
) {
    let mut tasks = JoinSet::new();
    let mut turn = 0;
    while let Some(due) = arrivals.recv().await {
        recorder.begun(due);
        let (mut client, recorder) = (clients[turn].clone(), Arc::clone(&recorder));
        turn = (turn + 1) % clients.len();
        tasks.spawn(async move {
            let result = client.once().await;
            recorder.ended(due, &result);
        });
        while tasks.try_join_next().is_some() {}
    }
}

/// The moments come from a thread of its own: tokio's timer counts whole milliseconds, and would
/// bundle two calls at a time at 2,000 a second.
fn arrivals(per_second: u32) -> mpsc::UnboundedReceiver<Instant> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::spawn(move || {
        let mut rng = fastrand::Rng::with_seed(SEED);
        let mut due = Instant::now();
        loop {
            // 1 − u is never 0.
            let gap = -(1.0 - rng.f64()).ln() / f64::from(per_second);
            due += Duration::from_secs_f64(gap);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send(due).is_err() {
                return;
            }
        }
    });
    receiver
}
