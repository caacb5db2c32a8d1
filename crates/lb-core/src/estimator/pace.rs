//! How fast each worker is, from its own counters.
//!
//! Busy slot-seconds per completed call, against the same of the whole fleet. The mix of calls is noisy, so a difference has to be
//! worth believing: a few calls of the fleet's mean length are mixed in ([`PRIOR`]), and what chance alone explains is taken out
//! ([`CHANCE`] and [`SURE`]; firm shrinkage, Gao and Bruce 1997). Two workers that differ by chance thus count as equal, while one that
//! is three times slower is found out after a dozen calls. Long windows keep it calm; a machine that changes its speed is followed within one.
//!
//! Calls that still run are in the busy time and not yet in the count, so a mean is only known to lie between two values: one
//! counts them as calls, one does not. A worker differs when its values and the fleet's do not overlap. Without that, the end of the
//! first wave of long equal calls made workers look fast and slow by chance.
//!
//! A failed call is in the busy time and not in the count: whoever fails is slow, not fast.
//!
//! A latency of single calls is never used: it would follow the queue, and herd.

use crate::load::LoadReport;

/// Calls of mean length that every worker is given. 50 learned too late of slow workers that get few calls.
const PRIOR: f64 = 5.0;

/// Up to so many standard errors a difference is chance. Less lets chance lead: the fastest by a hair gets the calls of all
/// balancers (two of them, a report every 1 s: p99 1.10 of the oracle's with James and Stein's shrinkage by 0.7, 1.04 with this).
const CHANCE: f64 = 1.5;

/// From so many standard errors on a difference is believed in full. More learns of slow workers late (2 of 10 at half speed, a report
/// every 1 s: 1.11 at 4).
const SURE: f64 = 3.0;

/// Least coefficient of variation assumed for service times: the estimate of it is noisy, too.
const LEAST_VARIATION: f64 = 0.5;

/// Calls a worker remembers; at the limit, half are forgotten.
const WORKER_MEMORY: f64 = 2_000.0;

/// Calls the fleet remembers; at the limit, half are forgotten.
const FLEET_MEMORY: f64 = 100_000.0;

/// No worker counts as faster or slower than the fleet by more than this factor. Machines that share work are not more unequal, but what
/// one of them claims may be anything.
const MOST_UNEQUAL: f64 = 100.0;

/// Nothing is concluded from fewer calls of the whole fleet.
const LEAST_CALLS: f64 = 20.0;

/// What all workers together have done.
#[derive(Debug, Default)]
pub struct FleetPace {
    busy_seconds: f64,
    calls: f64,
    /// Calls that run now.
    running: f64,
    /// Sum of squares of what service times differ from their worker's mean.
    squares: f64,
}

/// What one worker has done.
#[derive(Debug, Default)]
pub(super) struct Pace {
    busy_seconds: f64,
    calls: f64,
    running: f64,
    last: Option<(f64, u64)>,
    service: f64,
}

/// How long a call takes on a worker, and how that compares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Learned {
    /// Seconds.
    pub(super) service: f64,
    /// 1 is the fleet's mean; 2 takes half the time.
    pub(super) speed: f64,
}

impl Pace {
    /// Takes a report; `None` while too little is known.
    pub(super) fn learn(&mut self, report: &LoadReport, fleet: &mut FleetPace) -> Option<Learned> {
        let running = f64::from(report.in_flight - report.queued);
        fleet.running += running - self.running;
        self.running = running;
        let totals = (report.busy_seconds, report.completed_total - report.faults_total);
        let (busy_before, calls_before) = self.last.replace(totals)?;
        let busy = (totals.0 - busy_before).max(0.0);
        let calls = totals.1.saturating_sub(calls_before) as f64;
        self.busy_seconds += busy;
        self.calls += calls;
        if self.calls > WORKER_MEMORY {
            self.busy_seconds /= 2.0;
            self.calls /= 2.0;
        }
        fleet.add(busy, calls, self.service);
        let mean = fleet.mean()?;
        let difference = shrink(self.difference(mean, fleet), self.standard_error(mean, fleet));
        let speed = difference.exp().clamp(1.0 / MOST_UNEQUAL, MOST_UNEQUAL);
        self.service = mean / speed;
        Some(Learned { service: self.service, speed })
    }

    /// Logarithm of how much faster than the fleet it surely is; negative if slower, 0 if it need not be either.
    fn difference(&self, mean: f64, fleet: &FleetPace) -> f64 {
        let busy = self.busy_seconds + PRIOR * mean;
        let longest = busy / (self.calls + PRIOR);
        let shortest = busy / (self.calls + self.running + PRIOR);
        let faster = (fleet.shortest() / longest).ln();
        let slower = (fleet.longest() / shortest).ln();
        faster.max(0.0) + slower.min(0.0)
    }

    fn standard_error(&self, mean: f64, fleet: &FleetPace) -> f64 {
        fleet.variation(mean) / (self.calls + 1.0).sqrt()
    }

    /// The worker has left.
    pub(super) fn leave(&self, fleet: &mut FleetPace) {
        fleet.running -= self.running;
    }
}

impl FleetPace {
    fn add(&mut self, busy: f64, calls: f64, service: f64) {
        self.busy_seconds += busy;
        self.calls += calls;
        if service > 0.0 {
            self.squares += (busy - calls * service).powi(2);
        }
        if self.calls > FLEET_MEMORY {
            self.busy_seconds /= 2.0;
            self.calls /= 2.0;
            self.squares /= 2.0;
        }
    }

    fn mean(&self) -> Option<f64> {
        let known = self.calls >= LEAST_CALLS && self.busy_seconds > 0.0;
        known.then(|| self.busy_seconds / (self.calls + self.running / 2.0))
    }

    fn shortest(&self) -> f64 {
        self.busy_seconds / (self.calls + self.running)
    }

    fn longest(&self) -> f64 {
        self.busy_seconds / self.calls
    }

    fn variation(&self, mean: f64) -> f64 {
        ((self.squares / self.calls).sqrt() / mean).max(LEAST_VARIATION)
    }
}

fn shrink(difference: f64, standard_error: f64) -> f64 {
    let beyond_chance = (difference.abs() - CHANCE * standard_error).max(0.0);
    let believed = beyond_chance * SURE / (SURE - CHANCE);
    believed.min(difference.abs()).copysign(difference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{RawLoad, TokenCounts, WorkerState};

    fn report(busy_seconds: f64, completed_total: u64) -> LoadReport {
        LoadReport::parse(RawLoad {
            state: WorkerState::Serving,
            in_flight: 0,
            queued: 0,
            slots: 1,
            picked: TokenCounts::default(),
            session: TokenCounts::default(),
            completed_total,
            errors_total: 0,
            faults_total: 0,
            in_flight_integral: 0.0,
            busy_seconds,
            cpu: 0.0,
            memory: 0.0,
        })
        .unwrap()
    }

    /// Two workers, `calls` calls each, with these seconds a call; returns their speeds.
    fn speeds(seconds: [f64; 2], calls: u32) -> [f64; 2] {
        let mut fleet = FleetPace::default();
        let mut paces = [Pace::default(), Pace::default()];
        let mut speeds = [1.0; 2];
        for call in 0..=calls {
            for (worker, pace) in paces.iter_mut().enumerate() {
                let report = report(f64::from(call) * seconds[worker], call.into());
                if let Some(learned) = pace.learn(&report, &mut fleet) {
                    speeds[worker] = learned.speed;
                }
            }
        }
        speeds
    }

    #[test]
    fn a_slow_worker_is_found_out() {
        let [fast, slow] = speeds([0.05, 0.15], 200);
        assert!((2.4..3.1).contains(&(fast / slow)), "{fast} / {slow}");
    }

    #[test]
    fn small_differences_are_chance() {
        assert!(speeds([0.050, 0.051], 30).iter().all(|speed| (speed - 1.0).abs() < 1e-12));
    }

    #[test]
    fn failing_fast_is_not_being_fast() {
        let (mut failing, mut other) = (Pace::default(), Pace::default());
        let mut fleet = FleetPace::default();
        let mut speed = 1.0;
        for call in 0..500_u64 {
            other.learn(&report(call as f64 * 0.05, call), &mut fleet);
            let fast = report(call as f64 * 0.001, call);
            let failed =
                LoadReport::parse(RawLoad { errors_total: call, faults_total: call, ..*fast });
            speed =
                failing.learn(&failed.unwrap(), &mut fleet).map_or(speed, |learned| learned.speed);
        }
        assert!(speed <= 1.0, "{speed}");
    }

    #[test]
    fn a_lie_is_no_number_that_spreads() {
        let (mut liar, mut honest) = (Pace::default(), Pace::default());
        let mut fleet = FleetPace::default();
        for step in 0..200_u32 {
            liar.learn(
                &report(f64::from(step % 2) * 4e14, u64::MAX / 2 * u64::from(step % 2)),
                &mut fleet,
            );
            if let Some(learned) = honest.learn(&report(f64::from(step), step.into()), &mut fleet) {
                assert!((0.01..=100.0).contains(&learned.speed), "speed {}", learned.speed);
                assert!(learned.service.is_finite(), "{} s", learned.service);
            }
        }
    }

    #[test]
    fn totals_that_shrink_do_no_harm() {
        let (mut pace, mut fleet) = (Pace::default(), FleetPace::default());
        for totals in [(5.0, 100), (1.0, 20), (2.0, 40), (0.0, 0)] {
            if let Some(learned) = pace.learn(&report(totals.0, totals.1), &mut fleet) {
                assert!(learned.speed > 0.0 && learned.service.is_finite());
            }
        }
    }
}
