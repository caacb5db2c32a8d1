//! How busy the machine is: its CPU and memory, sampled once a second, and how many calls have ended since. For people, and to break
//! ties.

use std::time::Duration;

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::warn;

use crate::load::Load;

/// sysinfo needs at least 200 ms between two looks at the CPU; a report more often than this has no reader.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Shares of the machine in use, each from 0 to 1, and what came out of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Usage {
    /// CPU, over the last second and all cores.
    pub(crate) cpu: f64,
    /// Memory that programs hold, without caches.
    pub(crate) memory: f64,
    /// Calls of this worker that ended, over the last second.
    pub(crate) calls_per_second: f64,
    /// Of those, the failed ones.
    pub(crate) errors_per_second: f64,
}

/// Samples for ever into `usage`; calls are those of `load`.
pub(crate) async fn sample(usage: watch::Sender<Usage>, load: Load) {
    let what = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing().with_usage())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let mut system = match System::new_with_specifics(what) {
        Ok(system) => system,
        Err(error) => {
            warn!(%error, "cannot sample CPU and memory, reporting none in use");
            return;
        }
    };
    let mut ticks = interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let (mut before, mut looked) = (load.view(Instant::now()), Instant::now());
    loop {
        ticks.tick().await;
        // Two short files under /proc: not worth a thread of its own.
        system.refresh_specifics(what);
        let now = Instant::now();
        let view = load.view(now);
        let seconds = now.saturating_duration_since(looked).as_secs_f64().max(1e-3);
        let rate = |total: u64, before: u64| total.saturating_sub(before) as f64 / seconds;
        usage.send_replace(Usage {
            calls_per_second: rate(view.completed_total, before.completed_total),
            errors_per_second: rate(view.errors_total, before.errors_total),
            ..read(&system)
        });
        (before, looked) = (view, now);
    }
}

fn read(system: &System) -> Usage {
    let cpu = f64::from(system.global_cpu_usage()) / 100.0;
    let memory = match system.total_memory() {
        0 => 0.0,
        total => system.used_memory() as f64 / total as f64,
    };
    Usage { cpu: share(cpu), memory: share(memory), ..Usage::default() }
}

/// Rounding, or a first sample without a predecessor, must not make a report that balancers refuse.
fn share(value: f64) -> f64 {
    if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_shares() {
        assert_eq!(share(f64::NAN).to_bits(), 0.0_f64.to_bits());
        assert_eq!(share(-0.1).to_bits(), 0.0_f64.to_bits());
        assert_eq!(share(1.2).to_bits(), 1.0_f64.to_bits());
    }

    #[test]
    fn the_machine_has_some_memory_in_use() {
        let what = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        let usage = read(&System::new_with_specifics(what).unwrap());
        assert!(usage.memory > 0.0 && usage.memory <= 1.0, "{usage:?}");
    }
}
