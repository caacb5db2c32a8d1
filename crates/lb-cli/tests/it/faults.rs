//! What stops while clients call: the balancer, a worker in order, a worker without a word.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tonic::Status;

use lb_client::{Balanced, Scope};
use lb_proto::v1::{Sleep, Task, compute_client::ComputeClient, task::Kind};

use crate::support::Cluster;

/// Callers that call at once.
const CALLERS: usize = 8;

/// One task.
const TASK: Duration = Duration::from_millis(5);

/// A constant load, until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Vec<Result<String, Status>>>>,
}

impl Load {
    fn start(channel: &Balanced) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller =
            |_| tokio::spawn(call_until(ComputeClient::new(channel.clone()), Arc::clone(&stop)));
        let callers = (0..CALLERS).map(caller).collect();
        Self { stop, callers }
    }

    /// What came of all calls: the worker that answered, or the failure.
    async fn stop(self) -> Vec<Result<String, Status>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for caller in self.callers {
            all.extend(caller.await.unwrap());
        }
        all
    }
}

async fn call_until(
    mut client: ComputeClient<Balanced>,
    stop: Arc<AtomicBool>,
) -> Vec<Result<String, Status>> {
    let mut results = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        results.push(call(&mut client).await);
    }
    results
}

async fn call(client: &mut ComputeClient<Balanced>) -> Result<String, Status> {
    let duration_us = u64::try_from(TASK.as_micros()).unwrap();
    let task = Task { kind: Some(Kind::Sleep(Sleep { duration_us })) };
    Ok(client.run(task).await?.into_inner().worker_id)
}

async fn channel(cluster: &Cluster) -> Balanced {
    let builder = Balanced::builder("lb.v1.Compute").cluster(&cluster.name).scope(Scope::Loopback);
    builder.wait(Duration::from_secs(30)).connect().await.unwrap()
}

/// Blocking work (processes, logs) beside the load.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Waits until the load has made this many calls more, by making as many itself.
async fn calls_go_on(channel: &Balanced, count: usize) {
    let mut client = ComputeClient::new(channel.clone());
    for _ in 0..count {
        call(&mut client).await.unwrap();
    }
}

fn failures(results: &[Result<String, Status>]) -> Vec<&Status> {
    results.iter().filter_map(|result| result.as_ref().err()).collect()
}

fn cluster_of(ids: &'static [&'static str]) -> (Cluster, Vec<crate::support::Daemon>) {
    let mut cluster = Cluster::start();
    let workers = ids.iter().map(|id| cluster.worker(id, &["--slots", "4"])).collect();
    (cluster, workers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_balancer_breaks_no_call_and_comes_back() {
    let (mut cluster, _workers) = beside(|| cluster_of(&["a", "b", "c"])).await;
    let channel = channel(&cluster).await;
    let load = Load::start(&channel);
    calls_go_on(&channel, 50).await;
    let mut cluster = beside(move || {
        cluster.kill_balancer();
        cluster
    })
    .await;
    calls_go_on(&channel, 200).await;
    let cluster = beside(move || {
        cluster.restart_balancer();
        // Each worker finds the new balancer by itself.
        for _ in 0..3 {
            cluster.balancer.until(&["worker takes calls"]);
        }
        cluster
    })
    .await;
    calls_go_on(&channel, 50).await;
    let results = load.stop().await;
    assert!(failures(&results).is_empty(), "{:?}", failures(&results));
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_loses_no_call() {
    let (cluster, mut workers) = beside(|| cluster_of(&["a", "b"])).await;
    let channel = channel(&cluster).await;
    let load = Load::start(&channel);
    calls_go_on(&channel, 50).await;
    let code = beside(move || {
        let mut leaving = workers.remove(0);
        leaving.signal("TERM");
        (leaving.exit_code(), workers)
    })
    .await;
    assert_eq!(code.0, Some(0));
    calls_go_on(&channel, 50).await;
    let results = load.stop().await;
    assert!(failures(&results).is_empty(), "{:?}", failures(&results));
    for id in ["a", "b"] {
        assert!(results.iter().flatten().any(|worker| worker == id), "{id} answered nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_loses_no_more_than_it_had() {
    let (mut cluster, mut workers) = beside(|| cluster_of(&["a", "b"])).await;
    let channel = channel(&cluster).await;
    let load = Load::start(&channel);
    calls_go_on(&channel, 50).await;
    let (cluster, _workers) = beside(move || {
        workers.remove(0).signal("KILL");
        cluster.balancer.until(&["worker lost", "worker=a"]);
        (cluster, workers)
    })
    .await;
    calls_go_on(&channel, 50).await;
    let results = load.stop().await;
    let failed = failures(&results);
    // The load's callers and the test's own.
    assert!(failed.len() <= CALLERS + 1, "{} calls failed: {failed:?}", failed.len());
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_balancer_breaks_no_call() {
    let (mut cluster, _workers) = beside(|| cluster_of(&["a", "b"])).await;
    let channel = channel(&cluster).await;
    let load = Load::start(&channel);
    calls_go_on(&channel, 50).await;
    let code = beside(move || {
        cluster.balancer.signal("TERM");
        cluster.balancer.exit_code()
    })
    .await;
    assert_eq!(code, Some(0));
    calls_go_on(&channel, 100).await;
    let results = load.stop().await;
    assert!(failures(&results).is_empty(), "{:?}", failures(&results));
}
