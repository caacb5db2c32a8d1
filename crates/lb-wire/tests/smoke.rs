//! Every process and every way of the bench once, with counts and no times.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lb-wire");
const COUNT: u64 = 200;

/// A server that ends when this is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends by itself when nobody holds its standard input any more.
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

fn load(arguments: &[&str]) -> Result<serde_json::Value, String> {
    let output = Command::new(PROGRAM).arg("load").args(arguments).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn every_way_makes_as_many_as_it_was_told_to_and_none_fails() {
    let balancer = Server::start(&["balancer"]);
    let workers = ["w1", "w2"]
        .map(|id| Server::start(&["worker", "--id", id, "--balancer", &balancer.address]));
    let bare = Server::start(&["bare", "--single-threaded"]);
    let count = COUNT.to_string();
    let common = ["--count", &count, "--depth", "8", "--payload", "100"];
    let addresses = workers.each_ref().map(|worker| worker.address.as_str()).join(",");
    let process = format!("server={}", balancer.child.id());

    let direct = [("call", &addresses), ("call", &bare.address), ("echo-stream", &bare.address)];
    for (way, targets) in direct {
        let result = load(&[&[way, "--targets", targets], &common[..]].concat()).unwrap();
        assert_eq!((&result["count"], &result["failed"]), (&COUNT.into(), &0.into()), "{result}");
    }
    for way in ["pick", "pick-session", "call-local", "call-session", "call-pick"] {
        let by = [way, "--balancer", &balancer.address, "--workers", "2", "--process", &process];
        let result = load(&[&by, &common[..]].concat()).unwrap();
        assert_eq!((&result["count"], &result["failed"]), (&COUNT.into(), &0.into()), "{result}");
        let names: Vec<_> = result["cpu_us"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["client", "server"]);
    }
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let missing = load(&["call-local", "--count", "1"]).unwrap_err();
    assert!(missing.contains("needs --balancer"), "{missing}");
    let missing = load(&["call", "--count", "1"]).unwrap_err();
    assert!(missing.contains("needs --targets"), "{missing}");
    let wrong = load(&["call", "--process", "4711"]).unwrap_err();
    assert!(wrong.contains("expected NAME=PID"), "{wrong}");
}
