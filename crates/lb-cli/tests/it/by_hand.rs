//! The cluster built by hand, and every command used on it.

use serde_json::{Value, json};

use crate::support::{Cluster, Daemon};

fn cluster() -> (Cluster, [Daemon; 2]) {
    let mut cluster = Cluster::start();
    let workers = ["a", "b"].map(|id| cluster.worker(id, &["--slots", "2"]));
    (cluster, workers)
}

#[test]
fn every_task_answers() {
    let (cluster, _workers) = cluster();
    let cases = [
        (vec!["factorial", "20"], "2432902008176640000\n"),
        (vec!["factorial", "0"], "1\n"),
        (vec!["sum", "1000000"], "500000500000\n"),
        (vec!["reverse", "hello"], "olleh\n"),
        (vec!["primes", "1000000"], "78498\n"),
        (vec!["echo", "as it is"], "as it is\n"),
    ];
    for (task, expected) in cases {
        let ended = cluster.lbctl(&[&["run"], &task[..]].concat());
        assert_eq!((ended.code, &*ended.stdout), (0, expected), "{task:?}: {}", ended.stderr);
    }
    for (task, at_least_us) in [("sleep", 30_000), ("burn", 30_000)] {
        let done = cluster.json(&["run", task, "30ms"]);
        assert!(done["service_us"].as_u64().unwrap() >= at_least_us, "{done}");
    }
}

#[test]
fn a_large_result_is_streamed() {
    let (cluster, _workers) = cluster();
    let ended = cluster.lbctl(&["run", "factorial", "100000"]);
    let digits = ended.stdout.trim_end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(digits.len(), 456_574);
    assert!(
        digits.starts_with("282422940796034787429342157802453551847749492609122485057891808654")
    );
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    assert_eq!(zeros, 24_999);
}

#[test]
fn run_tells_who_and_how_long() {
    let (cluster, _workers) = cluster();
    let done = cluster.json(&["run", "factorial", "20"]);
    assert_eq!(
        (&done["task"], &done["result"]),
        (&json!("factorial"), &json!("2432902008176640000"))
    );
    assert!(["a", "b"].contains(&done["worker"].as_str().unwrap()));
    assert!(done["balancer"].as_str().unwrap().starts_with("b-"));
    for key in
        ["pick_us", "call_us", "total_us", "discover_us", "connect_us", "queued_us", "service_us"]
    {
        assert!(done[key].is_u64(), "{key} is missing: {done}");
    }
    let verbose = cluster.lbctl(&["run", "sum", "10", "-v"]);
    assert_eq!(verbose.stdout, "55\n");
    assert!(
        verbose.stderr.contains("worker ") && verbose.stderr.contains("balancer b-"),
        "{}",
        verbose.stderr
    );
}

#[test]
fn discover_finds_both_kinds_by_their_real_ports() {
    let (cluster, _workers) = cluster();
    let found = cluster.json(&["discover", "--for", "2s"]);
    let found = found["found"].as_array().unwrap();
    let ids = |role: &str| -> Vec<&str> {
        let of_role = found.iter().filter(|entry| entry["role"] == role);
        of_role.map(|entry| entry["id"].as_str().unwrap()).collect()
    };
    assert_eq!(ids("worker"), ["a", "b"]);
    assert_eq!(ids("balancer").len(), 1);
    for entry in found {
        let address = entry["addresses"][0].as_str().unwrap();
        assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{address}");
    }
}

fn worker<'a>(list: &'a Value, id: &str) -> &'a Value {
    let workers = list["workers"].as_array().unwrap();
    workers.iter().find(|worker| worker["id"] == id).unwrap()
}

#[test]
fn workers_pick_and_policy_tell_the_same_story() {
    let (cluster, _workers) = cluster();
    let list = cluster.json(&["workers"]);
    assert_eq!(list["policy"], "least_load");
    assert_eq!(worker(&list, "a")["state"], "serving");
    assert_eq!(worker(&list, "a")["slots"], 2);
    let set = cluster.json(&["policy", "first"]);
    assert_eq!(set["policy"], "pick_first");
    assert_eq!(cluster.lbctl(&["policy"]).stdout, "pick_first\n");
    for _ in 0..3 {
        let pick = cluster.json(&["pick"]);
        assert_eq!(pick["choices"][0]["worker"], "a");
        assert_eq!(pick["reason"], "first in the order of ids");
    }
    let pick = cluster.json(&["pick", "--exclude", "a", "--choices", "1"]);
    assert_eq!(pick["choices"].as_array().unwrap().len(), 1);
    assert_eq!(pick["choices"][0]["worker"], "b");
    let table = cluster.lbctl(&["workers", "--why"]).stdout;
    assert!(table.contains("in rotation"), "{table}");
}

#[test]
fn a_drained_worker_gets_nothing_and_comes_back() {
    let (mut cluster, _workers) = cluster();
    let drained = cluster.json(&["drain", "a"]);
    assert_eq!((&drained["worker"], &drained["outstanding"]), (&json!("a"), &json!(0)));
    for _ in 0..5 {
        assert_eq!(cluster.json(&["run", "sum", "3"])["worker"], "b");
    }
    assert_eq!(worker(&cluster.json(&["workers"]), "a")["state"], "draining");
    cluster.json(&["undrain", "a"]);
    cluster.balancer.until(&["worker takes calls", "worker=a"]);
    cluster.json(&["policy", "first"]);
    assert_eq!(cluster.json(&["run", "sum", "3"])["worker"], "a");
}

#[test]
fn a_static_address_needs_no_discovery() {
    let (cluster, _workers) = cluster();
    let found = cluster.json(&["discover", "--for", "2s"]);
    let balancer =
        found["found"].as_array().unwrap().iter().find(|entry| entry["role"] == "balancer");
    let address = balancer.unwrap()["addresses"][0].as_str().unwrap().to_owned();
    let ended = crate::support::lbctl(&["--lb", &address, "run", "sum", "4"]);
    assert_eq!((ended.code, &*ended.stdout), (0, "10\n"), "{}", ended.stderr);
}

#[test]
fn clusters_do_not_see_each_other() {
    let (first, _workers) = cluster();
    let second = Cluster::start();
    assert_eq!(first.json(&["workers"])["workers"].as_array().unwrap().len(), 2);
    assert_eq!(second.json(&["workers"])["workers"], json!([]));
}

#[test]
fn one_interrupt_ends_a_call() {
    let (cluster, _workers) = cluster();
    let mut call = crate::support::start_lbctl(&[
        "--local",
        "--cluster",
        &cluster.name,
        "run",
        "sleep",
        "60s",
    ]);
    while cluster.json(&["workers"])["workers"]
        .as_array()
        .unwrap()
        .iter()
        .all(|w| w["in_flight"] == 0)
    {}
    crate::support::signal(&call, "INT");
    assert_eq!(call.wait().unwrap().code(), Some(130));
}

#[test]
fn every_policy_explains_itself() {
    for policy in ["pick_first", "rr", "ll", "random", "wrr", "p2c", "ring", "maglev", "prequal"] {
        let ended = crate::support::lbctl(&["policy", policy, "--explain"]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(ended.stdout.contains("Weakness"), "{policy}: {}", ended.stdout);
    }
}

#[test]
fn a_scenario_is_simulated_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("plot.svg");
    let scenario = "../lb-sim/scenarios/balancer_lost.toml";
    let arguments = ["sim", scenario, "--output", "json", "--plot", plot.to_str().unwrap()];
    let ended = crate::support::lbctl(&arguments);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let rule = &json["rules"][1];
    assert_eq!((&json["name"], &rule["rule"]), (&"balancer_lost".into(), &"least_load".into()));
    assert!(rule["p99_ms"].as_f64().unwrap() > rule["p50_ms"].as_f64().unwrap(), "{rule}");
    let last = rule["distribution"].as_array().unwrap().last().unwrap();
    assert_eq!(last["ms"], rule["max_ms"]);
    assert!(rule["over_time"].as_array().unwrap().len() > 10, "{rule}");
    let svg = std::fs::read_to_string(&plot).unwrap();
    for part in ["<svg xmlns=", "prefers-color-scheme: dark", ">oracle_queue<", ">least_load<"] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(!svg.contains("href") && !svg.contains("url("), "it loads nothing");
    let ended = crate::support::lbctl(&["sim", scenario, "--plot", "/no/such/folder/plot.svg"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (73, ""));
    assert!(ended.stderr.contains("cannot write /no/such/folder/plot.svg"), "{}", ended.stderr);
    let missing = crate::support::lbctl(&["sim", "no-such-file.toml"]);
    assert_eq!(missing.code, 65, "{}", missing.stderr);
    assert!(missing.stderr.contains("no-such-file.toml"), "{}", missing.stderr);
}
