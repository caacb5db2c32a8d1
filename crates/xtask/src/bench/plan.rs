//! What is measured: groups of ways that are compared with each other.

use super::{Part, Series, proxy::Proxy, result};

/// Where a load goes, and whose CPU time counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Server {
    /// Tonic's server alone.
    Bare,
    /// Four of them, on one thread each.
    BareWorkers,
    /// The workers, called directly.
    Workers,
    /// The balancer; with `calls` the workers, too.
    Balancer {
        /// Whether the workers are called.
        calls: bool,
    },
    /// One of the proxies that run, in front of the workers.
    Proxy(usize),
}

/// One way to pick or to call.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) name: String,
    /// Its name for `lb-wire load`.
    pub(super) load: &'static str,
    pub(super) server: Server,
}

impl Way {
    fn new(name: &str, load: &'static str, server: Server) -> Self {
        Self { name: name.into(), load, server }
    }
}

/// Ways under the same load. The first one is what the others are set against.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) title: &'static str,
    /// Flags of `lb-wire load`.
    pub(super) load: Vec<&'static str>,
    pub(super) ways: Vec<Way>,
}

impl Group {
    /// The group before anything was measured.
    pub(super) fn empty(&self) -> result::Group {
        let series = |way: &Way| Series { name: way.name.clone(), rounds: Vec::new() };
        let ways = self.ways.iter().map(series).collect();
        result::Group { title: self.title.to_owned(), ways }
    }
}

// Titles and names by which bounds find what they compare.
pub(super) const PICKS_1: &str = "Picks, one connection, one at a time";
pub(super) const PICKS_64: &str = "Picks, one connection, 64 at a time";
pub(super) const PICKS_64_CLIENTS: &str = "Picks, 64 connections, one at a time on each";
pub(super) const CALLS: &str = "Calls, 64 at a time";
pub(super) const CALLS_2000: &str = "Calls, 2,000 a second";

pub(super) const ECHO: &str = "empty unary call";
pub(super) const PICK: &str = "unary pick";
pub(super) const SESSION: &str = "session pick";
pub(super) const DIRECT: &str = "direct, static list";
pub(super) const CALL_LOCAL: &str = "local pick";
pub(super) const CALL_SESSION: &str = "session pick";
pub(super) const CALL_PICK: &str = "unary pick";

/// The groups of these parts.
pub(super) fn groups(parts: &[Part], proxies: &[Proxy]) -> Vec<Group> {
    let mut groups = Vec::new();
    if parts.contains(&Part::Picks) {
        groups.extend(picks());
    }
    let with_proxies = parts.contains(&Part::Proxies);
    if with_proxies || parts.contains(&Part::Calls) {
        groups.extend(calls(with_proxies, proxies));
    }
    groups
}

fn picks() -> Vec<Group> {
    let balancer = Server::Balancer { calls: false };
    let ways = vec![
        Way::new(ECHO, "call", Server::Bare),
        Way::new(PICK, "pick", balancer),
        Way::new(SESSION, "pick-session", balancer),
        Way::new("empty stream, a message each", "echo-stream", Server::Bare),
    ];
    let group = |title, load: &[_]| Group { title, load: load.to_vec(), ways: ways.clone() };
    vec![
        group(PICKS_1, &["--depth", "1"]),
        group(PICKS_64, &["--depth", "64"]),
        group(PICKS_64_CLIENTS, &["--clients", "64"]),
    ]
}

fn calls(with_proxies: bool, proxies: &[Proxy]) -> Vec<Group> {
    let balancer = Server::Balancer { calls: true };
    let mut ways = vec![
        Way::new(DIRECT, "call", Server::Workers),
        Way::new("direct, workers without our layer", "call", Server::BareWorkers),
        Way::new(CALL_LOCAL, "call-local", balancer),
        Way::new(CALL_SESSION, "call-session", balancer),
        Way::new(CALL_PICK, "call-pick", balancer),
    ];
    for (index, proxy) in proxies.iter().enumerate() {
        ways.push(Way::new(proxy.name, "call", Server::Proxy(index)));
    }
    let group = |title, load: &[_]| Group { title, load: load.to_vec(), ways: ways.clone() };
    let mut groups = vec![group(CALLS, &["--depth", "64"]), group(CALLS_2000, &["--rate", "2000"])];
    if with_proxies {
        groups.extend([
            group("Calls of 1 ms, 64 at a time", &["--depth", "64", "--service-ms", "1"]),
            group("Calls of 20 ms, 64 at a time", &["--depth", "64", "--service-ms", "20"]),
            group(
                "Calls with 8 KiB each way, 64 at a time",
                &["--depth", "64", "--payload", "8192"],
            ),
            group(
                "Calls with 64 KiB each way, 64 at a time",
                &["--depth", "64", "--payload", "65536"],
            ),
        ]);
    }
    groups
}
