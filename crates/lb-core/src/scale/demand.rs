//! What is asked of the fleet: now, on average, and at most in the time before.

use std::{collections::VecDeque, time::Duration};

use crate::{
    registry::{Standing, WorkerStatus},
    time::Timestamp,
};

/// Longest time between two observations that is bridged; over a longer one nothing is known. Several ticks of whoever observes, and
/// several heartbeats of workers.
pub const OBSERVATION_GAP: Duration = Duration::from_secs(5);

/// What was outstanding before so long counts little in the average that forgets.
const MEMORY: Duration = Duration::from_secs(3);

/// What all workers of a service have to do at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Calls running, queued, and on their way.
    pub outstanding: u32,
    /// Workers in rotation, whoever started them.
    pub workers: u32,
    /// Their slots.
    pub slots: u32,
}

impl Demand {
    /// The demand on those workers that are in rotation. `None`: nobody is, or one of them is silent, so that nobody knows.
    pub fn of(workers: impl IntoIterator<Item = WorkerStatus>) -> Option<Self> {
        let mut demand = Self { outstanding: 0, workers: 0, slots: 0 };
        for worker in workers {
            match worker.standing {
                Standing::Waiting | Standing::Draining | Standing::Ejected => continue,
                Standing::Stale => return None,
                Standing::Serving | Standing::Spared | Standing::Trial => {}
            }
            demand.outstanding = demand.outstanding.saturating_add(worker.estimate);
            demand.workers += 1;
            demand.slots = demand.slots.saturating_add(worker.slots.into());
        }
        (demand.workers > 0 && demand.slots > 0).then_some(demand)
    }

    /// No slot is free, and so many calls wait that it is no chance: a load that just fills all slots is so far above them by
    /// three standard deviations (of a Poisson distribution, whose variance is its mean).
    pub fn is_saturated(&self) -> bool {
        let slots = f64::from(self.slots);
        f64::from(self.outstanding) >= slots + 3.0 * slots.sqrt()
    }
}

/// An average that is made over time.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    seconds: f64,
    call_seconds: f64,
}

impl Mean {
    fn add(&mut self, outstanding: u32, lasted: Duration) {
        self.seconds += lasted.as_secs_f64();
        self.call_seconds += f64::from(outstanding) * lasted.as_secs_f64();
    }

    fn value(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.call_seconds / self.seconds)
    }
}

/// A time without a free slot.
#[derive(Debug, Clone, Copy)]
struct Crowd {
    since: Timestamp,
    /// Calls outstanding when it began.
    outstanding: u32,
    mean: Mean,
}

/// Observations, averaged.
#[derive(Debug, Clone, Default)]
pub(super) struct Gauge {
    latest: Option<(Timestamp, Demand)>,
    /// How many workers there were last.
    workers: Option<u32>,
    /// Since then there was no gap.
    known_since: Option<Timestamp>,
    /// Since the last period ended.
    current: Mean,
    /// An average that forgets, see [`MEMORY`].
    recent: f64,
    /// While no slot is free: since when, and the average since then.
    saturated: Option<Crowd>,
    /// Averages of periods, with their ends.
    past: VecDeque<(Timestamp, f64)>,
}

impl Gauge {
    pub(super) fn observe(&mut self, now: Timestamp, demand: Option<Demand>) {
        self.pass(now);
        let demand = demand.filter(|demand| demand.slots > 0 && demand.workers > 0);
        self.latest = demand.map(|demand| (now, demand));
        match demand {
            None => (self.known_since, self.saturated) = (None, None),
            Some(demand) => {
                if self.known_since.is_none() {
                    (self.known_since, self.recent) = (Some(now), demand.outstanding.into());
                }
                // Whoever has just come had no time to help.
                let others = self.workers.replace(demand.workers) != Some(demand.workers);
                let saturated = self.saturated.filter(|_| !others);
                let saturated = saturated.unwrap_or(Crowd {
                    since: now,
                    outstanding: demand.outstanding,
                    mean: Mean::default(),
                });
                self.saturated = demand.is_saturated().then_some(saturated);
            }
        }
    }

    /// Counts the latest observation until now.
    fn pass(&mut self, now: Timestamp) {
        let Some((since, demand)) = self.latest else { return };
        let lasted = now.since(since);
        if lasted > OBSERVATION_GAP {
            (self.latest, self.known_since, self.saturated) = (None, None, None);
            return;
        }
        self.current.add(demand.outstanding, lasted);
        let forgotten = -(-lasted.div_duration_f64(MEMORY)).exp_m1();
        self.recent += (f64::from(demand.outstanding) - self.recent) * forgotten;
        if let Some(crowd) = &mut self.saturated {
            crowd.mean.add(demand.outstanding, lasted);
        }
        self.latest = Some((now, demand));
    }

    /// The latest observation, unless it is too old.
    pub(super) fn latest(&self) -> Option<Demand> {
        self.latest.map(|(_, demand)| demand)
    }

    /// Calls outstanding on average since no slot is free, and for how long that is so, if it is for `least` now and does not get
    /// better: a queue that shrinks has all the help it needs.
    pub(super) fn saturated(&mut self, now: Timestamp, least: Duration) -> Option<(f64, Duration)> {
        self.pass(now);
        let Crowd { since, outstanding, mean } = self.saturated?;
        let lasts = now.since(since);
        let grows = self.latest()?.outstanding >= outstanding;
        if lasts >= least && grows { Some((mean.value()?, lasts)) } else { None }
    }

    /// The average of the period before this one.
    pub(super) fn previous(&self) -> Option<f64> {
        self.past.back().map(|(_, mean)| *mean)
    }

    /// Ends an average, begins the next, and forgets what is older than `keep`. `None`: nothing was observed.
    pub(super) fn end_period(&mut self, now: Timestamp, keep: Duration) -> Option<f64> {
        self.pass(now);
        let mean = std::mem::take(&mut self.current).value();
        if let Some(mean) = mean {
            self.past.push_back((now, mean));
        }
        while self.past.front().is_some_and(|(end, _)| now.since(*end) > keep) {
            self.past.pop_front();
        }
        mean
    }

    /// Calls outstanding of late.
    pub(super) fn recent(&self) -> f64 {
        self.recent
    }

    /// The highest average of the last `span`. `None` if anything of it is not known.
    pub(super) fn highest(&self, now: Timestamp, span: Duration) -> Option<f64> {
        let known = self.known_since.is_some_and(|since| now.since(since) >= span);
        let highest = self.past.iter().map(|(_, mean)| *mean).reduce(f64::max);
        if known { highest } else { None }
    }
}
