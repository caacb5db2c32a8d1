//! Open files: a connection each, here and in the balancer, which inherits the limit.

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a process has open beside its connections; it takes about thirty.
const OTHER_FILES: u64 = 200;

/// Raises the limit of open files as far as `connections` need it.
///
/// # Errors
/// When the machine allows fewer; names both numbers.
pub(super) fn allow(connections: u32) -> anyhow::Result<()> {
    let needed = u64::from(connections) + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(allowed) = maximum.filter(|&maximum| maximum < needed) {
        bail!(
            "{connections} workers need {needed} open files, and this machine allows {allowed} \
             (ulimit -Hn): take fewer workers or raise the limit"
        );
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .context("cannot raise the limit of open files")
}
