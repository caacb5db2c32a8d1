//! Whether a worker fails more than the others, from its answers and failures in their order.
//!
//! Source: Page 1954, "Continuous inspection schemes": the cumulative sum of the logarithms of how much likelier each end is for a
//! sick worker than for one like the others, never below 0:
//!
//! ```text
//! S ← max(0, S + ln(p₁/p₀))              for a failure
//! S ← max(0, S + ln((1−p₁)/(1−p₀)))      for an answer
//! p₀ = 2 · mean share of failures of the better half, at least LEAST_SHARE       p₁ = p₀ + SICK · (1−p₀)
//! ```
//!
//! Of all tests with as rare false alarms it finds a change soonest on average. Three failures in a row are enough however long
//! all went well before, and one call in three or ten within some dozens of calls; a share would need a window, and be late or
//! hasty. Since `p₀` follows the better half of the workers, nobody is convicted of what happens to all: a fleet that fails as a
//! whole, or a client that fails everywhere; yet several that are sick at once do not pass for the norm, nor does one that attracts
//! most calls, since workers are counted and not calls.

/// Sum at which a worker is convicted. By Wald's bound at least e⁹ ≈ 8,000 calls of a well worker pass between two false
/// alarms, each of which costs the fleet one worker for a second.
const CONVICTED: f64 = 9.0;

/// Greatest sum: a worker that cannot be put out yet, since it is one of too many, is cleared by some dozens of answers.
const GREATEST: f64 = 18.0;

/// Least share of failures that a well worker is believed to have.
const LEAST_SHARE: f64 = 0.01;

/// How much of what the others answer a sick worker fails.
const SICK: f64 = 0.3;

/// ln((1−p₁)/(1−p₀)), which is ln(1 − SICK) whatever p₀ is.
const OF_ANSWER: f64 = -0.356_674_943_938_732_4;

/// How much the share follows one call: soon enough that a fleet which begins to fail as a whole is seen to.
const FOLLOW: f64 = 0.1;

/// Calls after which half of what [`Suspicion::lately`] tells is forgotten.
const LATELY: u32 = 40;

/// Classes of shares, from the least: what a worker's share is taken for is at most 1/128 off.
const CLASSES: usize = 64;

/// How the workers fare that are not out.
#[derive(Debug)]
pub(crate) struct Baseline {
    /// Workers by their share of failures.
    classes: [u32; CLASSES],
    workers: u32,
}

impl Default for Baseline {
    fn default() -> Self {
        Self { classes: [0; CLASSES], workers: 0 }
    }
}

impl Baseline {
    /// Mean share of failures of the better half, 0 to 1; 0 for nobody.
    pub(crate) fn better_half(&self) -> f64 {
        let half = (self.workers / 2).max(1);
        let (mut left, mut sum) = (half, 0.0);
        for (class, &workers) in (0_u8..).zip(&self.classes) {
            let taken = workers.min(left);
            left -= taken;
            // Of a class its middle.
            sum += f64::from(taken) * f64::from(class) / (CLASSES as f64 - 1.0);
            if left == 0 {
                break;
            }
        }
        sum / f64::from(half)
    }

    fn add(&mut self, share: f64) {
        self.classes[class(share)] += 1;
        self.workers += 1;
    }

    fn remove(&mut self, share: f64) {
        self.classes[class(share)] -= 1;
        self.workers -= 1;
    }

    fn change(&mut self, before: f64, after: f64) {
        self.classes[class(before)] -= 1;
        self.classes[class(after)] += 1;
    }
}

fn class(share: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 63")]
    let class = (share * (CLASSES as f64 - 1.0)).round() as usize;
    class
}

/// What speaks against one worker.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    sum: f64,
    share: f64,
    failed: u32,
    calls: u32,
    is_counted: bool,
}

impl Suspicion {
    /// Takes calls that ended at about the same time. Their order is not known, so they count as mixed.
    pub(super) fn learn(&mut self, answered: u64, failed: u64, baseline: &mut Baseline) {
        if failed == 0 && self.is_blameless() {
            // As nearly always.
            return self.count(answered, failed);
        }
        let mut change = answered as f64 * OF_ANSWER;
        if failed > 0 {
            let usual = (2.0 * baseline.better_half()).clamp(LEAST_SHARE, 1.0);
            let sick = usual + SICK * (1.0 - usual);
            change += failed as f64 * (sick / usual).ln();
        }
        self.sum = (self.sum + change).clamp(0.0, GREATEST);

        let before = self.share;
        self.share *= (1.0 - FOLLOW).powf(answered as f64);
        self.share = 1.0 - (1.0 - self.share) * (1.0 - FOLLOW).powf(failed as f64);
        if self.is_counted {
            baseline.change(before, self.share);
        }
        self.count(answered, failed);
    }

    /// Whether answers change nothing any more.
    fn is_blameless(&self) -> bool {
        self.sum <= 0.0 && class(self.share) == 0
    }

    fn count(&mut self, answered: u64, failed: u64) {
        let short = |count: u64| u32::try_from(count).unwrap_or(u32::MAX).min(LATELY);
        self.failed += short(failed);
        self.calls += short(failed) + short(answered);
        if self.calls > LATELY {
            self.failed = self.failed.div_ceil(2);
            self.calls = self.calls.div_ceil(2);
        }
    }

    /// Calls that failed lately, of how many.
    pub(super) fn lately(&self) -> (u32, u32) {
        (self.failed, self.calls)
    }

    pub(super) fn is_convicting(&self) -> bool {
        self.sum >= CONVICTED
    }

    /// Whether so many calls were answered since [`Suspicion::arm`] that it is believed to be well.
    pub(super) fn is_cleared(&self) -> bool {
        self.sum < CONVICTED / 2.0
    }

    /// From now on one failure convicts; about a dozen answers clear.
    pub(super) fn arm(&mut self) {
        debug_assert!(!self.is_counted, "who is armed was out");
        *self = Self { sum: CONVICTED - 0.01, ..Self::default() };
    }

    /// What it was suspected of is forgotten, by half: the next time two failures are enough.
    pub(super) fn acquit(&mut self) {
        self.sum = self.sum.min(CONVICTED / 2.0);
    }

    /// It is one of those who are compared.
    pub(super) fn join(&mut self, baseline: &mut Baseline) {
        if !self.is_counted {
            self.is_counted = true;
            baseline.add(self.share);
        }
    }

    /// It is none of them any more.
    pub(super) fn leave(&mut self, baseline: &mut Baseline) {
        if self.is_counted {
            self.is_counted = false;
            baseline.remove(self.share);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(count: usize, baseline: &mut Baseline) -> Vec<Suspicion> {
        let mut fleet: Vec<Suspicion> = (0..count).map(|_| Suspicion::default()).collect();
        for worker in &mut fleet {
            worker.join(baseline);
        }
        fleet
    }

    /// Calls until conviction of a worker that fails every `nth` call among `others` that never do.
    fn convicted_after(nth: u64, others: usize) -> Option<u64> {
        let mut baseline = Baseline::default();
        let mut well = fleet(others, &mut baseline);
        let mut sick = fleet(1, &mut baseline).remove(0);
        (1..=10_000).find(|call| {
            for worker in &mut well {
                worker.learn(1, 0, &mut baseline);
            }
            let failed = u64::from(call % nth == 0);
            sick.learn(1 - failed, failed, &mut baseline);
            sick.is_convicting()
        })
    }

    #[test]
    fn a_dead_worker_is_convicted_by_three_failures_and_a_sick_one_soon() {
        assert_eq!(convicted_after(1, 9), Some(3));
        assert_eq!(convicted_after(2, 9), Some(6));
        assert_eq!(convicted_after(3, 9), Some(12));
        assert!(convicted_after(5, 9).unwrap() < 40);
        assert_eq!(convicted_after(20, 9), None, "one in twenty is what well workers do");
        assert_eq!(convicted_after(1, 1), Some(3), "one other is enough to compare with");
    }

    #[test]
    fn half_of_the_fleet_can_be_convicted_and_no_more() {
        for (sick, convicted) in [(5, 5), (10, 0)] {
            let mut baseline = Baseline::default();
            let mut fleet = fleet(10, &mut baseline);
            for _ in 0..5 {
                for (place, worker) in fleet.iter_mut().enumerate() {
                    let failed = u64::from(place < sick);
                    worker.learn(1 - failed, failed, &mut baseline);
                }
            }
            assert_eq!(fleet.iter().filter(|worker| worker.is_convicting()).count(), convicted);
        }
    }

    #[test]
    fn the_weight_of_an_answer_is_what_it_says() {
        assert!((OF_ANSWER - (1.0 - SICK).ln()).abs() < 1e-12);
    }

    #[test]
    fn long_good_conduct_does_not_help() {
        let mut baseline = Baseline::default();
        let mut worker = fleet(2, &mut baseline).remove(0);
        worker.learn(1_000_000, 0, &mut baseline);
        (0..3).for_each(|_| worker.learn(0, 1, &mut baseline));
        assert!(worker.is_convicting());
    }

    #[test]
    fn nobody_is_convicted_of_what_happens_to_all() {
        let mut baseline = Baseline::default();
        let mut fleet = fleet(10, &mut baseline);
        for share in [1, 2, 5] {
            for call in 0..1_000_u64 {
                let failed = u64::from(call % share == 0);
                for worker in &mut fleet {
                    worker.learn(1 - failed, failed, &mut baseline);
                    assert!(!worker.is_convicting(), "every {share}th call fails everywhere");
                }
            }
        }
        for worker in &mut fleet {
            worker.leave(&mut baseline);
        }
        assert!(baseline.workers == 0 && baseline.classes == [0; CLASSES]);
    }

    #[test]
    fn mixed_ends_are_weighed_against_each_other() {
        let mut baseline = Baseline::default();
        let mut worker = fleet(2, &mut baseline).remove(0);
        (0..100).for_each(|_| worker.learn(60, 5, &mut baseline));
        assert!(!worker.is_convicting(), "8 % is not much, in whatever portions it is told");
    }
}
