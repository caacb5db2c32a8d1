//! The text form of a scenario.

use std::{fs, io, path::Path, time::Duration};

use serde::Deserialize;
use toml::{Spanned, de::DeTable};

use super::{Arrivals, CLIENTS, Calls, Fault, FaultKind, Machine, Phase, Reports, Scenario};
use crate::{rule::Rule, service::Service};

/// Most workers in a scenario: a port number of the made-up addresses is one of 16 bits.
const WORKER_LIMIT: usize = 60_000;

/// Greatest number of anything: a billion seconds are thirty years.
const GREATEST: f64 = 1e9;

/// Most clients that are told apart.
const TOLD_APART_LIMIT: u32 = 100_000;
/// Most clients: each is a call that may be under way, and memory.
const CLIENT_LIMIT: u32 = 1_000_000;

/// Most calls a second, and the least mean time of one on the fastest worker, in seconds: the clock counts microseconds, and would
/// stand still under more or shorter ones.
const GREATEST_RATE: f64 = 1e6;
const SHORTEST: f64 = 1e-6;

/// Least time between two reports: with shorter ones a run does nothing but report.
const LEAST_INTERVAL_MS: f64 = 0.1;

/// Why a scenario is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("scenario {file}: cannot be read")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It is no TOML, or has a field that is unknown or of the wrong type.
    #[error("scenario {file}, line {line}: {message}")]
    Malformed {
        /// The file.
        file: String,
        /// Where in it, from 1.
        line: usize,
        /// What is wrong, with the field.
        message: String,
    },
    /// A value makes no sense.
    #[error("scenario {file}, line {line}: {field} is {found}, expected {expected}")]
    Contradictory {
        /// The file.
        file: String,
        /// Where in it, from 1.
        line: usize,
        /// Which field.
        field: String,
        /// Its value.
        found: String,
        /// What would make sense.
        expected: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    about: String,
    #[serde(default = "one_seed")]
    seeds: Vec<u64>,
    rules: Vec<String>,
    seconds: f64,
    #[serde(default)]
    warm_up_seconds: f64,
    #[serde(default = "one_balancer")]
    balancers: u32,
    #[serde(default = "usual_clients")]
    clients: u32,
    queue: Option<u32>,
    #[serde(default)]
    retries: bool,
    #[serde(default)]
    network_ms: f64,
    outcome_ms: Option<f64>,
    arrivals: RawArrivals,
    service: RawService,
    reports: RawReports,
    workers: Vec<RawWorkers>,
    #[serde(default)]
    phases: Vec<RawPhase>,
    #[serde(default)]
    faults: Vec<RawFault>,
}

fn one_seed() -> Vec<u64> {
    vec![1]
}

fn one_balancer() -> u32 {
    1
}

fn usual_clients() -> u32 {
    CLIENTS
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawArrivals {
    load: Option<f64>,
    rate: Option<f64>,
    clients: Option<u32>,
    think_ms: Option<f64>,
    #[serde(default)]
    session: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    kind: String,
    mean_ms: f64,
    long_share: Option<f64>,
    long_factor: Option<f64>,
    shape: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReports {
    kind: String,
    interval_ms: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWorkers {
    count: usize,
    slots: u16,
    #[serde(default = "normal_speed")]
    speed: f64,
}

fn normal_speed() -> f64 {
    1.0
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFault {
    kind: String,
    at_seconds: f64,
    for_seconds: Option<f64>,
    target: u32,
    percent: Option<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPhase {
    at_seconds: f64,
    load: f64,
}

impl Scenario {
    /// Reads a scenario file. Its name is the file's, without the ending.
    ///
    /// # Errors
    /// [`ScenarioError`], with file, line and field.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|cause| ScenarioError::Unreadable { file: file.clone(), cause })?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(Self { name: name.unwrap_or_default(), ..Self::parse(&file, &text)? })
    }

    /// Reads a scenario's text. `file` is its name in errors.
    ///
    /// # Errors
    /// [`ScenarioError`], with file, line and field.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        let source = Source { file, text };
        let raw: RawScenario = toml::from_str(text).map_err(|error| source.malformed(&error))?;
        source.resolve(raw)
    }
}

/// The text of a scenario, for errors.
#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn malformed(self, error: &toml::de::Error) -> ScenarioError {
        let start = error.span().map_or(0, |span| span.start);
        let message = match self.key_at(start) {
            // The parser names unknown and missing fields itself, and no others.
            Some(key) if !error.message().contains("field `") => {
                format!("{key}: {}", error.message())
            }
            _ => error.message().to_owned(),
        };
        ScenarioError::Malformed { file: self.file.to_owned(), line: self.line_at(start), message }
    }

    /// The last key that begins before the end of this line.
    fn key_at(&self, offset: usize) -> Option<&str> {
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |line| offset + line);
        let keys = self.text[..end].lines().filter_map(|line| Some(line.split_once('=')?.0.trim()));
        let is_key = |key: &&str| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        keys.rev().find(is_key)
    }

    fn line_at(self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
    }

    /// Refuses `field`, a path such as `workers.0.slots`.
    #[expect(clippy::needless_pass_by_value, reason = "values and literals alike are given away")]
    fn refuse<T>(
        self,
        field: &str,
        found: impl ToString,
        expected: impl Into<String>,
    ) -> Result<T, ScenarioError> {
        Err(ScenarioError::Contradictory {
            file: self.file.to_owned(),
            line: self.line_of(field),
            field: field.to_owned(),
            found: found.to_string(),
            expected: expected.into(),
        })
    }

    /// The line of a field, or of the nearest table that should hold it.
    fn line_of(self, field: &str) -> usize {
        let Ok(table) = DeTable::parse(self.text) else { return 1 };
        let mut offset = 0;
        let mut parts = field.split('.');
        let mut place =
            parts.next().and_then(|part| table.get_ref().get_key_value(part).map(value_of));
        while let Some((start, value)) = place {
            offset = start;
            let Some(part) = parts.next() else { break };
            place = match part.parse::<usize>() {
                Ok(index) => value
                    .as_array()
                    .and_then(|array| array.get(index))
                    .map(|value| (value.span().start, value.get_ref())),
                Err(_) => {
                    value.as_table().and_then(|table| table.get_key_value(part).map(value_of))
                }
            };
        }
        self.line_at(offset)
    }

    fn positive(self, field: &str, value: f64) -> Result<f64, ScenarioError> {
        if value.is_finite() && value > 0.0 && value <= GREATEST {
            return Ok(value);
        }
        self.refuse(field, shown(value), "a number above 0, at most 1e9")
    }

    fn duration(self, field: &str, value: f64, unit: f64) -> Result<Duration, ScenarioError> {
        if value.is_finite() && (0.0..=GREATEST).contains(&value) {
            return Ok(Duration::from_secs_f64(value * unit));
        }
        self.refuse(field, shown(value), "0 to 1e9")
    }

    fn resolve(self, raw: RawScenario) -> Result<Scenario, ScenarioError> {
        let fleet = self.fleet(&raw.workers)?;
        let service = self.service(&raw.service)?;
        let network_delay = self.duration("network_ms", raw.network_ms, 1e-3)?;
        let outcome_delay = match raw.outcome_ms {
            Some(delay) => self.duration("outcome_ms", delay, 1e-3)?,
            None => network_delay,
        };
        let length = Duration::from_secs_f64(self.positive("seconds", raw.seconds)?);
        let warm_up = self.duration("warm_up_seconds", raw.warm_up_seconds, 1.0)?;
        if warm_up >= length {
            return self.refuse("warm_up_seconds", raw.warm_up_seconds, "less than seconds");
        }
        if raw.seeds.is_empty() {
            return self.refuse("seeds", "empty", "at least one seed");
        }
        if !(1..=100).contains(&raw.balancers) {
            return self.refuse("balancers", raw.balancers, "1 to 100");
        }
        if !(1..=TOLD_APART_LIMIT).contains(&raw.clients) {
            return self.refuse("clients", raw.clients, format!("1 to {TOLD_APART_LIMIT}"));
        }
        let mut scenario = Scenario {
            scaling: None,
            phases: Vec::new(),
            clients: raw.arrivals.clients.unwrap_or(raw.clients),
            queue: raw.queue,
            retries: raw.retries,
            name: self.file.to_owned(),
            rules: self.rules(&raw.rules)?,
            faults: self.faults(&raw, fleet.len())?,
            calls: if raw.arrivals.session { Calls::Session } else { Calls::OneShot },
            reports: self.reports(&raw.reports)?,
            arrivals: Arrivals::Open { rate: 0.0 },
            about: raw.about,
            seeds: raw.seeds,
            balancers: raw.balancers,
            length,
            warm_up,
            fleet,
            service,
            network_delay,
            outcome_delay,
        };
        let fastest = scenario.fleet.iter().map(|machine| machine.speed).fold(0.0, f64::max);
        if scenario.service.mean() / fastest < SHORTEST {
            let expected =
                format!("a microsecond at least, also on the fastest worker ({fastest})");
            return self.refuse("service.mean_ms", raw.service.mean_ms, expected);
        }
        scenario.arrivals = self.arrivals(&raw.arrivals, scenario.capacity())?;
        scenario.phases = self.phases(&raw.phases, scenario.capacity())?;
        Ok(scenario)
    }

    fn rules(self, names: &[String]) -> Result<Vec<Rule>, ScenarioError> {
        if names.is_empty() {
            return self.refuse("rules", "empty", "at least one rule");
        }
        let parse = |(place, name): (usize, &String)| {
            name.parse().or_else(|error: crate::UnknownRule| {
                self.refuse(&format!("rules.{place}"), format!("{name:?}"), error.to_string())
            })
        };
        names.iter().enumerate().map(parse).collect()
    }

    fn fleet(self, workers: &[RawWorkers]) -> Result<Vec<Machine>, ScenarioError> {
        let mut fleet = Vec::new();
        for (place, group) in workers.iter().enumerate() {
            let speed = self.positive(&format!("workers.{place}.speed"), group.speed)?;
            if group.slots == 0 {
                return self.refuse(&format!("workers.{place}.slots"), 0, "1 to 65535");
            }
            if group.count == 0 || fleet.len() + group.count > WORKER_LIMIT {
                let field = format!("workers.{place}.count");
                return self.refuse(&field, group.count, format!("1 to {WORKER_LIMIT} in all"));
            }
            let machine = Machine { slots: group.slots, speed };
            fleet.extend(std::iter::repeat_n(machine, group.count));
        }
        if fleet.is_empty() { self.refuse("workers", "empty", "at least one") } else { Ok(fleet) }
    }

    fn arrivals(self, raw: &RawArrivals, capacity: f64) -> Result<Arrivals, ScenarioError> {
        if let (Some(think), None) = (raw.think_ms, raw.clients) {
            return self.refuse("arrivals.think_ms", shown(think), "nothing without clients");
        }
        match (raw.load, raw.rate, raw.clients) {
            (Some(load), None, None) => {
                let rate = self.positive("arrivals.load", load)? * capacity;
                if rate > GREATEST_RATE {
                    let found = format!("{load}, or {} calls/s", shown(rate));
                    return self.refuse("arrivals.load", found, "at most 1e6 calls/s");
                }
                Ok(Arrivals::Open { rate })
            }
            (None, Some(rate), None) if rate > GREATEST_RATE => {
                self.refuse("arrivals.rate", shown(rate), "at most 1e6")
            }
            (None, Some(rate), None) => {
                Ok(Arrivals::Open { rate: self.positive("arrivals.rate", rate)? })
            }
            (None, None, Some(clients @ 1..=CLIENT_LIMIT)) => {
                let think =
                    self.duration("arrivals.think_ms", raw.think_ms.unwrap_or(0.0), 1e-3)?;
                Ok(Arrivals::Closed { clients, think })
            }
            (None, None, Some(clients)) => {
                self.refuse("arrivals.clients", clients, format!("1 to {CLIENT_LIMIT}"))
            }
            _ => self.refuse("arrivals", "unclear", "exactly one of load, rate and clients"),
        }
    }

    fn phases(self, raw: &[RawPhase], capacity: f64) -> Result<Vec<Phase>, ScenarioError> {
        let resolve = |(place, phase): (usize, &RawPhase)| {
            let field = |name| format!("phases.{place}.{name}");
            let at = self.duration(&field("at_seconds"), phase.at_seconds, 1.0)?;
            let rate = self.positive(&field("load"), phase.load)? * capacity;
            if rate > GREATEST_RATE {
                return self.refuse(&field("load"), phase.load, "at most 1e6 calls/s");
            }
            Ok(Phase { at, rate })
        };
        let phases: Vec<Phase> = raw.iter().enumerate().map(resolve).collect::<Result<_, _>>()?;
        if phases.is_sorted_by_key(|phase| phase.at) {
            return Ok(phases);
        }
        self.refuse("phases", "not in order", "phases in the order of at_seconds")
    }

    fn service(self, raw: &RawService) -> Result<Service, ScenarioError> {
        let mean = self.positive("service.mean_ms", raw.mean_ms)? / 1_000.0;
        match (raw.kind.as_str(), raw.long_share, raw.long_factor, raw.shape) {
            ("exponential", None, None, None) => Ok(Service::Exponential(mean)),
            ("constant", None, None, None) => Ok(Service::Constant(mean)),
            ("bimodal", Some(share), Some(factor), None) => {
                if !(0.0..=1.0).contains(&share) {
                    return self.refuse("service.long_share", share, "a number from 0 to 1");
                }
                let factor = self.positive("service.long_factor", factor)?;
                Ok(Service::bimodal(mean, share, factor))
            }
            ("pareto", None, None, Some(shape)) => {
                if shape.is_finite() && shape > 1.0 {
                    return Ok(Service::pareto(mean, shape));
                }
                self.refuse("service.shape", shape, "above 1, or there is no mean")
            }
            ("exponential" | "constant" | "bimodal" | "pareto", ..) => self.refuse(
                "service",
                format!("{:?} with other fields than it has", raw.kind),
                "long_share and long_factor for bimodal, shape for pareto, none of them else",
            ),
            (other, ..) => self.refuse(
                "service.kind",
                format!("{other:?}"),
                "exponential, constant, bimodal or pareto",
            ),
        }
    }

    fn reports(self, raw: &RawReports) -> Result<Reports, ScenarioError> {
        let interval = self.positive("reports.interval_ms", raw.interval_ms)?;
        if interval < LEAST_INTERVAL_MS {
            return self.refuse("reports.interval_ms", interval, "at least 0.1");
        }
        let interval = Duration::from_secs_f64(interval / 1_000.0);
        match raw.kind.as_str() {
            "on_change" => Ok(Reports::OnChange { interval }),
            "periodic" => Ok(Reports::Periodic { interval }),
            other => self.refuse("reports.kind", format!("{other:?}"), "on_change or periodic"),
        }
    }

    fn faults(self, raw: &RawScenario, workers: usize) -> Result<Vec<Fault>, ScenarioError> {
        let resolve = |(place, fault): (usize, &RawFault)| {
            let field = |name| format!("faults.{place}.{name}");
            let kind = match fault.kind.as_str() {
                "crash" => FaultKind::Crash,
                "freeze" => FaultKind::Freeze,
                "drain" => FaultKind::Drain,
                "join" => FaultKind::Join,
                "balancer_loss" => FaultKind::BalancerLoss,
                "sick" => FaultKind::Sick(fault.percent.unwrap_or(100).min(100)),
                "broken_client" => FaultKind::BrokenClient,
                other => {
                    let expected =
                        "crash, freeze, drain, join, sick, broken_client or balancer_loss";
                    return self.refuse(&field("kind"), format!("{other:?}"), expected);
                }
            };
            let targets = match kind {
                FaultKind::BalancerLoss => raw.balancers as usize,
                FaultKind::BrokenClient => raw.arrivals.clients.unwrap_or(raw.clients) as usize,
                _ => workers,
            };
            if fault.target as usize >= targets {
                let expected = format!("below {targets}, the number of them");
                return self.refuse(&field("target"), fault.target, expected);
            }
            let at = self.duration(&field("at_seconds"), fault.at_seconds, 1.0)?;
            let lasts = fault.for_seconds;
            let lasts = lasts.map(|lasts| self.duration(&field("for_seconds"), lasts, 1.0));
            Ok(Fault { at, lasts: lasts.transpose()?, kind, target: fault.target })
        };
        raw.faults.iter().enumerate().map(resolve).collect()
    }
}

/// A number that nobody has to count the digits of.
fn shown(value: f64) -> String {
    if value.abs() < 1e15 { value.to_string() } else { format!("{value:e}") }
}

fn value_of<'a, 'i, K>(
    (key, value): (&'a Spanned<K>, &'a Spanned<toml::de::DeValue<'i>>),
) -> (usize, &'a toml::de::DeValue<'i>) {
    (key.span().start, value.get_ref())
}
