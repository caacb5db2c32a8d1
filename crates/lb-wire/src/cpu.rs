//! CPU time of processes, by the kernel's own account: `/proc/PID/task/*/schedstat` counts what a
//! thread has run in nanoseconds, where `/proc/PID/stat` counts in ticks of ten milliseconds.

use std::{collections::BTreeMap, fs, process, str::FromStr};

use anyhow::Context as _;

/// A process whose CPU time is counted under a name; several may share one.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    name: String,
    pid: u32,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.split_once('=').and_then(|(name, pid)| {
            Some(Self {
                name: (!name.is_empty()).then(|| name.to_owned())?,
                pid: pid.parse().ok()?,
            })
        });
        named.ok_or_else(|| format!("{text:?} is no process: expected NAME=PID, as in worker=4711"))
    }
}

/// CPU nanoseconds used so far by name, this process under `client`.
///
/// # Errors
/// When one of the processes is gone.
pub(crate) fn used(processes: &[Named]) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut used = BTreeMap::from([("client".to_owned(), nanoseconds(process::id())?)]);
    for Named { name, pid } in processes {
        *used.entry(name.clone()).or_insert(0) += nanoseconds(*pid)?;
    }
    Ok(used)
}

/// A process and all its children.
fn nanoseconds(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&path).with_context(|| format!("process {pid} is gone"))?;
    let mut sum = 0;
    for task in tasks {
        let task = task.with_context(|| format!("cannot read {path}"))?.path();
        // A thread that has ended meanwhile has neither.
        let account = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        sum += account.split(' ').next().and_then(|time| time.parse().ok()).unwrap_or(0);
        let children = fs::read_to_string(task.join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            sum += nanoseconds(child)?;
        }
    }
    Ok(sum)
}
