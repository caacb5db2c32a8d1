//! Every kind of attack once, in small: honest picks do not fail, and nothing is left.

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

fn picks(way: &str, balancer: &str) {
    let arguments = ["load", way, "--count", "200", "--depth", "8", "--workers", "1", "--balancer"];
    let output = Command::new(PROGRAM).args(arguments).arg(balancer).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["count"], &found["failed"]), (&200.into(), &0.into()), "{found}");
}

#[test]
fn honest_picks_go_on_and_nothing_is_left() {
    let balancer = Process::start(&["balancer"]);
    // Besides them, the worker's connection.
    let files = balancer.files() + 1;
    let address = balancer.first.clone();
    let _worker = Process::start(&["worker", "--id", "w", "--balancer", &address]);
    picks("pick", &address);
    let settled = |files: usize| {
        let begun = Instant::now();
        while balancer.files() > files {
            assert!(begun.elapsed() < PATIENCE, "{} files instead of {files}", balancer.files());
            thread::yield_now();
        }
    };
    for kind in KINDS {
        let count = CONNECTIONS.to_string();
        let flags = ["--target", &address, "--count", &count, "--addresses", "4"];
        let mut attackers = Process::start(&[&["hostile", kind], &flags[..]].concat());
        assert_eq!(attackers.first, "ready");
        picks("pick", &address);
        picks("pick-session", &address);
        let found: serde_json::Value = serde_json::from_str(&attackers.end().unwrap()).unwrap();
        assert!(found["opened"].as_u64().unwrap() >= CONNECTIONS, "{kind}: {found}");
        settled(files);
        assert!(balancer.memory_kib() < MEMORY_KIB, "{kind}: {} KiB", balancer.memory_kib());
    }
}
