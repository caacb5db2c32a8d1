//! Who works: how many, how large, how fast.

use std::ops::RangeInclusive;

use crate::{
    commands::bench::run::{
        raw::{Flags, Raw},
        scenario::{Calls, ScenarioError},
    },
    fleet::WorkerPlan,
};

use super::{Reader, Setting, default_queue, plan};

/// Workers when nothing says.
const WORKERS: usize = 4;
/// Slots of each when nothing says.
const SLOTS: u32 = 4;

/// Each is a process of its own.
pub(super) const WORKER_COUNTS: RangeInclusive<i64> = 1..=99;
/// The worker's own limits.
pub(super) const SLOT_COUNTS: RangeInclusive<i64> = 1..=65_535;
pub(super) const QUEUES: RangeInclusive<i64> = 0..=100_000;
pub(super) const SLOWDOWNS: RangeInclusive<f64> = 0.1..=100.0;

impl Reader<'_> {
    pub(super) fn workers(
        &self,
        raw: &Raw,
        flags: &Flags,
        calls: &Calls,
    ) -> Result<Vec<WorkerPlan>, ScenarioError> {
        let count = self.setting("workers", flags.workers, raw.workers.clone());
        let slots = self.setting("slots", flags.slots.clone(), raw.slots.clone());
        let slowdown = self.setting("slowdown", flags.slowdown.clone(), raw.slowdown.clone());
        let queue = self.setting("queue", flags.queue, raw.queue.clone());
        let number = match (&count, &slots) {
            (Some(count), _) => count.whole(WORKER_COUNTS)?,
            (None, Some(slots)) => {
                let most = *WORKER_COUNTS.end();
                let listed = slots.value.len().max(1);
                if i64::try_from(listed).is_ok_and(|listed| listed <= most) {
                    listed
                } else {
                    return Err(
                        slots.wrong(format!("lists {listed}: expected at most {most} workers"))
                    );
                }
            }
            (None, None) => WORKERS,
        };
        fits(count.as_ref(), slots.as_ref(), number)?;
        fits(count.as_ref(), slowdown.as_ref(), number)?;
        let slots = slots_of(slots)?;
        let slowdowns = slowdowns_of(slowdown)?;
        let queue = queue.map(|queue| queue.whole(QUEUES)).transpose()?;
        let worker = |index: usize| {
            let slots = slots[index % slots.len()];
            let slowdown = slowdowns[index % slowdowns.len()];
            plan(index + 1, slots, queue.unwrap_or_else(|| default_queue(calls, slots)), slowdown)
        };
        Ok((0..number).map(worker).collect())
    }
}

/// At least one.
fn slots_of(setting: Option<Setting<Vec<i64>>>) -> Result<Vec<u32>, ScenarioError> {
    let Some(setting) = setting else { return Ok(vec![SLOTS]) };
    if setting.value.is_empty() {
        return Err(setting.wrong("is empty: expected the slots of at least one worker"));
    }
    let each = |value: &i64| {
        let one = Setting { key: setting.key, value: *value, origin: setting.origin.clone() };
        one.whole(SLOT_COUNTS)
    };
    setting.value.iter().map(each).collect()
}

/// At least one.
fn slowdowns_of(setting: Option<Setting<Vec<f64>>>) -> Result<Vec<f64>, ScenarioError> {
    let Some(setting) = setting else { return Ok(vec![1.0]) };
    if setting.value.is_empty() {
        return Err(setting.wrong("is empty: expected a factor for at least one worker"));
    }
    if let Some(wrong) = setting.value.iter().find(|factor| !SLOWDOWNS.contains(factor)) {
        return Err(setting.wrong(format!("is {wrong}: expected 0.1 to 100")));
    }
    Ok(setting.value)
}

/// A list for more workers than there are contradicts their number, when both were written in one place. Where a flag
/// overrules the file, the rest of the file's list is not needed.
fn fits<T>(
    count: Option<&Setting<i64>>,
    list: Option<&Setting<Vec<T>>>,
    workers: usize,
) -> Result<(), ScenarioError> {
    let (Some(count), Some(list)) = (count, list) else { return Ok(()) };
    if list.value.len() <= workers || count.in_file() != list.in_file() {
        return Ok(());
    }
    let complaint = format!("lists {}, but {} is {workers}", list.value.len(), count.shown());
    Err(list.wrong(complaint))
}
