//! From what is written to a [`Scenario`]: flags over the file over defaults, each value checked.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use toml::Spanned;

use lb_core::policy::PolicyKind;

use crate::{
    fleet::WorkerPlan,
    load::{End, MAX_CLIENTS},
    workload::{Distribution, Task},
};

use super::{
    raw::{Flags, Raw},
    scenario::{Calls, Scenario, ScenarioError},
    source::Source,
};

mod events;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod workers;

/// What is measured when neither flag nor file says.
const CLIENTS: usize = 32;
const REQUESTS: u64 = 2000;
const TASK: &str = "sleep 50ms";
const POLICIES: [PolicyKind; 3] =
    [PolicyKind::PickFirst, PolicyKind::RoundRobin, PolicyKind::LeastLoad];
const SEED: u64 = 1;

/// Highest rate, in calls/s: a channel does not reach it on one machine.
const RATE_LIMIT: f64 = 1_000_000.0;
/// More repeats than anybody waits for.
const REPEATS: RangeInclusive<i64> = 1..=100;
const WARM_UP: RangeInclusive<i64> = 0..=1_000_000;
const CALLS: RangeInclusive<i64> = 1..=1_000_000_000;
/// Bounds of a run's length.
const DURATIONS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);

/// Reads and checks a scenario.
///
/// # Errors
/// Names file and line, or the flag, and the field.
pub(super) fn resolve(source: &Source, flags: &Flags) -> Result<Scenario, ScenarioError> {
    let raw = Raw::parse(source)?;
    let reader = Reader { source };
    let end = reader.end(&raw, flags)?;
    let calls = reader.calls(&raw, flags, end)?;
    let task = reader.task(&raw, flags)?;
    let workers = reader.workers(&raw, flags, &calls)?;
    let events = reader.events(&raw, &workers, end)?;
    let count = |flag, file: &Option<_>, key, range, default| {
        let setting = reader.setting(key, flag, file.clone());
        setting.map_or(Ok(default), |setting| setting.whole(range))
    };
    Ok(Scenario {
        name: source.name.clone(),
        title: raw.title.clone().unwrap_or_else(|| format!("Scenario {}", source.name)),
        description: raw.description.clone().unwrap_or_default(),
        workers,
        distribution: reader.distribution(&raw, flags, task)?,
        task,
        calls,
        end,
        policies: reader.policies(&raw, flags)?,
        repeats: count(flags.repeats, &raw.repeats, "repeats", REPEATS, 1)?,
        warm_up: count(flags.warm_up, &raw.warm_up, "warm_up", WARM_UP, 0)?,
        seed: count(flags.seed, &raw.seed, "seed", 0..=i64::MAX, SEED)?,
        events,
        start_at: None,
    })
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// File and line.
    File(String),
    /// The command line.
    Flag,
}

/// A value, what it is called, and where it was written.
#[derive(Debug, Clone)]
struct Setting<T> {
    key: &'static str,
    value: T,
    origin: Origin,
}

impl<T> Setting<T> {
    /// What is wrong with it: `"is 0: expected 1 to 100"`.
    fn wrong(&self, complaint: impl Display) -> ScenarioError {
        match &self.origin {
            Origin::File(place) => ScenarioError::Refused {
                place: place.clone(),
                message: format!("{} {complaint}", self.key),
            },
            Origin::Flag => ScenarioError::Flag(format!("{} {complaint}", self.shown())),
        }
    }

    /// As its writer knows it.
    fn shown(&self) -> String {
        match self.origin {
            Origin::File(_) => self.key.to_owned(),
            Origin::Flag => format!("--{}", self.key.replace('_', "-")),
        }
    }

    fn in_file(&self) -> bool {
        self.origin != Origin::Flag
    }
}

impl Setting<i64> {
    /// A whole number in a range.
    fn whole<N: TryFrom<i64>>(&self, range: RangeInclusive<i64>) -> Result<N, ScenarioError> {
        let number = Some(self.value).filter(|value| range.contains(value));
        number.and_then(|number| N::try_from(number).ok()).ok_or_else(|| {
            let (least, most) = range.into_inner();
            self.wrong(format!("is {}: expected {least} to {most}", self.value))
        })
    }
}

impl Setting<f64> {
    /// Calls a second.
    fn rate(&self) -> Result<f64, ScenarioError> {
        let rate = self.value;
        // Not a number is in no range.
        if rate > 0.0 && rate <= RATE_LIMIT {
            return Ok(rate);
        }
        Err(self.wrong(format!("is {rate}: expected more than 0 and at most {RATE_LIMIT}")))
    }
}

impl Setting<String> {
    fn time(&self) -> Result<Duration, ScenarioError> {
        humantime::parse_duration(&self.value).map_err(|_| {
            self.wrong(format!("is {:?}: expected a time such as 3s or 250ms", self.value))
        })
    }

    fn parsed<T: FromStr>(&self) -> Result<T, ScenarioError>
    where
        T::Err: Display,
    {
        self.value.parse().map_err(|error| self.wrong(format!("is wrong: {error}")))
    }
}

struct Reader<'a> {
    source: &'a Source,
}

impl Reader<'_> {
    fn setting<T>(
        &self,
        key: &'static str,
        flag: Option<T>,
        file: Option<Spanned<T>>,
    ) -> Option<Setting<T>> {
        match (flag, file) {
            (Some(value), _) => Some(Setting { key, value, origin: Origin::Flag }),
            (None, Some(file)) => Some(self.written(key, file)),
            (None, None) => None,
        }
    }

    fn written<T>(&self, key: &'static str, file: Spanned<T>) -> Setting<T> {
        let origin = Origin::File(self.source.place(&file.span()));
        Setting { key, value: file.into_inner(), origin }
    }

    fn end(&self, raw: &Raw, flags: &Flags) -> Result<End, ScenarioError> {
        let requests = self.setting("requests", flags.requests, raw.requests.clone());
        let duration = self.setting("duration", flags.duration.clone(), raw.duration.clone());
        match either(requests, duration)? {
            Either::First(requests) => requests.whole(CALLS).map(End::Requests),
            Either::Second(duration) => {
                let time = duration.time()?;
                if DURATIONS.contains(&time) {
                    return Ok(End::Elapsed(time));
                }
                Err(duration.wrong(format!("is {:?}: expected 1ms to 24h", duration.value)))
            }
            Either::Neither => Ok(End::Requests(REQUESTS)),
        }
    }

    fn calls(&self, raw: &Raw, flags: &Flags, end: End) -> Result<Calls, ScenarioError> {
        let clients = self.setting("clients", flags.clients, raw.clients.clone());
        let rate = self.setting("rate", flags.rate, raw.rate.clone());
        match either(clients, rate)? {
            Either::First(clients) => {
                self.no_phases(raw, &clients.shown())?;
                let most = i64::try_from(MAX_CLIENTS).unwrap_or(i64::MAX);
                Ok(Calls::Closed { clients: clients.whole(1..=most)? })
            }
            Either::Second(rate) => {
                let rate_per_second = rate.rate()?;
                Ok(Calls::Open { rate_per_second, changes: self.phases(raw, end)? })
            }
            Either::Neither => {
                self.no_phases(raw, "a closed loop, which holds without rate")?;
                Ok(Calls::Closed { clients: CLIENTS })
            }
        }
    }

    fn task(&self, raw: &Raw, flags: &Flags) -> Result<Task, ScenarioError> {
        let default = || Setting { key: "task", value: TASK.to_owned(), origin: Origin::Flag };
        let setting = self.setting("task", flags.task.clone(), raw.task.clone());
        setting.unwrap_or_else(default).parsed()
    }

    fn distribution(
        &self,
        raw: &Raw,
        flags: &Flags,
        task: Task,
    ) -> Result<Distribution, ScenarioError> {
        let setting = self.setting("distribution", flags.distribution, raw.distribution.clone());
        let Some(setting) = setting else { return Ok(Distribution::default()) };
        if setting.value != Distribution::Constant && task.mean().is_none() {
            let complaint = format!("contradicts the task {task}, whose time is not given");
            return Err(setting.wrong(complaint));
        }
        Ok(setting.value)
    }

    fn policies(&self, raw: &Raw, flags: &Flags) -> Result<Vec<PolicyKind>, ScenarioError> {
        let setting = self.setting("policies", flags.policies.clone(), raw.policies.clone());
        let Some(setting) = setting else { return Ok(POLICIES.to_vec()) };
        let mut policies = Vec::new();
        for name in &setting.value {
            let policy = name.parse();
            let policy: PolicyKind =
                policy.map_err(|error| setting.wrong(format!("is wrong: {error}")))?;
            if policies.contains(&policy) {
                return Err(setting.wrong(format!("names {policy} twice: expected once")));
            }
            policies.push(policy);
        }
        if policies.is_empty() {
            return Err(setting.wrong("is empty: expected at least one policy"));
        }
        Ok(policies)
    }
}

/// One of two settings.
enum Either<A, B> {
    First(Setting<A>),
    Second(Setting<B>),
    Neither,
}

/// Of two settings that exclude each other, a flag overrules the other in the file.
fn either<A, B>(
    first: Option<Setting<A>>,
    second: Option<Setting<B>>,
) -> Result<Either<A, B>, ScenarioError> {
    match (first, second) {
        (Some(first), Some(second)) if first.in_file() == second.in_file() => {
            Err(second.wrong(format!("contradicts {}: expected only one of them", first.shown())))
        }
        (Some(first), Some(second)) if second.in_file() => Ok(Either::First(first)),
        (_, Some(second)) => Ok(Either::Second(second)),
        (Some(first), None) => Ok(Either::First(first)),
        (None, None) => Ok(Either::Neither),
    }
}

/// Calls that may wait at a worker when nothing says otherwise: in a closed loop all of them, since a policy may
/// send them all to one; under a rate as many as the worker itself would take.
fn default_queue(calls: &Calls, slots: u32) -> u32 {
    match calls {
        Calls::Closed { clients } => u32::try_from(*clients).unwrap_or(u32::MAX),
        Calls::Open { .. } => (slots * 4).max(16),
    }
}

/// The worker's number as its id; the same width for all, so that they sort as they count.
fn worker_id(number: usize) -> String {
    format!("w{number:02}")
}

fn plan(number: usize, slots: u32, queue: u32, slowdown: f64) -> WorkerPlan {
    WorkerPlan { id: worker_id(number), slots, queue, slowdown }
}

#[cfg(test)]
mod tests;
