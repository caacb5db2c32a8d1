//! What came of it.

use std::{fmt, time::Duration};

use crate::{rule::Rule, scenario::Scenario};

/// What one rule did, over one seed or several.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Response times of measured calls, in microseconds.
    pub latencies: Vec<u32>,
    /// Calls that clients wanted.
    pub offered: u64,
    /// Calls that were answered.
    pub done: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls that a broken client itself failed.
    pub failed_by_client: u64,
    /// Calls that full workers turned away, for good.
    pub turned_away: u64,
    /// Ejections of workers by balancers.
    pub ejections: u64,
    /// Calls that were answered, by the second of the run in which they were.
    pub answered: Vec<u64>,
    /// Calls that were sent to a second choice, or again.
    pub retried: u64,
    /// Calls still open when the run gave up.
    pub unfinished: u64,
    /// Calls with a token that found their worker gone after it had drained: a broken promise.
    pub refused_after_drain: u64,
    /// Share of slot time used, per worker and seed.
    pub busy: Vec<f64>,
    /// Seconds that scaled workers ran, or were being started.
    pub worker_seconds: f64,
    /// How many workers were wanted, at each tick of a scaled fleet.
    pub wanted: Vec<(Duration, u32)>,
    /// How many of them took calls, at each tick.
    pub ready: Vec<u32>,
    /// What was seen over time: [`MOMENTS`] equal parts of the run, or none before the first look.
    pub(crate) looks: Vec<Looks>,
}

/// Parts that a run is cut into to show it over time.
const MOMENTS: usize = 60;

/// Shares of calls whose times draw a distribution: evenly in the body, ever finer in the tail.
const SHARES: [f64; 32] = [
    0.0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6,
    0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999,
    1.0,
];

/// All looks at the fleet in one part of the run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Looks {
    /// How many.
    count: u32,
    /// Shares of slots that were running a call, summed.
    busy: f64,
    /// Calls that waited for a slot, summed.
    waiting: u64,
}

impl Tally {
    /// Takes a look at the fleet when `passed` (0 to 1) of the run is over. Later ones do not count.
    pub(crate) fn look(&mut self, passed: f64, running: usize, waiting: usize, slots: usize) {
        self.looks.resize(MOMENTS, Looks::default());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a length is a length"
        )]
        let place = (passed * MOMENTS as f64) as usize;
        if let Some(moment) = self.looks.get_mut(place) {
            moment.count += 1;
            moment.busy += running as f64 / slots.max(1) as f64;
            moment.waiting += waiting as u64;
        }
    }

    pub(crate) fn done(&mut self, latency: Duration, measured: bool, second: u64) {
        self.done += 1;
        let second = usize::try_from(second).expect("a run is short");
        self.answered.resize(self.answered.len().max(second + 1), 0);
        self.answered[second] += 1;
        if measured {
            self.latencies.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.offered += other.offered;
        self.done += other.done;
        self.failed += other.failed;
        self.failed_by_client += other.failed_by_client;
        self.turned_away += other.turned_away;
        self.ejections += other.ejections;
        self.answered.resize(self.answered.len().max(other.answered.len()), 0);
        for (mine, theirs) in self.answered.iter_mut().zip(other.answered) {
            *mine += theirs;
        }
        self.retried += other.retried;
        self.unfinished += other.unfinished;
        self.refused_after_drain += other.refused_after_drain;
        self.busy.extend(other.busy);
        self.worker_seconds += other.worker_seconds;
        self.wanted.extend(other.wanted);
        self.ready.extend(other.ready);
        self.looks.resize(self.looks.len().max(other.looks.len()), Looks::default());
        for (mine, theirs) in self.looks.iter_mut().zip(other.looks) {
            mine.count += theirs.count;
            mine.busy += theirs.busy;
            mine.waiting += theirs.waiting;
        }
    }

    /// Sums up under a rule's name.
    pub fn row(mut self, rule: Rule) -> Row {
        self.latencies.sort_unstable();
        let milliseconds = |share| f64::from(percentile(&self.latencies, share)) / 1_000.0;
        let sum: f64 = self.latencies.iter().map(|&latency| f64::from(latency)).sum();
        let fold = |least: fn(f64, f64) -> f64, start| self.busy.iter().copied().fold(start, least);
        Row {
            rule,
            offered: self.offered,
            failed: self.failed + self.failed_by_client + self.turned_away + self.unfinished,
            retried: self.retried,
            mean: sum / self.latencies.len().max(1) as f64 / 1_000.0,
            p50: milliseconds(0.5),
            p90: milliseconds(0.9),
            p99: milliseconds(0.99),
            p999: milliseconds(0.999),
            max: milliseconds(1.0),
            least_busy: fold(f64::min, 1.0),
            most_busy: fold(f64::max, 0.0),
            distribution: SHARES.map(|share| (share, milliseconds(share))).to_vec(),
            moments: self.moments(),
        }
    }

    /// Parts of the run that were looked at.
    fn moments(&self) -> Vec<Moment> {
        let parts = self.looks.iter().enumerate().filter(|(_, looks)| looks.count > 0);
        let moment = |(place, looks): (usize, &Looks)| Moment {
            passed: (place as f64 + 0.5) / MOMENTS as f64,
            busy: looks.busy / f64::from(looks.count),
            waiting: looks.waiting as f64 / f64::from(looks.count),
        };
        parts.map(moment).collect()
    }
}

/// The value below which `share` of the sorted values lie; 0 if there are none.
pub fn percentile(sorted: &[u32], share: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length is a length"
    )]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0)
}

/// One rule's line of the table. Times in milliseconds, as the client saw them.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which rule.
    pub rule: Rule,
    /// Calls that clients wanted.
    pub offered: u64,
    /// Calls that failed or never ended.
    pub failed: u64,
    /// Calls that were sent to a second choice.
    pub retried: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// Nine in ten are no slower.
    pub p90: f64,
    /// 99 in 100 are no slower.
    pub p99: f64,
    /// 999 in 1,000 are no slower.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
    /// Share of slot time used by the least busy worker.
    pub least_busy: f64,
    /// Share of slot time used by the busiest worker.
    pub most_busy: f64,
    /// Shares of the calls (0 to 1, growing), and the time within which each was answered.
    pub distribution: Vec<(f64, f64)>,
    /// The fleet over time, the mean over all seeds.
    pub moments: Vec<Moment>,
}

/// The fleet in one part of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// How much of the run is over in the middle of the part, 0 to 1.
    pub passed: f64,
    /// Share of all slots that run a call, 0 to 1.
    pub busy: f64,
    /// Calls that wait for a slot, in all workers together.
    pub waiting: f64,
}

/// The table of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The scenario's name.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// Number of seeds pooled.
    pub seeds: usize,
    /// One line for each rule, in the scenario's order.
    pub rows: Vec<Row>,
}

impl Summary {
    pub(crate) fn new(scenario: &Scenario, rows: Vec<Row>) -> Self {
        Self {
            name: scenario.name.clone(),
            about: scenario.about.clone(),
            seeds: scenario.seeds.len(),
            rows,
        }
    }

    /// The first oracle's row.
    pub fn oracle(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.rule.is_oracle())
    }

    /// The row of a rule.
    pub fn row(&self, rule: Rule) -> Option<&Row> {
        self.rows.iter().find(|row| row.rule == rule)
    }

    /// A rule's 99th percentile over the oracle's; `None` without either.
    pub fn ratio(&self, rule: Rule) -> Option<f64> {
        Some(self.row(rule)?.p99 / self.oracle()?.p99)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}: {}", self.name, self.about)?;
        writeln!(formatter, "seeds pooled: {}; times in ms, as clients saw them", self.seeds)?;
        writeln!(
            formatter,
            "{:<20} {:>8} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>8}",
            "rule",
            "calls",
            "failed",
            "retried",
            "mean",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "busy %",
            "p99 / o."
        )?;
        self.rows.iter().try_for_each(|row| {
            let busy = format!("{:.0}-{:.0}", row.least_busy * 100.0, row.most_busy * 100.0);
            let ratio = self.ratio(row.rule).map_or_else(|| "-".to_owned(), |r| format!("{r:.3}"));
            writeln!(
                formatter,
                "{:<20} {:>8} {:>7} {:>7} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>9.2} {:>9} {:>8}",
                row.rule, row.offered, row.failed, row.retried, row.mean, row.p50, row.p90,
                row.p99, row.p999, row.max, busy, ratio
            )
        })
    }
}
