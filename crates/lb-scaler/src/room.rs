//! What the machine has to spare: CPU that nobody uses, and memory that is available.

use std::time::{Duration, Instant};

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use tracing::warn;

/// sysinfo needs at least 200 ms between two looks at the CPU; more often than this nobody plans.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
const MILLICORES: f64 = 1000.0;

/// What is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Room {
    /// CPU, in thousandths of a core.
    pub(crate) millicores: u32,
    /// Memory, in bytes.
    pub(crate) memory: u64,
}

/// Looks at most once a second.
pub(crate) struct Meter {
    system: Option<System>,
    looked_at: Instant,
    room: Room,
}

fn what() -> RefreshKind {
    RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing().with_usage())
        .with_memory(MemoryRefreshKind::nothing().with_ram())
}

impl Meter {
    pub(crate) fn new() -> Self {
        let system = System::new_with_specifics(what());
        let system = system.inspect_err(|error| {
            warn!(%error, "cannot sample CPU and memory, offering none of them");
        });
        let mut meter =
            Self { system: system.ok(), looked_at: Instant::now(), room: Room::default() };
        // Of the CPU nothing is known before the second look: all of it counts as free, as on a machine that has just started.
        meter.room = meter.system.as_ref().map(|system| room(system, 0.0)).unwrap_or_default();
        meter
    }

    /// What is free, by the last look.
    pub(crate) fn room(&mut self) -> Room {
        if let Some(system) = &mut self.system
            && self.looked_at.elapsed() >= SAMPLE_INTERVAL
        {
            system.refresh_specifics(what());
            self.looked_at = Instant::now();
            self.room = room(system, f64::from(system.global_cpu_usage()) / 100.0);
        }
        self.room
    }
}

fn room(system: &System, busy: f64) -> Room {
    let share = if busy.is_finite() { (1.0 - busy).clamp(0.0, 1.0) } else { 0.0 };
    let free = system.cpus().len() as f64 * share * MILLICORES;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let millicores = free.clamp(0.0, f64::from(u32::MAX)) as u32;
    Room { millicores, memory: system.available_memory() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_some_room() {
        let room = Meter::new().room();
        assert!(room.memory > 0 && room.millicores >= 1000, "{room:?}");
    }
}
