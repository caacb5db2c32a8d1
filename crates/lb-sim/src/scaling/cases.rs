//! The cases by which the planner is judged.
//!
//! Calls take half a second, a worker has four slots, takes 1 to 3 s to start, and works at half its speed for its first 5 s. The
//! planner has its default settings. `SATURATION` and what is beside it in the core were chosen on seeds 1 to 3; these here are others.

use std::{f64::consts::TAU, time::Duration};

use fastrand::Rng;
use lb_core::scale::Settings;

use super::{Pilot, Scaling};
use crate::{
    evidence::JUDGED,
    scenario::{Arrivals, Calls, Fault, FaultKind, Machine, Phase, Reports, Scenario},
    service::Service,
};

/// How much more the planner may use than the clairvoyant one.
pub const LIMIT: f64 = 1.15;

/// A case of the comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What happens.
    pub scenario: Scenario,
    /// Where the demand is not met: the ratio that is held instead.
    pub held: Option<f64>,
}

/// Steps of a curve: the rate changes so often.
const STEP: Duration = Duration::from_secs(20);

/// Five hosts with room for eight workers each, `running` of which run at the start.
pub fn scaled(name: &str, running: u32, seconds: u64) -> Scenario {
    Scenario {
        name: name.to_owned(),
        seeds: vec![21, 22, 23],
        rules: vec![JUDGED],
        length: Duration::from_secs(seconds),
        fleet: vec![Machine { slots: 4, speed: 1.0 }; 40],
        arrivals: Arrivals::Open { rate: 0.0 },
        calls: Calls::Session,
        service: Service::Exponential(0.5),
        reports: Reports::Periodic { interval: Duration::from_secs(1) },
        scaling: Some(Scaling {
            pilot: Pilot::Planner(Settings::default()),
            hosts: 5,
            running,
            start_least: Duration::from_secs(1),
            start_most: Duration::from_secs(3),
            cold: Duration::from_secs(5),
        }),
        ..Scenario::usual()
    }
}

/// The scenario with a rate that is a function of time, in workers that are busy all the time.
pub fn with_rate(mut scenario: Scenario, step: Duration, busy: impl Fn(f64) -> f64) -> Scenario {
    let steps =
        0..u32::try_from(scenario.length.as_millis() / step.as_millis()).unwrap_or(u32::MAX);
    let per_worker = scenario.capacity() / scenario.fleet.len() as f64;
    let phase = |place| {
        let at = step * place;
        Phase { at, rate: per_worker * busy(at.as_secs_f64()) }
    };
    scenario.phases = steps.map(phase).collect();
    scenario.arrivals = Arrivals::Open { rate: scenario.phases[0].rate };
    scenario
}

/// A day of so many seconds, from 2 busy workers at midnight to 14 at noon, with half as much more in bursts of two minutes, the
/// first half of `every` after midnight.
fn day(at: f64, seconds: f64, every: Option<f64>) -> f64 {
    let curve = 2.0 + 12.0 * (1.0 - (TAU * at / seconds).cos()) / 2.0;
    let is_burst =
        every.is_some_and(|every| (0.5..0.5 + 120.0 / every).contains(&(at / every % 1.0)));
    if is_burst { curve * 1.5 } else { curve }
}

/// A day within three hours: the curve is eight times as steep, the planner's windows are what they are.
const DAY: u32 = 10_800;
/// Between two bursts: it hardly leaves the planner time to send away whom the last one needed.
const FREQUENT: f64 = 1_200.0;

fn case(name: &str, every: Option<f64>, held: Option<f64>) -> Case {
    let scenario = scaled(name, 3, DAY.into());
    let scenario = with_rate(scenario, STEP, |at| day(at, DAY.into(), every));
    Case { scenario, held }
}

/// The day without bursts.
pub fn quiet_day() -> Case {
    case("a day in three hours", None, None)
}

/// A burst every twenty minutes. Whoever is called for two minutes stays for at least five.
pub fn bursty_day() -> Case {
    case("a day in three hours with bursts, 2 of 20 min", Some(FREQUENT), Some(1.37))
}

/// Eight busy workers, twelve for two minutes of each twenty.
pub fn bursts() -> Case {
    let scenario = scaled("bursts of half as much more, 2 of 20 min", 11, 7_200);
    let is_burst = |at: f64| (600.0..720.0).contains(&(at % FREQUENT));
    let scenario = with_rate(scenario, STEP, |at| if is_burst(at) { 12.0 } else { 8.0 });
    Case { scenario, held: Some(1.37) }
}

/// Calls of 50 ms, at a rate that is off by up to a fifth, anew each second, for ten minutes after two quiet ones.
pub fn noise(seed: u64) -> Scenario {
    let mut scenario = scaled("a fifth of noise for ten minutes", 10, 720);
    scenario.service = Service::Exponential(0.05);
    scenario.seeds = vec![seed];
    let noise: Vec<f64> = {
        let mut rng = Rng::with_seed(seed);
        (0..720).map(|second| if second < 120 { 1.0 } else { 0.8 + 0.4 * rng.f64() }).collect()
    };
    with_rate(scenario, Duration::from_secs(1), move |at| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole seconds"
        )]
        let second = at as usize;
        7.0 * noise[second]
    })
}

/// From 2 workers to 12 and back, each within two minutes; what waits too long is turned away, as workers do it.
pub fn ramp() -> Scenario {
    let mut scenario = scaled("a ramp from 2 workers to 12 and back", 2, 1_500);
    (scenario.queue, scenario.retries) = (Some(16), true);
    scenario.seeds.truncate(1);
    with_rate(scenario, Duration::from_secs(2), |at| {
        let up = ((at - 60.0) / 120.0).clamp(0.0, 1.0);
        let down = ((at - 480.0) / 120.0).clamp(0.0, 1.0);
        1.4 + 7.0 * (up - down)
    })
}

/// Twenty workers, and after two minutes one of the five hosts loses its power.
pub fn lost_host() -> Scenario {
    let mut scenario = scaled("one of five hosts is lost", 20, 240);
    scenario.faults =
        vec![Fault { at: LOST_AT, lasts: None, kind: FaultKind::HostLoss, target: 2 }];
    with_rate(scenario, STEP, |_| 14.0)
}

/// When the host is lost.
pub const LOST_AT: Duration = Duration::from_secs(120);

/// Four workers, and after two minutes the load is this many times what it was.
pub fn step(times: f64) -> Scenario {
    let scenario = scaled(&format!("a step in load, times {times}"), 4, 300);
    with_rate(scenario, STEP, move |at| if at < 120.0 { 2.8 } else { 2.8 * times })
}

/// When the step is.
pub const STEP_AT: Duration = Duration::from_secs(120);

/// All that are compared with the clairvoyant planner.
pub fn cases() -> Vec<Case> {
    vec![quiet_day(), bursty_day(), bursts()]
}
