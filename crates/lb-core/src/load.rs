//! What a worker says of itself: who it is ([`Hello`]) and how loaded it is ([`LoadReport`]).
//!
//! Both can only be made from sound values: [`LoadReport::parse`] refuses what cannot be true, and
//! names the field.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::id::{ServiceName, WorkerId};

/// Who a worker is, for the life of one registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Stable identity.
    pub id: WorkerId,
    /// Drawn at process start: tells a restarted worker from a second one with the same id.
    pub instance: u64,
    /// Where clients call it.
    pub address: SocketAddr,
    /// Services it offers; never empty.
    pub services: Vec<ServiceName>,
    /// Calls it runs at once; never 0.
    pub slots: u16,
    /// Failure domain; may be empty.
    pub zone: String,
    /// Properties a pick can require.
    pub labels: BTreeMap<String, String>,
    /// Version of its software, for people.
    pub version: String,
}

/// What a worker does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerState {
    /// Takes calls.
    Serving,
    /// Finishes what it has and wants nothing new.
    Draining,
}

/// Calls that carried this balancer's tokens of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenCounts {
    /// How many arrived.
    pub seen: u64,
    /// Of those, how many ended. Never above `seen`.
    pub done: u64,
}

/// Values of a report before anyone has checked them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawLoad {
    /// Whether the worker wants new calls.
    pub state: WorkerState,
    /// Calls inside the worker, running and queued.
    pub in_flight: u32,
    /// Of those, calls waiting for a slot.
    pub queued: u32,
    /// Calls run at once.
    pub slots: u32,
    /// Calls whose token came from the unary `Pick`.
    pub picked: TokenCounts,
    /// Calls whose token came over a `Session`.
    pub session: TokenCounts,
    /// Calls that ended, since process start.
    pub completed_total: u64,
    /// Of those, calls that failed.
    pub errors_total: u64,
    /// Of those, calls that failed by the worker's fault.
    pub faults_total: u64,
    /// Integral of `in_flight` over time, in call-seconds.
    pub in_flight_integral: f64,
    /// Integral of running calls over time, in slot-seconds.
    pub busy_seconds: f64,
    /// Share of the machine's CPU in use, 0 to 1.
    pub cpu: f64,
    /// Share of the machine's memory in use, 0 to 1.
    pub memory: f64,
}

/// Longest time in a report, in seconds: 65,535 slots busy for two hundred years. What is added up of many reports, and squared, stays
/// finite: a single report could else spoil for good what is known of the whole fleet.
const LONGEST: f64 = 4e14;

/// A load report whose every value is possible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadReport {
    raw: RawLoad,
    measured: bool,
}

/// A value that cannot be true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("load report: {field} is {found}, expected {expected}")]
pub struct LoadError {
    field: &'static str,
    found: String,
    expected: String,
}

impl LoadError {
    fn new(
        field: &'static str,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self { field, found: format!("{found}"), expected: expected.into() }
    }
}

impl LoadReport {
    /// Checks every value by itself and against the others.
    ///
    /// # Errors
    /// Names the first field that cannot be true, what it held and what was expected.
    pub fn parse(raw: RawLoad) -> Result<Self, LoadError> {
        check_slots(raw.slots)?;
        at_most("queued", raw.queued.into(), "in_flight", raw.in_flight.into())?;
        at_most("errors_total", raw.errors_total, "completed_total", raw.completed_total)?;
        at_most("faults_total", raw.faults_total, "errors_total", raw.errors_total)?;
        at_most("picked.done", raw.picked.done, "picked.seen", raw.picked.seen)?;
        at_most("session.done", raw.session.done, "session.seen", raw.session.seen)?;
        check_open_tokens(&raw)?;
        amount("in_flight_integral", raw.in_flight_integral)?;
        amount("busy_seconds", raw.busy_seconds)?;
        share("cpu", raw.cpu)?;
        share("memory", raw.memory)?;
        Ok(Self { raw, measured: false })
    }

    /// The same report of a worker that stands beside its service and does not see the calls: `in_flight` is measured as a whole, and
    /// no token is counted.
    #[must_use]
    pub fn measured(self) -> Self {
        Self { measured: true, ..self }
    }

    /// Whether the worker does not see its calls; see [`LoadReport::measured`].
    pub fn is_measured(&self) -> bool {
        self.measured
    }

    /// Checks that no total went backwards since `earlier`, a report of the same registration.
    ///
    /// # Errors
    /// Names the first total that shrank.
    pub fn check_follows(&self, earlier: &Self) -> Result<(), LoadError> {
        let (new, old) = (&self.raw, &earlier.raw);
        let totals = [
            ("picked.seen", new.picked.seen, old.picked.seen),
            ("picked.done", new.picked.done, old.picked.done),
            ("session.seen", new.session.seen, old.session.seen),
            ("session.done", new.session.done, old.session.done),
            ("completed_total", new.completed_total, old.completed_total),
            ("errors_total", new.errors_total, old.errors_total),
            ("faults_total", new.faults_total, old.faults_total),
        ];
        match totals.into_iter().find(|(_, new, old)| new < old) {
            None => Ok(()),
            Some((field, new, old)) => {
                Err(LoadError::new(field, new, format!("at least {old}, as reported before")))
            }
        }
    }

    /// Number of calls run at once.
    pub fn slots(&self) -> u16 {
        u16::try_from(self.raw.slots).expect("checked when the report was parsed")
    }
}

impl std::ops::Deref for LoadReport {
    type Target = RawLoad;

    fn deref(&self) -> &RawLoad {
        &self.raw
    }
}

fn check_slots(slots: u32) -> Result<(), LoadError> {
    match slots {
        1..=0xffff => Ok(()),
        _ => Err(LoadError::new("slots", slots, "1 to 65535")),
    }
}

fn check_open_tokens(raw: &RawLoad) -> Result<(), LoadError> {
    let open = |counts: TokenCounts| counts.seen - counts.done;
    let open_tokens = open(raw.picked).saturating_add(open(raw.session));
    if u64::from(raw.in_flight) < open_tokens {
        let expected = format!("at least {open_tokens}, the calls whose tokens are still open");
        return Err(LoadError::new("in_flight", raw.in_flight, expected));
    }
    Ok(())
}

fn at_most(field: &'static str, found: u64, whole: &str, limit: u64) -> Result<(), LoadError> {
    if found <= limit {
        return Ok(());
    }
    Err(LoadError::new(field, found, format!("at most {limit}, the value of {whole}")))
}

fn amount(field: &'static str, found: f64) -> Result<(), LoadError> {
    if (0.0..=LONGEST).contains(&found) {
        return Ok(());
    }
    Err(LoadError::new(field, found, "a number from 0 to 4e14"))
}

fn share(field: &'static str, found: f64) -> Result<(), LoadError> {
    if (0.0..=1.0).contains(&found) {
        return Ok(());
    }
    Err(LoadError::new(field, found, "a number from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> RawLoad {
        RawLoad {
            state: WorkerState::Serving,
            in_flight: 3,
            queued: 1,
            slots: 2,
            picked: TokenCounts { seen: 5, done: 4 },
            session: TokenCounts { seen: 7, done: 6 },
            completed_total: 10,
            errors_total: 1,
            faults_total: 1,
            in_flight_integral: 1.5,
            busy_seconds: 1.0,
            cpu: 0.5,
            memory: 0.25,
        }
    }

    #[test]
    fn a_sound_report_is_taken() {
        assert_eq!(*LoadReport::parse(sound()).unwrap(), sound());
    }

    #[test]
    fn every_impossible_value_is_named() {
        type Spoil = fn(&mut RawLoad);
        let cases: [(Spoil, &str); 13] = [
            (|load| load.slots = 0, "slots is 0, expected 1 to 65535"),
            (|load| load.slots = 65536, "slots is 65536, expected 1 to 65535"),
            (|load| load.queued = 4, "queued is 4, expected at most 3, the value of in_flight"),
            (|load| load.errors_total = 11, "errors_total is 11, expected at most 10"),
            (|load| load.faults_total = 2, "faults_total is 2, expected at most 1, the value of"),
            (|load| load.picked.done = 6, "picked.done is 6, expected at most 5"),
            (|load| load.session.done = 8, "session.done is 8, expected at most 7"),
            (|load| (load.in_flight, load.queued) = (1, 0), "in_flight is 1, expected at least 2"),
            (|load| load.cpu = f64::NAN, "cpu is NaN, expected a number from 0 to 1"),
            (|load| load.memory = -0.1, "memory is -0.1, expected a number from 0 to 1"),
            (|load| load.busy_seconds = -1.0, "busy_seconds is -1, expected a number from 0"),
            (|load| load.busy_seconds = 1e15, "busy_seconds is 1000000000000000, expected"),
            (|load| load.in_flight_integral = f64::INFINITY, "in_flight_integral is inf"),
        ];
        for (spoil, message) in cases {
            let mut raw = sound();
            spoil(&mut raw);
            let error = LoadReport::parse(raw).unwrap_err();
            assert!(error.to_string().contains(message), "{error} lacks {message}");
        }
    }

    #[test]
    fn totals_never_shrink() {
        let earlier = LoadReport::parse(sound()).unwrap();
        let mut raw = sound();
        raw.completed_total = 9;
        let error = LoadReport::parse(raw).unwrap().check_follows(&earlier).unwrap_err();
        assert_eq!(
            error.to_string(),
            "load report: completed_total is 9, expected at least 10, as reported before"
        );
        assert!(earlier.check_follows(&earlier).is_ok());
    }
}
