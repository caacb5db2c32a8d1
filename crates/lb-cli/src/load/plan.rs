//! What a run does: how its calls are spaced, and when it ends.

use std::time::Duration;

/// Most clients of a closed loop: each is a task with a call in flight, and past this the generator
/// measures its own scheduler.
pub const MAX_CLIENTS: usize = 10_000;

/// Most calls an open loop keeps in flight. At 1,000 calls/s it allows answers that take ten
/// seconds; beyond it, arrivals wait, the rate is not kept, and [`Pace`] says so.
///
/// [`Pace`]: super::Pace
pub const MAX_OUTSTANDING: usize = 10_000;

/// Highest rate of an open loop, in calls/s. A tonic channel does not reach it on one machine.
const MAX_RATE_PER_SECOND: f64 = 1_000_000.0;

/// Longest run. Response times are counted in memory of fixed size, so the limit only catches
/// mistyped units.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// How calls are spaced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Each of `clients` calls again as soon as its last call has ended.
    Closed {
        /// 1 to [`MAX_CLIENTS`].
        clients: usize,
    },
    /// Calls arrive at a rate, whatever became of earlier ones.
    Open {
        /// Above 0, at most a million.
        rate_per_second: f64,
        /// The gaps between arrivals.
        spacing: Spacing,
    },
}

/// The gaps between the arrivals of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// All gaps are equal.
    Constant,
    /// Gaps of independent users: exponential, drawn from this seed.
    Poisson {
        /// The same seed gives the same arrivals.
        seed: u64,
    },
}

/// When a run stops to make new calls. It waits for those in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After so many calls; at least 1.
    Requests(u64),
    /// After so much time; at least 1 ms, at most 24 h.
    Elapsed(Duration),
}

/// From a moment on, calls arrive at another rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateChange {
    /// Since the run began.
    pub at: Duration,
    /// Above 0, at most a million.
    pub rate_per_second: f64,
}

/// A checked plan of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    name: String,
    shape: Shape,
    end: End,
    rate_changes: Vec<RateChange>,
    reading_interval: Duration,
    keeps_counts: bool,
}

/// Why a plan cannot be run.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Nobody, or a crowd, would call.
    #[error("clients is {0}, expected 1 to {MAX_CLIENTS}")]
    Clients(usize),
    /// The rate is no rate.
    #[error("rate is {0} calls/s, expected more than 0 and at most {MAX_RATE_PER_SECOND}")]
    Rate(f64),
    /// A closed loop has no rate that could change.
    #[error("a closed loop has no rate: expected no changes of it")]
    ClosedRateChange,
    /// Changes out of order.
    #[error("the rate changes at {0:?}, expected later than the change before")]
    RateChangeOrder(Duration),
    /// No call would be made.
    #[error("requests is 0, expected at least 1")]
    NoRequests,
    /// The run would be over at once, or never.
    #[error("duration is {0:?}, expected 1ms to {MAX_DURATION:?}")]
    Duration(Duration),
    /// The workers would be asked all the time.
    #[error("reading interval is {0:?}, expected at least {MIN_READING_INTERVAL:?}")]
    ReadingInterval(Duration),
}

/// Shortest time between two readings of the workers: their reports are not fresher.
const MIN_READING_INTERVAL: Duration = Duration::from_millis(20);

/// Time between two readings of the workers unless told: forty points in a ten second run.
const READING_INTERVAL: Duration = Duration::from_millis(250);

impl Plan {
    /// A plan with this name, which is the policy's name where policies are compared.
    ///
    /// # Errors
    /// Names the value that is out of its range.
    pub fn new(name: impl Into<String>, shape: Shape, end: End) -> Result<Self, PlanError> {
        match shape {
            Shape::Closed { clients } if clients == 0 || clients > MAX_CLIENTS => {
                return Err(PlanError::Clients(clients));
            }
            Shape::Open { rate_per_second, .. } => check_rate(rate_per_second)?,
            Shape::Closed { .. } => {}
        }
        match end {
            End::Requests(0) => return Err(PlanError::NoRequests),
            End::Elapsed(time) if time < Duration::from_millis(1) || time > MAX_DURATION => {
                return Err(PlanError::Duration(time));
            }
            End::Requests(_) | End::Elapsed(_) => {}
        }
        let rate_changes = Vec::new();
        let reading_interval = READING_INTERVAL;
        let name = name.into();
        Ok(Self { name, shape, end, rate_changes, reading_interval, keeps_counts: false })
    }

    /// The same, with another rate from each of these moments on.
    ///
    /// # Errors
    /// When the plan is a closed loop, a rate is out of range, or the changes are out of order.
    pub fn with_rate_changes(mut self, changes: Vec<RateChange>) -> Result<Self, PlanError> {
        if matches!(self.shape, Shape::Closed { .. }) && !changes.is_empty() {
            return Err(PlanError::ClosedRateChange);
        }
        let mut last = Duration::ZERO;
        for change in &changes {
            check_rate(change.rate_per_second)?;
            if change.at <= last {
                return Err(PlanError::RateChangeOrder(change.at));
            }
            last = change.at;
        }
        self.rate_changes = changes;
        Ok(self)
    }

    /// The same, reading the workers this often. 250 ms unless told.
    ///
    /// # Errors
    /// When the interval is below 20 ms.
    pub fn with_reading_interval(mut self, interval: Duration) -> Result<Self, PlanError> {
        if interval < MIN_READING_INTERVAL {
            return Err(PlanError::ReadingInterval(interval));
        }
        self.reading_interval = interval;
        Ok(self)
    }

    /// The same, with a result that can be [merged](super::merged) with those of other machines.
    #[must_use]
    pub fn with_counts(mut self) -> Self {
        self.keeps_counts = true;
        self
    }

    /// Whether the result keeps all times.
    pub fn keeps_counts(&self) -> bool {
        self.keeps_counts
    }

    /// Name of the run.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How calls are spaced.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// When the run ends.
    pub fn end(&self) -> End {
        self.end
    }

    /// How long calls begin, in seconds; 0 where they are counted instead.
    pub(crate) fn end_seconds(&self) -> f64 {
        match self.end {
            End::Elapsed(time) => time.as_secs_f64(),
            End::Requests(_) => 0.0,
        }
    }

    /// Changes of the rate, in order.
    pub fn rate_changes(&self) -> &[RateChange] {
        &self.rate_changes
    }

    /// Time between two readings of the workers.
    pub fn reading_interval(&self) -> Duration {
        self.reading_interval
    }

    /// The plan in words: `"closed loop, 16 clients, 2000 requests"`.
    pub fn describe(&self) -> String {
        let shape = match self.shape {
            Shape::Closed { clients: 1 } => "closed loop, 1 client".to_owned(),
            Shape::Closed { clients } => format!("closed loop, {clients} clients"),
            Shape::Open { rate_per_second, spacing: Spacing::Constant } => {
                format!("open loop, {rate_per_second} calls/s, evenly spaced")
            }
            Shape::Open { rate_per_second, spacing: Spacing::Poisson { seed } } => {
                format!("open loop, {rate_per_second} calls/s, Poisson arrivals (seed {seed})")
            }
        };
        let changes = self.rate_changes.iter();
        let changes = changes
            .map(|change| format!(", from {:?} on {} calls/s", change.at, change.rate_per_second));
        let shape = shape + &changes.collect::<String>();
        match self.end {
            End::Requests(requests) => format!("{shape}, {requests} requests"),
            End::Elapsed(time) => format!("{shape}, {time:?}"),
        }
    }
}

fn check_rate(rate_per_second: f64) -> Result<(), PlanError> {
    // Not a number is in no range.
    let valid = rate_per_second > 0.0 && rate_per_second <= MAX_RATE_PER_SECOND;
    if valid { Ok(()) } else { Err(PlanError::Rate(rate_per_second)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: Shape = Shape::Closed { clients: 16 };

    #[test]
    fn a_plan_describes_itself() {
        let plan = Plan::new("least_load", CLOSED, End::Requests(2000)).unwrap();
        assert_eq!(plan.describe(), "closed loop, 16 clients, 2000 requests");
        let shape = Shape::Open { rate_per_second: 250.0, spacing: Spacing::Poisson { seed: 7 } };
        let plan = Plan::new("x", shape, End::Elapsed(Duration::from_secs(5))).unwrap();
        assert_eq!(plan.describe(), "open loop, 250 calls/s, Poisson arrivals (seed 7), 5s");
    }

    #[test]
    fn rates_change_in_order_and_only_where_there_is_one() {
        let shape = Shape::Open { rate_per_second: 100.0, spacing: Spacing::Constant };
        let open = Plan::new("x", shape, End::Requests(10)).unwrap();
        let change =
            |at, rate_per_second| RateChange { at: Duration::from_secs(at), rate_per_second };
        let changed = open.clone().with_rate_changes(vec![change(3, 500.0), change(4, 100.0)]);
        assert_eq!(
            changed.unwrap().describe(),
            "open loop, 100 calls/s, evenly spaced, from 3s on 500 calls/s, from 4s on 100 calls/s, \
             10 requests"
        );
        let refused = |changes| open.clone().with_rate_changes(changes).unwrap_err().to_string();
        assert!(
            refused(vec![change(3, 1.0), change(3, 2.0)]).starts_with("the rate changes at 3s")
        );
        assert!(refused(vec![change(3, 0.0)]).starts_with("rate is 0"));
        let closed = Plan::new("x", CLOSED, End::Requests(10)).unwrap();
        let error = closed.with_rate_changes(vec![change(3, 1.0)]).unwrap_err();
        assert_eq!(error, PlanError::ClosedRateChange);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let refused = |shape, end| Plan::new("x", shape, end).unwrap_err().to_string();
        let none = refused(Shape::Closed { clients: 0 }, End::Requests(1));
        assert_eq!(none, "clients is 0, expected 1 to 10000");
        for rate_per_second in [0.0, -1.0, f64::NAN, f64::INFINITY, 2e6] {
            let shape = Shape::Open { rate_per_second, spacing: Spacing::Constant };
            assert!(refused(shape, End::Requests(1)).starts_with("rate is "));
        }
        assert!(refused(CLOSED, End::Requests(0)).starts_with("requests is 0"));
        let never = End::Elapsed(Duration::ZERO);
        assert_eq!(refused(CLOSED, never), "duration is 0ns, expected 1ms to 86400s");
        let plan = Plan::new("x", CLOSED, End::Requests(1)).unwrap();
        let hasty = plan.with_reading_interval(Duration::from_millis(1));
        assert_eq!(
            hasty.unwrap_err().to_string(),
            "reading interval is 1ms, expected at least 20ms"
        );
    }
}
