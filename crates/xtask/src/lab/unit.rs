//! What the systemd of a host says about a unit.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};

use super::{Host, wait_until};

/// systemd starts a daemon again after a second.
const RESTART_TIMEOUT: Duration = Duration::from_secs(30);

impl Host {
    /// The process that a unit runs.
    ///
    /// # Errors
    /// When it runs none.
    pub(crate) fn main_process(&self, unit: &str) -> anyhow::Result<u32> {
        let process: u32 = self.property(unit, "MainPID")?.parse()?;
        ensure!(process != 0, "{unit} does not run");
        Ok(process)
    }

    /// When the process of a unit was started, in seconds since 1970.
    ///
    /// # Errors
    /// When it runs none.
    pub(crate) fn started_at(&self, unit: &str) -> anyhow::Result<f64> {
        let microseconds: f64 = self.property(unit, "ExecMainStartTimestampMonotonic")?.parse()?;
        let uptime = fs::read_to_string("/proc/uptime")?;
        let uptime: f64 = uptime.split(' ').next().context("/proc/uptime")?.parse()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(now.as_secs_f64() - uptime + microseconds / 1e6)
    }

    /// Waits until a unit runs another process, and is ready.
    ///
    /// # Errors
    /// When it does not in time.
    pub(crate) fn await_other_process(&self, unit: &str, old: u32) -> anyhow::Result<()> {
        wait_until(&format!("{unit} to start again"), RESTART_TIMEOUT, || {
            let active = self.property(unit, "ActiveState")? == "active";
            Ok(active && self.main_process(unit).is_ok_and(|process| process != old))
        })
    }

    fn property(&self, unit: &str, name: &str) -> anyhow::Result<String> {
        let value = self.run(&format!("systemctl show --property={name} --value {unit}"))?;
        Ok(value.trim().to_owned())
    }
}
