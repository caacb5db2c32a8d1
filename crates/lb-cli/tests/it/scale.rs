//! Workers that come and go: a balancer that plans, a scaler that obeys, and real workers, all as processes.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures, with --nocapture")]

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};

use lb_client::{Balanced, CallInfo, Scope};
use lb_proto::v1::{Sleep, Task, compute_client::ComputeClient, task::Kind};

use crate::support::{Cluster, Daemon, LBCTL, signal_process};

/// How long something that takes a few seconds may take before a test gives up: machines can be slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks of who waits.
const LOOK: Duration = Duration::from_millis(100);
/// A balancer that judges every second, and takes away after three.
const QUICK: &str = "[scale]\nsync_s = 1\nstabilization_s = 3\ncooldown_s = 1\nsettle_s = 1\n";

/// A cluster whose workers are scaled.
struct Scaled {
    inner: Cluster,
    _directory: TempDir,
    config: String,
}

impl Scaled {
    fn start(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("server.toml");
        fs::write(&file, format!("{QUICK}{settings}")).unwrap();
        let config = file.to_str().unwrap().to_owned();
        let inner = Cluster::start_with(&["--config", &config]);
        Self { inner, _directory: directory, config }
    }

    /// Another balancer of the same cluster, and the line in which it says its id.
    fn second_balancer(&self) -> (Daemon, String) {
        let name = &self.inner.name;
        let flags = ["--local", "--listen", ":0", "--cluster", name, "--config", &self.config];
        let mut balancer = Daemon::spawn("lb-server", &flags);
        let ready = balancer.until(&["balancer ready"]);
        (balancer, ready)
    }

    /// A host whose workers are children of its scaler.
    fn scaler(&self, id: &str, flags: &[&str]) -> Daemon {
        self.scaler_of(id, LBCTL, flags)
    }

    fn scaler_of(&self, id: &str, program: &str, flags: &[&str]) -> Daemon {
        let name = self.inner.name.as_str();
        let own = ["--local", "--cluster", name, "--id", id, "--executor", "processes"];
        let mut arguments = own.to_vec();
        arguments.extend(["--program", program, "--max", "8"]);
        for argument in ["--slots", "1", "--queue", "100"] {
            arguments.extend(["--argument", argument]);
        }
        arguments.extend(flags);
        let mut scaler = Daemon::spawn("lb-scaler", &arguments);
        scaler.until(&["offered to a balancer"]);
        scaler
    }

    fn status(&self) -> Value {
        self.inner.json(&["scale", "status"])
    }

    /// Waits until the status is as wanted, and returns it.
    fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < until, "{what} does not happen: {status:#}");
            thread::sleep(LOOK);
        }
    }

    fn until_ready(&self, count: u64) -> Value {
        self.until(&format!("{count} ready"), |status| {
            status["ready"] == count && running(status).len() as u64 == count
        })
    }
}

/// Ids of the workers that are there, in whatever state.
fn running(status: &Value) -> BTreeSet<String> {
    let hosts = status["hosts"].as_array().unwrap();
    let instances = hosts.iter().flat_map(|host| host["instances"].as_array().unwrap());
    instances.map(|instance| instance["worker"].as_str().unwrap().to_owned()).collect()
}

/// Processes that a daemon has started.
fn children(daemon: &Daemon) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap();
    let lists =
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    let numbers = lists.collect::<Vec<_>>().join(" ");
    numbers.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn the_number_that_is_set_by_hand_runs() {
    let mut cluster = Scaled::start("");
    let mut scaler = cluster.scaler("h1", &[]);
    let before = cluster.until_ready(1);
    assert_eq!((&before["mode"], &before["desired"]), (&"auto".into(), &1.into()), "{before:#}");

    cluster.inner.json(&["scale", "set", "3"]);
    let status = cluster.until_ready(3);
    assert_eq!((&status["mode"], &status["set_to"]), (&"set".into(), &3.into()));
    let decision = status["last_decision"].as_str().unwrap();
    assert!(decision.contains("1 to 3 instances, set to 3 by hand"), "{decision}");
    let workers = cluster.inner.json(&["workers"]);
    let workers = workers["workers"].as_array().unwrap();
    let share: f64 = workers.iter().map(|worker| worker["share"].as_f64().unwrap()).sum();
    assert!(workers.len() == 3 && (share - 1.0).abs() < 1e-9, "{workers:?}");

    // A balancer that comes back hears from the scaler what was set, and finds what runs.
    let ids = running(&status);
    cluster.inner.kill_balancer();
    let config = cluster.config.clone();
    cluster.inner.restart_balancer_with(&["--config", &config]);
    let status = cluster.until_ready(3);
    assert_eq!((&status["mode"], &running(&status)), (&"set".into(), &ids));

    cluster.inner.json(&["scale", "pause"]);
    let [first, ..] = children(&scaler)[..] else { panic!("it has children") };
    signal_process(first, "KILL");
    scaler.until(&["instance died"]);
    cluster.until_ready(3);

    // With the scaler its workers end, each after its drain.
    scaler.signal("TERM");
    assert_eq!(scaler.exit_code(), Some(0));
    for _ in 0..3 {
        cluster.inner.balancer.until(&["worker left"]);
    }
}

#[test]
fn a_worker_that_is_killed_comes_back_and_one_that_crashes_again_and_again_is_given_up() {
    let cluster = Scaled::start("min = 2\n");
    let mut scaler = cluster.scaler("h1", &["--min", "2"]);
    let before = running(&cluster.until_ready(2));
    for child in children(&scaler) {
        signal_process(child, "KILL");
        scaler.until(&["instance died", "signal: 9"]);
    }
    assert_eq!(running(&cluster.until_ready(2)), before, "the same ones");

    let mut broken = cluster.scaler_of("h2", "/bin/false", &["--min", "1"]);
    let line = broken.until(&["instance given up"]);
    assert!(line.contains("it ended 5 times within 120 s: exit status: 1"), "{line}");
    let status = cluster.until("the plan goes round it", |status| {
        let instances = status["hosts"][1]["instances"].as_array().unwrap();
        let first = instances.iter().find(|instance| instance["number"] == 1);
        first.is_some_and(|first| first["state"] == "failed" && first["wanted"] == false)
    });
    let said = status["hosts"][1]["instances"][0]["reason"].as_str().unwrap();
    assert!(said.contains("exit status: 1"), "an operator sees why: {said}");
    assert_eq!(status["hosts"][0]["problem"], "", "the other host goes on");
    cluster.until("the other host goes on", |status| status["ready"].as_u64() >= Some(2));

    let mut missing = cluster.scaler_of("h3", "/no/such/program", &["--min", "1"]);
    let line = missing.until(&["instance given up"]);
    assert!(line.contains("cannot run /no/such/program"), "{line}");
}

/// Callers, each with one call after the other of so many milliseconds.
struct Load {
    runtime: Runtime,
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    callers: JoinSet<BTreeSet<(String, Duration)>>,
    begun: Instant,
}

impl Load {
    fn start(cluster: &str, count: usize, milliseconds: u64) -> Self {
        let runtime = Runtime::new().unwrap();
        let builder = Balanced::builder("lb.v1.Compute").cluster(cluster).scope(Scope::Loopback);
        let channel = runtime.block_on(builder.connect()).unwrap();
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let begun = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..count {
            let (channel, stop, failed) = (channel.clone(), Arc::clone(&stop), Arc::clone(&failed));
            callers.spawn_on(
                async move {
                    let mut client = ComputeClient::new(channel);
                    let mut first = std::collections::BTreeMap::new();
                    while !stop.load(Ordering::Relaxed) {
                        let sleep = Sleep { duration_us: milliseconds * 1000 };
                        let task = Task { kind: Some(Kind::Sleep(sleep)) };
                        match client.run(task).await {
                            Ok(response) => {
                                let info = response.extensions().get::<CallInfo>().unwrap();
                                let worker = info.worker_id.to_string();
                                first.entry(worker).or_insert_with(|| begun.elapsed());
                            }
                            Err(status) => {
                                eprintln!("a call failed: {status}");
                                failed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    first.into_iter().collect()
                },
                runtime.handle(),
            );
        }
        Self { runtime, stop, failed, callers, begun }
    }

    /// Ends it; returns how many calls failed, and when each worker first answered, in the order of time.
    fn end(mut self) -> (u64, Vec<(Duration, String)>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut first = std::collections::BTreeMap::<String, Duration>::new();
        self.runtime.block_on(async {
            while let Some(ended) = self.callers.join_next().await {
                for (worker, at) in ended.unwrap() {
                    first.entry(worker).and_modify(|first| *first = at.min(*first)).or_insert(at);
                }
            }
        });
        let mut first: Vec<_> = first.into_iter().map(|(worker, at)| (at, worker)).collect();
        first.sort();
        println!("load of {:?}, first answers: {first:?}", self.begun.elapsed());
        (self.failed.load(Ordering::Relaxed), first)
    }
}

#[test]
fn workers_come_with_load_and_go_without_it_and_no_call_fails() {
    let cluster = Scaled::start("");
    let _scaler = cluster.scaler("h1", &[]);
    cluster.until_ready(1);
    let load = Load::start(&cluster.inner.name, 6, 20);
    // Six calls at a time at 0.7 calls per slot: nine, of which the host may run eight; five in the first step.
    let status = cluster.until("workers come", |status| status["ready"].as_u64() >= Some(5));
    assert!(status["last_decision"].as_str().unwrap().contains("calls per slot"), "{status:#}");
    // A little load keeps calling while workers go.
    let little = Load::start(&cluster.inner.name, 1, 20);
    let (failed, first) = load.end();
    assert_eq!(failed, 0);
    // One was there; the next is one that has come.
    assert!(first.len() >= 5, "{first:?}");
    println!("step in load to the first answer of a new worker: {:?}", first[1].0);
    cluster.until("workers go", |status| status["ready"].as_u64() <= Some(2));
    let (failed, _) = little.end();
    assert_eq!(failed, 0);
    cluster.until_ready(1);
}

#[test]
fn the_balancer_with_the_lowest_id_is_obeyed_and_another_takes_over() {
    let mut cluster = Scaled::start("min = 2\n");
    let (mut other, ready) = cluster.second_balancer();
    let mut scaler = cluster.scaler("h1", &["--min", "2"]);
    scaler.until(&["offered to a balancer"]);
    let obeyed =
        |status: &Value| status["hosts"][0]["obeys"]["balancer"].as_str().map(str::to_owned);
    let status = cluster
        .until("a plan is obeyed", |status| obeyed(status).is_some() && status["ready"] == 2);
    let workers = running(&status);
    let list = cluster.inner.json(&["discover", "--for", "2s"]);
    let found = list["found"].as_array().unwrap();
    let ids = found.iter().filter(|entry| entry["role"] == "balancer");
    let ids: BTreeSet<String> = ids.map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2, "{list:#}");
    let lowest = ids.first().unwrap().clone();
    let status =
        cluster.until("the lowest is obeyed", |status| obeyed(status).as_ref() == Some(&lowest));
    let generation = status["hosts"][0]["obeys"]["generation"].as_u64().unwrap();

    // The one that is obeyed dies: the other goes on above its generation, and starts and stops nothing.
    if ready.contains(&lowest) {
        other.signal("KILL");
        other.exit_code();
    } else {
        cluster.inner.kill_balancer();
    }
    let status =
        cluster.until("another is obeyed", |status| obeyed(status).is_some_and(|id| id != lowest));
    assert!(status["hosts"][0]["obeys"]["generation"].as_u64().unwrap() > generation, "{status:#}");
    assert_eq!(running(&cluster.until_ready(2)), workers);
    assert!(!scaler.has_said(&["instance died"]));
}

#[test]
fn a_host_that_is_lost_is_made_good_on_another() {
    let cluster = Scaled::start("");
    let _stays = cluster.scaler("h1", &[]);
    let lost = cluster.scaler("h2", &[]);
    cluster.inner.json(&["scale", "set", "4"]);
    let status = cluster.until_ready(4);
    let count = |status: &Value, id: &str| {
        let hosts = status["hosts"].as_array().unwrap();
        let host = hosts.iter().find(|host| host["id"] == id);
        host.map_or(0, |host| host["instances"].as_array().unwrap().len())
    };
    assert_eq!((count(&status, "h1"), count(&status, "h2")), (2, 2), "spread: {status:#}");
    // As in a power cut, its workers end with it.
    lost.signal("KILL");
    let begun = Instant::now();
    let status = cluster
        .until("h1 makes it good", |status| status["ready"] == 4 && count(status, "h1") == 4);
    println!("a lost host is made good after {:?}", begun.elapsed());
    let decision = status["last_decision"].as_str().unwrap();
    assert!(decision.contains("host h2 is gone, 2 instances are lost"), "{decision}");
}

#[test]
fn what_makes_no_sense_is_one_clear_line() {
    let cluster = Cluster::start();
    let status = cluster.json(&["scale", "status"]);
    assert_eq!(status["state"], "no scaler is registered, so nothing is scaled");
    assert_eq!(status["desired"], Value::Null);
    let ended = cluster.lbctl(&["scale", "set", "10001"]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    assert!(ended.stderr.contains("count is 10001: expected 0 to 10000"), "{}", ended.stderr);
    let name = cluster.name.as_str();
    let mut scaler = Daemon::spawn(
        "lb-scaler",
        &["--local", "--cluster", name, "--id", "x", "--service", "other.Service"],
    );
    let line = scaler.until(&["a balancer refuses this daemon"]);
    assert!(line.contains("does not name lb.v1.Compute"), "{line}");
    let mut scaler =
        Daemon::spawn("lb-scaler", &["--min", "3", "--max", "2", "--id", "x", "--local"]);
    assert_eq!(scaler.exit_code(), Some(78));
    let words = scaler.last_words();
    assert!(words.contains("min is 3 and max is 2: expected min to be at most max"), "{words}");
}
