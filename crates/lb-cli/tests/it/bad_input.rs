//! Whatever is wrong: one clear line, and an exit code that a script can use.

use std::net::TcpListener;

use crate::support::{Cluster, Daemon, Ended, lbctl};

fn assert_fails(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, code, "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{:?} lacks {word:?}", ended.stderr);
    }
}

#[test]
fn arguments_out_of_range_are_named() {
    let mut cluster = Cluster::start();
    let _worker = cluster.worker("a", &[]);
    let oversized = "x".repeat(120_000);
    let cases: [(&[&str], i32, &[&str]); 9] = [
        (
            &["run", "factorial", "-3"],
            65,
            &["INVALID_ARGUMENT", "factorial.n is -3", "expected 0 to"],
        ),
        (&["run", "factorial", "99999999"], 65, &["factorial.n is 99999999", "expected 0 to"]),
        (&["run", "primes", "9999999999999"], 65, &["primes.up_to is 9999999999999"]),
        (&["run", "reverse", ""], 65, &["INVALID_ARGUMENT", "reverse.text"]),
        (&["run", "sleep", "2h"], 65, &["sleep.duration_us"]),
        (&["policy", "fastest"], 65, &["unknown policy \"fastest\"", "expected pick_first"]),
        (&["drain", "ghost"], 69, &["NOT_FOUND", "no worker with id ghost is registered"]),
        (&["pick", "--choices", "9"], 65, &["choices is 9: expected at most 8"]),
        (
            &["run", "sum", "5", "--service", "no.Such"],
            69,
            &["NOT_FOUND", "service no.Such: no worker offers"],
        ),
    ];
    for (arguments, code, words) in cases {
        assert_fails(&cluster.lbctl(arguments), code, words);
    }
    // Long but allowed.
    assert_eq!(cluster.lbctl(&["run", "reverse", &oversized]).stdout.len(), oversized.len() + 1);
    let failure = cluster.lbctl(&["run", "factorial", "-3", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&failure.stdout).unwrap();
    assert_eq!(json["error"]["code"], "INVALID_ARGUMENT");
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    assert_fails(&lbctl(&["run", "fly", "3"]), 64, &["unrecognized subcommand 'fly'"]);
    assert_fails(&lbctl(&["run", "factorial", "many"]), 64, &["invalid value 'many'"]);
    assert_fails(&lbctl(&["run", "sleep", "soon"]), 64, &["invalid value 'soon'"]);
    assert_fails(&lbctl(&["run", "sum", "99999999999999999999"]), 64, &["number too large"]);
    assert_eq!(lbctl(&["--help"]).code, 0);
}

#[test]
fn no_balancer_is_said_after_the_stated_wait() {
    let arguments = ["--local", "--cluster", "nobody-here", "--wait", "200ms", "run", "sum", "3"];
    let words = ["no balancer of cluster \"nobody-here\"", "within 200ms", "lb-server --local"];
    assert_fails(&lbctl(&arguments), 69, &words);
    let arguments = ["--lb", "127.0.0.1:1", "--wait", "200ms", "workers"];
    assert_fails(&lbctl(&arguments), 69, &["127.0.0.1:1"]);
}

#[test]
fn no_workers_is_said() {
    let cluster = Cluster::start();
    assert_fails(&cluster.lbctl(&["run", "sum", "3"]), 69, &["no worker offers this service"]);
    assert_eq!(cluster.lbctl(&["workers"]).stdout, "no workers are registered\n");
}

#[test]
fn a_port_in_use_stops_a_daemon() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for daemon in ["lb-server", "lb-worker"] {
        let mut daemon = Daemon::spawn(daemon, &["--local", "--listen", &address]);
        let words = daemon.last_words();
        assert_eq!(daemon.exit_code(), Some(69), "{words}");
        assert!(words.contains(&address) && words.contains("in use"), "{words}");
    }
}

#[test]
fn a_malformed_configuration_names_file_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lb.toml");
    let path = file.to_str().unwrap();
    let cases = [
        ("lb-server", "listn = 1", vec!["unknown key `listn`", path]),
        (
            "lb-server",
            "[limits]\nsessions = \"many\"",
            vec!["limits.sessions", path, "integer", "many"],
        ),
        ("lb-server", "policy = \"best\"", vec!["policy", "\"best\"", "pick_first"]),
        ("lb-server", "listen = [", vec![path, "line 1"]),
        ("lb-worker", "slotz = 1", vec!["unknown key `slotz`", path]),
        ("lb-worker", "slots = -1", vec!["slots"]),
    ];
    for (daemon, text, words) in cases {
        std::fs::write(&file, text).unwrap();
        let mut daemon = Daemon::spawn(daemon, &["--check-config", "--config", path]);
        let said = daemon.last_words();
        assert_eq!(daemon.exit_code(), Some(78), "{text}: {said}");
        assert_eq!(said.lines().count(), 1, "one line: {said}");
        for word in words {
            assert!(said.contains(word), "{said:?} lacks {word:?}");
        }
    }
    let mut daemon = Daemon::spawn("lb-server", &["--check-config", "--config", "/no/such/file"]);
    assert!(daemon.last_words().contains("/no/such/file"));
    assert_eq!(daemon.exit_code(), Some(78));
}

#[test]
fn a_duplicate_worker_id_is_refused_and_the_first_goes_on() {
    let mut cluster = Cluster::start();
    let _first = cluster.worker("twin", &[]);
    let mut second = cluster.worker_starting("twin", &[]);
    second.until(&["worker id twin is taken by a live worker at 127.0.0.1:"]);
    let list = cluster.json(&["workers"]);
    assert_eq!(list["workers"].as_array().unwrap().len(), 1);
    assert_eq!(cluster.lbctl(&["run", "sum", "3"]).stdout, "6\n");
}

#[test]
fn an_overloaded_worker_says_when_to_try_again() {
    let mut cluster = Cluster::start();
    let _worker = cluster.worker("a", &["--slots", "1", "--queue", "0"]);
    let mut long = crate::support::start_lbctl(&[
        "--local",
        "--cluster",
        &cluster.name,
        "run",
        "sleep",
        "30s",
    ]);
    while cluster.json(&["workers"])["workers"][0]["in_flight"] == 0 {}
    let ended = cluster.lbctl(&["run", "sum", "3"]);
    long.kill().unwrap();
    long.wait().unwrap();
    assert_fails(&ended, 75, &["RESOURCE_EXHAUSTED"]);
}

#[test]
fn a_deadline_stops_the_call_and_the_work() {
    let mut cluster = Cluster::start();
    let _worker = cluster.worker("a", &["--slots", "1"]);
    let ended = cluster.lbctl(&["run", "burn", "60s", "--deadline", "100ms"]);
    assert_fails(&ended, 75, &["DEADLINE_EXCEEDED"]);
    // The slot is free again, so the next call is answered long before the minute is over.
    assert_eq!(cluster.lbctl(&["run", "sum", "3", "--deadline", "20s"]).stdout, "6\n");
}
