//! Every kind of attack once, in small, on a balancer and on a worker: honest picks and calls do not fail, and nothing is left.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lb-wire");
const CONNECTIONS: u64 = 48;
/// A process that stands still for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Far above what so few connections may make a balancer hold, whatever they do, and far below what they send it.
const MEMORY_KIB: u64 = 96 << 10;

const KINDS: [&str; 18] = [
    "idle",
    "half-preface",
    "slow-headers",
    "answering",
    "silent-session",
    "idle-session",
    "half-registration",
    "half-pick",
    "half-message",
    "huge-message",
    "rapid-reset",
    "pings",
    "settings",
    "continuation",
    "header-list",
    "garbage",
    "churn",
    "unread",
];

/// A process that ends when its standard input does.
struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    first: String,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // What the log says of attacks is not of interest here.
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        Self { child, lines, first }
    }

    fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap()
    }

    fn end(&mut self) -> Option<String> {
        drop(self.child.stdin.take());
        self.lines.next().map(Result::unwrap)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// Makes picks or calls, none of which may fail.
fn load(way: &str, server: [&str; 2]) {
    let arguments = ["load", way, "--count", "200", "--depth", "8"];
    let output = Command::new(PROGRAM).args(arguments).args(server).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["count"], &found["failed"]), (&200.into(), &0.into()), "{found}");
}

/// Attacks a server that has so many files open without them, one kind after another.
fn attack(server: &Process, files: usize, honest: impl Fn()) {
    let settled = || {
        let begun = Instant::now();
        while server.files() > files {
            assert!(begun.elapsed() < PATIENCE, "{} files instead of {files}", server.files());
            thread::yield_now();
        }
    };
    for kind in KINDS {
        let count = CONNECTIONS.to_string();
        let flags = ["--target", &server.first, "--count", &count, "--addresses", "4"];
        let mut attackers = Process::start(&[&["hostile", kind], &flags[..]].concat());
        assert_eq!(attackers.first, "ready");
        honest();
        let found: serde_json::Value = serde_json::from_str(&attackers.end().unwrap()).unwrap();
        assert!(found["opened"].as_u64().unwrap() >= CONNECTIONS, "{kind}: {found}");
        settled();
        assert!(server.memory_kib() < MEMORY_KIB, "{kind}: {} KiB", server.memory_kib());
    }
}

/// A balancer and a worker that has registered with it, and how many files the balancer had before.
fn pair() -> (Process, usize, Process) {
    let balancer = Process::start(&["balancer"]);
    let files = balancer.files();
    let flags = ["--id", "w", "--queue", "64", "--balancer", &balancer.first];
    let worker = Process::start(&[&["worker"], &flags[..]].concat());
    load("pick", ["--workers=1", &format!("--balancer={}", balancer.first)]);
    (balancer, files, worker)
}

#[test]
fn honest_picks_go_on_and_nothing_is_left() {
    let (balancer, files, _worker) = pair();
    let address = format!("--balancer={}", balancer.first);
    // Besides them, the worker's connection.
    attack(&balancer, files + 1, || {
        load("pick", ["--workers=1", &address]);
        load("pick-session", ["--workers=1", &address]);
    });
}

#[test]
fn honest_calls_go_on_and_nothing_is_left() {
    let (_balancer, _, worker) = pair();
    let files = worker.files();
    let address = format!("--targets={}", worker.first);
    attack(&worker, files, || load("call", ["--workers=0", &address]));
}
