//! What scalers and balancers say to each other, in both directions.

use std::collections::BTreeMap;

use lb_core::{
    id::{BalancerId, ClusterName, HostId, ServiceName, WorkerId},
    scale::{Bounds, Generation, INSTANCE_LIMIT, Manual, Mode, Needs},
};

use super::{ParseError, services, text};
use crate::v1;

/// Most instances of one host.
pub const HOST_INSTANCE_LIMIT: u32 = 1_024;
/// Highest number of an instance.
pub const NUMBER_LIMIT: u32 = 65_535;
/// Longest reason and problem, in bytes.
pub const REASON_LIMIT: usize = 400;

/// What a host offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Which host.
    pub host: HostId,
    /// Which process speaks for it.
    pub instance: u64,
    /// The cluster that it belongs to.
    pub cluster: ClusterName,
    /// What its workers offer.
    pub services: Vec<ServiceName>,
    /// How many instances it should run at least, and may run at most.
    pub bounds: Bounds,
    /// What one instance takes.
    pub needs: Needs,
    /// What starts and stops instances.
    pub executor: String,
    /// Version of the scaler.
    pub version: String,
}

/// How a host is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Its instances, by number.
    pub instances: BTreeMap<u32, Reported>,
    /// CPU that nobody uses, in thousandths of a core.
    pub free_millicores: u32,
    /// Memory that is available, in bytes.
    pub free_memory: u64,
    /// The plan that it obeys.
    pub obeyed: Option<TakenPlan>,
    /// The newest setting by hand that it knows.
    pub manual: Manual,
    /// What keeps it from doing what it should; empty if nothing does.
    pub problem: String,
}

/// An instance as its scaler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Its id as a worker, if that is known.
    pub worker: Option<WorkerId>,
    /// What it does.
    pub doing: Doing,
    /// Why; may be empty.
    pub reason: String,
}

/// What an instance does, as far as its scaler can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It has been started, or is started again, and is not ready.
    Starting,
    /// It says that it is ready.
    Running,
    /// It has been told to stop.
    Draining,
    /// The scaler has given up on it.
    Failed,
}

/// A plan that a scaler has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenPlan {
    /// Who made it.
    pub balancer: BalancerId,
    /// Which one it was.
    pub generation: Generation,
}

/// What should run on a host, by the word of a balancer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostOrder {
    /// Which plan it is from; [`Generation::FIRST`]: nothing has been planned yet.
    pub generation: Generation,
    /// The newest setting by hand that the balancer knows.
    pub manual: Manual,
    /// Instances that are wanted on all hosts together.
    pub desired: u32,
    /// Why.
    pub reason: String,
    /// What should run here, and why here.
    pub instances: BTreeMap<u32, String>,
}

/// Reads a scaler's first message.
///
/// # Errors
/// Names the field that is not sound.
pub fn offer(message: v1::ScalerHello) -> Result<Offer, ParseError> {
    let named = |field| move |source| ParseError::Name { field, source };
    let v1::ScalerHello { min, max, .. } = message;
    let limit = u64::from(HOST_INSTANCE_LIMIT);
    in_range("hello.max", max.into(), 0, limit)?;
    let bounds = Bounds::new(min, max).map_err(|_| ParseError::Range {
        field: "hello.min",
        found: min.to_string(),
        expected: format!("at most hello.max, which is {max}"),
    })?;
    Ok(Offer {
        host: message.host_id.parse().map_err(named("hello.host_id"))?,
        instance: message.instance,
        cluster: message.cluster.parse().map_err(named("hello.cluster"))?,
        services: services("hello.services", &message.services)?,
        bounds,
        needs: Needs { millicores: message.instance_millicores, memory: message.instance_memory },
        executor: text("hello.executor", message.executor)?,
        version: text("hello.version", message.version)?,
    })
}

/// Reads how a host is.
///
/// # Errors
/// Names the field that is not sound.
pub fn host_report(message: v1::HostReport) -> Result<Report, ParseError> {
    few("report.instances", message.instances.len())?;
    let mut instances = BTreeMap::new();
    for instance in message.instances {
        let number = number("report.instances.number", instance.number)?;
        if instances.insert(number, reported(instance)?).is_some() {
            return Err(twice("report.instances.number", number));
        }
    }
    Ok(Report {
        instances,
        free_millicores: message.free_millicores,
        free_memory: message.free_memory,
        obeyed: message.obeyed.as_ref().map(taken_plan).transpose()?,
        manual: message.manual.map_or(Ok(Manual::default()), |set| manual("report.manual", set))?,
        problem: reason("report.problem", message.problem)?,
    })
}

fn reported(message: v1::InstanceReport) -> Result<Reported, ParseError> {
    let doing = match message.state() {
        v1::InstanceState::Starting => Doing::Starting,
        v1::InstanceState::Running => Doing::Running,
        v1::InstanceState::Draining => Doing::Draining,
        v1::InstanceState::Failed => Doing::Failed,
        v1::InstanceState::Unspecified => {
            return Err(ParseError::Missing {
                field: "report.instances.state",
                expected: "INSTANCE_STATE_STARTING or another state",
            });
        }
    };
    let worker = (!message.worker_id.is_empty()).then(|| message.worker_id.parse());
    let worker = worker
        .transpose()
        .map_err(|source| ParseError::Name { field: "report.instances.worker_id", source })?;
    Ok(Reported { worker, doing, reason: reason("report.instances.reason", message.reason)? })
}

fn taken_plan(message: &v1::ObeyedPlan) -> Result<TakenPlan, ParseError> {
    let balancer = message
        .balancer_id
        .parse()
        .map_err(|source| ParseError::Name { field: "report.obeyed.balancer_id", source })?;
    let generation = generation("report.obeyed.generation", message.generation)?;
    Ok(TakenPlan { balancer, generation })
}

/// Reads a setting by hand in `field`.
///
/// # Errors
/// Names what is not sound.
pub fn manual(field: &'static str, message: v1::ManualSetting) -> Result<Manual, ParseError> {
    let generation = generation(field, message.generation)?;
    if generation == Generation::FIRST {
        // By that one is told from none.
        let (found, expected) = ("generation 0".to_owned(), "1 or more".to_owned());
        return Err(ParseError::Range { field, found, expected });
    }
    Ok(Manual { mode: mode(field, message.mode(), message.count)?, generation })
}

/// Reads what an operator wants.
///
/// # Errors
/// If it is not set, or the count is above the limit.
pub fn mode(field: &'static str, mode: v1::ScaleMode, count: u32) -> Result<Mode, ParseError> {
    match mode {
        v1::ScaleMode::Auto => Ok(Mode::Auto),
        v1::ScaleMode::Paused => Ok(Mode::Paused),
        v1::ScaleMode::Set => {
            in_range("count", count.into(), 0, INSTANCE_LIMIT.into())?;
            Ok(Mode::Set(count))
        }
        v1::ScaleMode::Unspecified => Err(ParseError::Missing {
            field,
            expected: "SCALE_MODE_AUTO, SCALE_MODE_SET or SCALE_MODE_PAUSED",
        }),
    }
}

/// Reads what should run on a host.
///
/// # Errors
/// Names the field that is not sound.
pub fn host_plan(message: v1::HostPlan) -> Result<HostOrder, ParseError> {
    few("plan.instances", message.instances.len())?;
    let mut instances = BTreeMap::new();
    for v1::WantedInstance { number: found, why } in message.instances {
        let number = number("plan.instances.number", found)?;
        if instances.insert(number, reason("plan.instances.why", why)?).is_some() {
            return Err(twice("plan.instances.number", number));
        }
    }
    Ok(HostOrder {
        generation: generation("plan.generation", message.generation)?,
        manual: message.manual.map_or(Ok(Manual::default()), |set| manual("plan.manual", set))?,
        desired: message.desired,
        reason: reason("plan.reason", message.reason)?,
        instances,
    })
}

/// Writes how a host is.
pub fn wire_host_report(report: &Report) -> v1::HostReport {
    let instance = |(number, reported): (&u32, &Reported)| {
        let Reported { worker, doing, reason } = reported;
        let state = match doing {
            Doing::Starting => v1::InstanceState::Starting,
            Doing::Running => v1::InstanceState::Running,
            Doing::Draining => v1::InstanceState::Draining,
            Doing::Failed => v1::InstanceState::Failed,
        };
        v1::InstanceReport {
            number: *number,
            worker_id: worker.as_ref().map(ToString::to_string).unwrap_or_default(),
            state: state.into(),
            reason: shortened(reason),
        }
    };
    v1::HostReport {
        instances: report.instances.iter().map(instance).collect(),
        free_millicores: report.free_millicores,
        free_memory: report.free_memory,
        obeyed: report.obeyed.as_ref().map(wire_taken_plan),
        manual: wire_manual(report.manual),
        problem: shortened(&report.problem),
    }
}

/// Writes which plan a scaler has taken.
pub fn wire_taken_plan(plan: &TakenPlan) -> v1::ObeyedPlan {
    let TakenPlan { balancer, generation } = plan;
    v1::ObeyedPlan { balancer_id: balancer.to_string(), generation: generation.number() }
}

/// Writes what should run on a host.
pub fn wire_host_plan(order: &HostOrder) -> v1::HostPlan {
    let wanted = |(number, why): (&u32, &String)| v1::WantedInstance {
        number: *number,
        why: shortened(why),
    };
    v1::HostPlan {
        generation: order.generation.number(),
        manual: wire_manual(order.manual),
        desired: order.desired,
        reason: shortened(&order.reason),
        instances: order.instances.iter().map(wanted).collect(),
    }
}

/// Writes a setting by hand, unless nobody ever set anything.
pub fn wire_manual(manual: Manual) -> Option<v1::ManualSetting> {
    let Manual { mode, generation } = manual;
    let (mode, count) = wire_mode(mode);
    let message = v1::ManualSetting { mode: mode.into(), count, generation: generation.number() };
    (generation > Generation::FIRST).then_some(message)
}

/// Writes what an operator wants.
pub fn wire_mode(mode: Mode) -> (v1::ScaleMode, u32) {
    match mode {
        Mode::Auto => (v1::ScaleMode::Auto, 0),
        Mode::Set(count) => (v1::ScaleMode::Set, count),
        Mode::Paused => (v1::ScaleMode::Paused, 0),
    }
}

/// At most [`REASON_LIMIT`] bytes of a text.
pub fn shortened(text: &str) -> String {
    let mut end = REASON_LIMIT.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn generation(field: &'static str, number: u64) -> Result<Generation, ParseError> {
    Generation::new(number).ok_or_else(|| ParseError::Range {
        field,
        found: number.to_string(),
        expected: format!("at most {}", Generation::LIMIT),
    })
}

fn number(field: &'static str, found: u32) -> Result<u32, ParseError> {
    in_range(field, found.into(), 1, NUMBER_LIMIT.into()).map(|()| found)
}

fn few(field: &'static str, found: usize) -> Result<(), ParseError> {
    if found <= HOST_INSTANCE_LIMIT as usize {
        return Ok(());
    }
    let expected = format!("at most {HOST_INSTANCE_LIMIT}");
    Err(ParseError::Range { field, found: format!("a list of {found}"), expected })
}

fn twice(field: &'static str, number: u32) -> ParseError {
    let found = format!("{number}, twice");
    ParseError::Range { field, found, expected: "each number once".into() }
}

fn in_range(field: &'static str, found: u64, least: u64, most: u64) -> Result<(), ParseError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let expected = format!("{least} to {most}");
    Err(ParseError::Range { field, found: found.to_string(), expected })
}

fn reason(field: &'static str, text: String) -> Result<String, ParseError> {
    if text.len() <= REASON_LIMIT {
        return Ok(text);
    }
    let found = format!("{} bytes of text", text.len());
    Err(ParseError::Range { field, found, expected: format!("at most {REASON_LIMIT}") })
}

#[cfg(test)]
mod tests {
    use super::{super::TEXT_LIMIT, *};

    fn hello() -> v1::ScalerHello {
        v1::ScalerHello {
            host_id: "box-1".into(),
            instance: 7,
            cluster: "lab".into(),
            services: vec!["lb.v1.Compute".into()],
            min: 1,
            max: 8,
            instance_millicores: 500,
            instance_memory: 1 << 26,
            executor: "systemd".into(),
            version: "0.1.0".into(),
        }
    }

    #[test]
    fn an_offer_holds_what_was_said_or_names_what_is_wrong() {
        let parsed = offer(hello()).unwrap();
        assert_eq!((parsed.host.as_str(), parsed.bounds.max()), ("box-1", 8));
        let long = "x".repeat(TEXT_LIMIT + 1);
        for (message, said) in [
            (v1::ScalerHello { host_id: "A".into(), ..hello() }, "hello.host_id: host id \"A\""),
            (v1::ScalerHello { cluster: String::new(), ..hello() }, "hello.cluster: cluster name"),
            (v1::ScalerHello { services: vec![], ..hello() }, "hello.services is a list of 0"),
            (
                v1::ScalerHello { min: 9, ..hello() },
                "hello.min is 9: expected at most hello.max, which is 8",
            ),
            (v1::ScalerHello { max: 1_025, ..hello() }, "hello.max is 1025: expected 0 to 1024"),
            (v1::ScalerHello { executor: long.clone(), ..hello() }, "hello.executor is"),
            (v1::ScalerHello { version: long, ..hello() }, "hello.version is"),
        ] {
            let error = offer(message).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }

    fn report() -> Report {
        let worker = Some("box-1-3".parse().unwrap());
        let instance = Reported { worker, doing: Doing::Running, reason: String::new() };
        Report {
            instances: BTreeMap::from([(3, instance)]),
            free_millicores: 1_500,
            free_memory: 1 << 30,
            obeyed: Some(TakenPlan {
                balancer: "b-1".parse().unwrap(),
                generation: Generation::new(4).unwrap(),
            }),
            manual: Manual { mode: Mode::Set(3), generation: Generation::new(2).unwrap() },
            problem: "none".into(),
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        assert_eq!(host_report(wire_host_report(&report())).unwrap(), report());
        assert_eq!(host_report(wire_host_report(&Report::default())).unwrap(), Report::default());
        let order = HostOrder {
            generation: Generation::new(9).unwrap(),
            manual: Manual { mode: Mode::Paused, generation: Generation::new(1).unwrap() },
            desired: 12,
            reason: "demand".into(),
            instances: BTreeMap::from([(1, "most room here".into())]),
        };
        assert_eq!(host_plan(wire_host_plan(&order)).unwrap(), order);
    }

    #[test]
    fn a_report_that_cannot_be_true_is_named() {
        let sound = || wire_host_report(&report());
        let with = |change: fn(&mut v1::HostReport)| {
            let mut message = sound();
            change(&mut message);
            host_report(message).unwrap_err().to_string()
        };
        for (error, said) in [
            (
                with(|message| message.instances[0].number = 0),
                "report.instances.number is 0: expected 1 to 65535",
            ),
            (
                with(|message| message.instances.push(message.instances[0].clone())),
                "report.instances.number is 3, twice: expected each number once",
            ),
            (with(|message| message.instances[0].state = 0), "report.instances.state is not set"),
            (
                with(|message| message.instances[0].worker_id = "W".into()),
                "report.instances.worker_id: worker id \"W\"",
            ),
            (
                with(|message| message.instances = vec![v1::InstanceReport::default(); 1_025]),
                "report.instances is a list of 1025: expected at most 1024",
            ),
            (with(|message| message.problem = "x".repeat(401)), "report.problem is 401 bytes"),
            (
                with(|message| message.manual.as_mut().unwrap().generation = u64::MAX),
                "report.manual is 18446744073709551615: expected at most",
            ),
            (
                with(|message| message.manual.as_mut().unwrap().generation = 0),
                "report.manual is generation 0: expected 1 or more",
            ),
            (
                with(|message| message.manual.as_mut().unwrap().count = 10_001),
                "count is 10001: expected 0 to 10000",
            ),
            (
                with(|message| message.obeyed.as_mut().unwrap().balancer_id = "-".into()),
                "report.obeyed.balancer_id: balancer id",
            ),
        ] {
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(shortened("as it is"), "as it is");
        assert_eq!(shortened(&"ä".repeat(300)).len(), REASON_LIMIT);
        assert_eq!(shortened(&format!("x{}", "ä".repeat(300))).len(), REASON_LIMIT - 1);
    }
}
