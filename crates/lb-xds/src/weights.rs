//! How large a part of the calls each worker should get, for clients that can only be told so much.
//!
//! A native client asks before every call and is told by counts that are exact at that moment. A stock client draws a worker for
//! each call by weights that it was told some time ago. So the weights follow what changes slowly: capacity, which is slots times
//! learned speed, and how much each worker has to do for its capacity, averaged over some seconds:
//!
//! ```text
//! weight = capacity · (1 + mean load) / (1 + load)      load = calls / capacity, smoothed
//! ```
//!
//! A worker that is as loaded as the others gets what its capacity is worth. One that is more loaded gets less, in the same
//! measure in which a call would take longer there, but for the one that it would add itself. The reaction is weaker than its cause
//! (a load that doubles takes less than half of the weight away), so that it does not swing.

use std::{collections::BTreeMap, time::Duration};

use lb_core::{id::WorkerNumber, time::Timestamp};

/// How often loads are looked at. Often enough for a mean over `MEMORY`, seldom enough to cost nothing for a hundred thousand
/// workers.
pub const SAMPLE: Duration = Duration::from_millis(250);

/// How long a load is remembered: the time constant of the mean. Loads of a few calls jump about; a dozen samples take most of
/// that away.
const MEMORY: Duration = Duration::from_secs(3);

/// Least part of the weight of its capacity that a worker keeps: some calls go on telling how it fares.
const LEAST: f64 = 0.125;

/// Most times the weight of its capacity that a worker gets: one that is empty among full ones fills up within seconds anyway, and
/// all clients hear of it at the same time.
const MOST: f64 = 2.0;

/// The weight of the worker with the largest part. The next smaller steps of one are a tenth of a permille, and those of a hundred
/// thousand workers add up to less than 2³².
const SCALE: f64 = 10_000.0;

/// Weights are told anew when this part of all calls would go elsewhere. Less is noise: it is what a mean over [`MEMORY`] wanders by when
/// nothing has changed.
const MOVED: f64 = 0.05;

/// This is told as well, but seldom ([`SELDOM`]): what stays that way is no noise. Without it a worker whose speed was misjudged for a
/// moment went on with two thirds of its part (7 % of all calls instead of 10).
const MOVED_SLIGHTLY: f64 = 0.01;

/// Also when the part of one worker has changed by this factor, however small it is: among many workers nobody moves much of
/// the whole.
const WORKER_MOVED: f64 = 1.5;

/// Least time between two lists that differ by their weights alone. Each makes all clients of the service build a new picker.
const SPACING: Duration = Duration::from_secs(1);

/// The least time before a slight difference is told, in times of what it is for others.
const SELDOM: u32 = 10;

/// The same for each worker on the list: a list of ten thousand has nearly a megabyte for each client.
const SPACING_PER_WORKER: Duration = Duration::from_millis(1);

/// What counts of a worker at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Member {
    pub(crate) number: WorkerNumber,
    /// Above 0.
    pub(crate) capacity: f64,
    /// Calls expected in it.
    pub(crate) calls: f64,
}

/// The loads of a service's workers over time.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    /// Calls for each unit of capacity.
    smoothed: BTreeMap<WorkerNumber, f64>,
    looked_at: Option<Timestamp>,
}

impl Loads {
    /// Takes a look. Who is new begins with the mean of the others: what it has in its first moment says nothing.
    pub(crate) fn look(&mut self, members: &[Member], now: Timestamp) {
        let passed = self.looked_at.map_or(Duration::ZERO, |before| now.since(before));
        self.looked_at = Some(now);
        let part = 1.0 - (-passed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        let mean = self.mean(members);
        let followed = members.iter().map(|member| {
            let load = member.calls / member.capacity;
            let before = self.smoothed.get(&member.number).copied().or(mean);
            (member.number, before.map_or(load, |before| before + part * (load - before)))
        });
        self.smoothed = followed.collect();
    }

    /// What each worker should get, in the order of `members`; only the ratios mean anything.
    pub(crate) fn weights(&self, members: &[Member]) -> Vec<f64> {
        let mean = self.mean(members).unwrap_or(0.0);
        let weight = |member: &Member| {
            let load = self.smoothed.get(&member.number).copied().unwrap_or(mean);
            member.capacity * ((1.0 + mean) / (1.0 + load)).clamp(LEAST, MOST)
        };
        members.iter().map(weight).collect()
    }

    /// Of those that are known, by their capacities.
    fn mean(&self, members: &[Member]) -> Option<f64> {
        let known = members.iter().filter_map(|member| {
            Some((self.smoothed.get(&member.number)? * member.capacity, member.capacity))
        });
        let (calls, capacity) = known.fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
        (capacity > 0.0).then(|| calls / capacity)
    }
}

/// Weights as clients take them: whole numbers from 1.
pub(crate) fn whole(weights: &[f64]) -> Vec<u32> {
    let largest = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to SCALE")]
    let whole = |weight: &f64| (weight / largest * SCALE).round().clamp(1.0, SCALE) as u32;
    weights.iter().map(whole).collect()
}

/// How long after the last list clients should hear of the weights `new` that were told `old`, for the same workers. `None`: they need
/// not hear of them.
pub(crate) fn wait(old: &[u32], new: &[u32]) -> Option<Duration> {
    let shares = |weights: &[u32]| {
        let sum: f64 = weights.iter().copied().map(f64::from).sum();
        weights.iter().map(|weight| f64::from(*weight) / sum).collect::<Vec<_>>()
    };
    let (old, new) = (shares(old), shares(new));
    let pairs = || old.iter().zip(&new);
    let elsewhere = pairs().map(|(old, new)| (old - new).abs()).sum::<f64>() / 2.0;
    let far = |(old, new): (&f64, &f64)| !(1.0 / WORKER_MOVED..WORKER_MOVED).contains(&(new / old));
    if elsewhere >= MOVED || pairs().any(far) {
        Some(spacing(new.len()))
    } else {
        (elsewhere >= MOVED_SLIGHTLY).then(|| spacing(new.len()) * SELDOM)
    }
}

/// Least time between two lists of so many workers that differ by their weights alone.
fn spacing(workers: usize) -> Duration {
    let by_size = SPACING_PER_WORKER * u32::try_from(workers).unwrap_or(u32::MAX);
    SPACING.max(by_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::at(Duration::from_secs_f64(seconds))
    }

    fn members(all: &[(f64, f64)]) -> Vec<Member> {
        let member = |(number, (capacity, calls)): (u32, &(f64, f64))| Member {
            number: WorkerNumber(number),
            capacity: *capacity,
            calls: *calls,
        };
        (1..).zip(all).map(member).collect()
    }

    #[test]
    fn equal_load_leaves_the_capacities() {
        let mut loads = Loads::default();
        let all = members(&[(6.0, 12.0), (3.0, 6.0), (1.0, 2.0)]);
        loads.look(&all, at(0.0));
        assert_eq!(whole(&loads.weights(&all)), [10_000, 5_000, 1_667]);
    }

    #[test]
    fn a_loaded_worker_gets_less_and_no_less_than_something() {
        let mut loads = Loads::default();
        let all = members(&[(4.0, 4.0), (4.0, 4.0)]);
        loads.look(&all, at(0.0));
        let all = members(&[(4.0, 4.0), (4.0, 400.0)]);
        loads.look(&all, at(0.25));
        let soon = whole(&loads.weights(&all));
        loads.look(&all, at(60.0));
        let late = whole(&loads.weights(&all));
        assert_eq!(soon[0], 10_000);
        assert!(soon[1] > 1_500, "it takes time: {soon:?}");
        assert_eq!(late, [10_000, 2_550], "twice its capacity, and half of it");
    }

    /// Little's law in a loop: what a worker has follows what it is given. Weights settle, they do not swing.
    #[test]
    fn weights_settle_while_half_of_a_worker_is_taken_by_others() {
        let (mut loads, mut share) = (Loads::default(), 0.5);
        let mut last = 0.0;
        for step in 0..400 {
            let calls = |share: f64, others: f64| 8.0 * share + others;
            let all = members(&[(8.0, calls(share, 6.0)), (8.0, calls(1.0 - share, 0.0))]);
            loads.look(&all, at(f64::from(step) * 0.25));
            let weights = loads.weights(&all);
            last = (weights[0] / (weights[0] + weights[1]) - share).abs();
            share = weights[0] / (weights[0] + weights[1]);
            assert!((0.3..=0.5).contains(&share), "step {step}: {share}");
        }
        assert!(last < 1e-6, "{last}");
    }

    #[test]
    fn a_newcomer_begins_as_the_others_are() {
        let mut loads = Loads::default();
        loads.look(&members(&[(2.0, 4.0)]), at(0.0));
        let all = members(&[(2.0, 4.0), (2.0, 0.0)]);
        loads.look(&all, at(0.0));
        assert_eq!(whole(&loads.weights(&all)), [10_000, 10_000]);
    }

    #[test]
    fn noise_is_not_told() {
        let seldom = SPACING * SELDOM;
        assert_eq!(wait(&[10_000, 5_000, 1_667], &[10_000, 5_050, 1_670]), None);
        assert_eq!(wait(&[10_000, 5_000, 1_667], &[10_000, 5_600, 1_700]), Some(seldom));
        assert_eq!(wait(&[10_000, 5_000, 1_100], &[10_000, 5_000, 1_600]), Some(seldom));
        assert_eq!(wait(&[10_000, 5_000, 1_667], &[10_000, 7_500, 1_667]), Some(SPACING));
        let mut many = vec![100; 1_000];
        assert_eq!(wait(&[100; 1_000], &many), None);
        many[7] = 160;
        assert_eq!(wait(&[100; 1_000], &many), Some(SPACING), "one of many counts as well");
        assert_eq!(spacing(3), SPACING);
        assert_eq!(spacing(10_000), Duration::from_secs(10));
    }
}
