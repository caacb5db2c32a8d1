//! The least that the longest response time can be under a policy, when all calls are made at once.
//!
//! Calls beyond the slots wait for the wave before them. A policy that knows nothing of load fills some workers beyond
//! their slots while others have free ones, and its own limit is higher: it is compared with what it could do.

use lb_core::policy::PolicyKind;

use crate::{
    load::End,
    workload::{Distribution, Task},
};

use super::scenario::{Calls, Scenario};

/// In microseconds. `None` unless all calls are made at once, are alike, and all workers are as fast.
pub(super) fn longest_us(scenario: &Scenario, policy: PolicyKind) -> Option<f64> {
    let Calls::Closed { clients } = scenario.calls else { return None };
    let End::Requests(requests) = scenario.end else { return None };
    let at_once = requests <= u64::try_from(clients).ok()?;
    let alike = scenario.distribution == Distribution::Constant
        && scenario.workers.iter().all(|worker| (worker.slowdown - 1.0).abs() < f64::EPSILON);
    if !at_once || !alike || !scenario.events.is_empty() {
        return None;
    }
    let task_us = scenario.task.mean()?.as_secs_f64() * 1e6;
    let slots: Vec<u64> = scenario.workers.iter().map(|worker| worker.slots.into()).collect();
    let by_slots = waves(policy, requests, &slots)? as f64 * task_us;
    match scenario.task {
        Task::Burn(_) => {
            // The workers share this machine's processors.
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            Some(by_slots.max(requests as f64 * task_us / cores as f64))
        }
        _ => Some(by_slots),
    }
}

/// How often the busiest slot is used.
fn waves(policy: PolicyKind, requests: u64, slots: &[u64]) -> Option<u64> {
    let workers = u64::try_from(slots.len()).ok()?;
    match policy {
        PolicyKind::PickFirst => Some(requests.div_ceil(*slots.first()?)),
        PolicyKind::RoundRobin => {
            let each = requests.div_ceil(workers.max(1));
            slots.iter().map(|slots| each.div_ceil(*slots)).max()
        }
        PolicyKind::LeastLoad => Some(requests.div_ceil(slots.iter().sum::<u64>().max(1))),
        // The others draw, or go by keys and measured speeds: slots alone set no limit.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asked_for_cases_have_the_limits_set_by_slots() {
        for workers in [10, 15] {
            let slots = vec![10; workers];
            assert_eq!(waves(PolicyKind::PickFirst, 100, &slots), Some(10));
            assert_eq!(waves(PolicyKind::RoundRobin, 100, &slots), Some(1));
            assert_eq!(waves(PolicyKind::LeastLoad, 100, &slots), Some(1));
            assert_eq!(waves(PolicyKind::Random, 100, &slots), None);
        }
        assert_eq!(waves(PolicyKind::RoundRobin, 12, &[4, 1]), Some(6));
        assert_eq!(waves(PolicyKind::LeastLoad, 12, &[4, 1]), Some(3));
    }
}
