//! Where and when something was measured.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::report::Environment;

/// This machine, now.
pub(crate) fn describe() -> Environment {
    let command: Vec<String> = std::env::args()
        .enumerate()
        .map(|(place, word)| if place == 0 { "lbctl".into() } else { word })
        .collect();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Environment {
        command_line: command.join(" "),
        date: today(),
        machine: machine(),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        versions: BTreeMap::from([("lbctl".to_owned(), version)]),
    }
}

fn machine() -> String {
    let field = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        let (_, value) = line.split_once([':', '='])?;
        Some(value.trim().trim_matches('"').to_owned())
    };
    let system = field("/etc/os-release", "PRETTY_NAME").unwrap_or_else(|| "Linux".into());
    match field("/proc/cpuinfo", "model name") {
        Some(processor) => format!("{system}, {processor}"),
        None => system,
    }
}

fn today() -> String {
    let now = SystemTime::now();
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let text =
        humantime::format_rfc3339_seconds(UNIX_EPOCH + std::time::Duration::from_secs(seconds));
    text.to_string().replace('T', " ").replace('Z', " UTC")
}
