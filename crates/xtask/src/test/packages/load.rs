//! Constant calls while something is done to the hosts.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::{
    lab::{Host, Lab},
    tools::{command, output, root, say},
};

/// Few enough that one host can do them all, and that no queue fills while the other is away.
const LOAD: &str = "bench run --found --rate 40 --policies least_load --repeats 1 --warm-up 0 --duration 1h --output json";

/// Calls are in workers.
const UNDER_WAY: &str = "lbctl workers --output json | grep -q '\"in_flight\": [1-9]'";
/// Multicast DNS takes a second, a registration less.
const SOON: Duration = Duration::from_secs(30);

/// Calls made until it is told to end, from a machine of its own in the lab's network.
pub(super) struct Load {
    lbctl: Child,
    result: PathBuf,
}

impl Load {
    /// Begins to call; returns when calls are under way. `host` has lbctl.
    pub(super) fn start(lab: &Lab, host: &Host) -> anyhow::Result<Self> {
        let program = root().join("target/packages/release/lbctl");
        let words: Vec<_> = LOAD.split(' ').chain(["--task", "sleep 20ms"]).collect();
        let result = lab.folder().join("load.json");
        let mut lbctl = lab.inside(&program.to_string_lossy(), &words);
        let lbctl = lbctl.stdout(File::create(&result)?).spawn().context("cannot start lbctl")?;
        host.wait_for(UNDER_WAY, SOON)?;
        Ok(Self { lbctl, result })
    }

    /// Ends it once calls are under way again. Every call must have been answered.
    pub(super) fn end(mut self, host: &Host) -> anyhow::Result<()> {
        host.wait_for(UNDER_WAY, SOON)?;
        output(command("kill", &["-INT", &self.lbctl.id().to_string()]))?;
        self.lbctl.wait()?;
        let text = fs::read_to_string(&self.result)?;
        let result: Value = serde_json::from_str(&text).context("lbctl prints JSON")?;
        let run = &result["runs"][0];
        let (calls, failures) = (run["requests"].as_u64(), run["failures"].as_object());
        let (Some(calls), Some(failures)) = (calls, failures) else {
            bail!("lbctl's result has no calls and failures: {text}");
        };
        ensure!(calls > 0, "no call was made");
        ensure!(failures.is_empty(), "of {calls} calls some failed: {failures:?}");
        say(&format!("  {calls} calls, no failure"));
        Ok(())
    }
}
