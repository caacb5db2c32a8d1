//! The body of a fuzz target (`fuzz/`), whose committed inputs a test runs again: a scenario from bytes.

use std::time::Duration;

use crate::{Arrivals, Reports, Scenario, run};

/// Most events of a run, by a rough count: what takes longer finds no more.
const EVENTS: f64 = 20_000.0;

/// Reads bytes as a scenario. What is wrong with one is said in one line; a short one is run, and the simulator checks itself.
pub fn scenario(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Scenario::parse("x.toml", text) {
        Ok(mut scenario) => {
            scenario.seeds.truncate(1);
            scenario.rules.truncate(2);
            if events(&scenario) < EVENTS {
                run(&scenario);
            }
        }
        Err(error) => assert!(error.to_string().len() < text.len() + 2000, "a long error"),
    }
}

fn events(scenario: &Scenario) -> f64 {
    let seconds = scenario.length.as_secs_f64();
    let fleet = scenario.fleet.len() as f64;
    let rate = match scenario.arrivals {
        Arrivals::Open { rate } => rate,
        Arrivals::Closed { clients, think } => {
            let call =
                scenario.network_delay + think + Duration::from_secs_f64(scenario.service.mean());
            f64::from(clients) / call.as_secs_f64()
        }
    };
    let interval = match scenario.reports {
        Reports::OnChange { interval } | Reports::Periodic { interval } => interval,
    };
    // A run goes on for a while after the last call.
    let reports = (seconds + 10.0) * fleet * f64::from(scenario.balancers) / interval.as_secs_f64();
    6.0 * rate * seconds + reports
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn scenario() {
        super::replay::replay("scenario", super::scenario);
    }
}
