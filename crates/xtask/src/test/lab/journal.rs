//! What balancers write into their journals about workers.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde_json::Value;

use crate::lab::Host;

/// An event of a balancer.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// Seconds since 1970.
    pub(super) at: f64,
    pub(super) name: String,
    /// The number of the balancer's process.
    process: String,
    /// The worker that it is about.
    pub(super) worker: String,
}

impl Event {
    /// Whether a worker is out of rotation by it.
    fn ends_rotation(&self) -> bool {
        ["worker_lost", "worker_draining", "worker_left"].contains(&self.name.as_str())
    }
}

/// Events of a balancer since its host was switched on, in their order.
///
/// # Errors
/// When the host is off.
pub(super) fn events(host: &Host) -> anyhow::Result<Vec<Event>> {
    let fields = "LB_EVENT,LB_WORKER,_PID,_SOURCE_REALTIME_TIMESTAMP";
    let lines = host.run(&format!(
        "journalctl --quiet --identifier=lb-server --output=json --output-fields={fields}"
    ))?;
    lines.lines().map(parse).collect()
}

/// An entry of a journal, as JSON.
///
/// # Errors
/// When it is none.
pub(super) fn parse(line: &str) -> anyhow::Result<Event> {
    let entry: Value = serde_json::from_str(line)?;
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    // When it was sent rather than when it was written.
    let sent = entry["_SOURCE_REALTIME_TIMESTAMP"].as_str();
    let time = sent.or(entry["__REALTIME_TIMESTAMP"].as_str()).context("an entry has its time")?;
    let at = time.parse::<f64>()? / 1e6;
    let (name, process, worker) = (text("LB_EVENT"), text("_PID"), text("LB_WORKER"));
    Ok(Event { at, name, process, worker })
}

/// When a worker was first out of rotation after a moment.
pub(super) fn out_at(events: &[Event], worker: &str, since: f64) -> Option<f64> {
    let out = |event: &&Event| event.at >= since && event.worker == worker && event.ends_rotation();
    events.iter().find(out).map(|event| event.at)
}

/// Since when all workers have been in rotation, if they are.
pub(super) fn whole_since(events: &[Event], workers: &[String]) -> Option<f64> {
    let mut serving: BTreeSet<&str> = BTreeSet::new();
    let mut whole = None;
    let mut process = "";
    for event in events {
        // One that has just started knows nobody.
        if event.process != process {
            process = &event.process;
            serving.clear();
        }
        if event.name == "worker_serving" {
            serving.insert(&event.worker);
        } else if event.ends_rotation() {
            serving.remove(event.worker.as_str());
        }
        let all = workers.iter().all(|worker| serving.contains(worker.as_str()));
        whole = all.then(|| whole.unwrap_or(event.at));
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: f64, name: &str, process: &str, worker: &str) -> Event {
        Event { at, name: name.into(), process: process.into(), worker: worker.into() }
    }

    #[test]
    fn a_fleet_is_whole_again_when_the_last_worker_is_back() {
        let workers = ["a".to_owned(), "b".to_owned()];
        let mut events = vec![
            event(1.0, "worker_serving", "7", "a"),
            event(2.0, "worker_serving", "7", "b"),
            event(3.0, "policy_changed", "7", ""),
        ];
        assert_eq!(whole_since(&events, &workers), Some(2.0));
        events.push(event(4.0, "worker_lost", "7", "a"));
        events.push(event(5.0, "worker_joined", "7", "a"));
        assert_eq!(whole_since(&events, &workers), None);
        assert_eq!(out_at(&events, "a", 2.5), Some(4.0));
        assert_eq!(out_at(&events, "a", 4.5), None);
        events.push(event(6.0, "worker_serving", "7", "a"));
        assert_eq!(whole_since(&events, &workers), Some(6.0));
    }

    #[test]
    fn a_balancer_that_starts_knows_nobody() {
        let workers = ["a".to_owned()];
        let mut events = vec![event(1.0, "worker_serving", "7", "a")];
        events.push(event(2.0, "worker_joined", "8", "a"));
        assert_eq!(whole_since(&events, &workers), None);
        events.push(event(3.0, "worker_serving", "8", "a"));
        events.push(event(4.0, "balancer_ready", "8", ""));
        assert_eq!(whole_since(&events, &workers), Some(3.0));
    }

    #[test]
    fn an_entry_of_the_journal_is_an_event() {
        let event = parse(
            r#"{"__REALTIME_TIMESTAMP":"2500000","_PID":"7","LB_EVENT":"worker_lost","LB_WORKER":"a"}"#,
        );
        let event = event.unwrap();
        assert!((event.at - 2.5).abs() < 1e-9 && event.ends_rotation() && event.worker == "a");
    }
}
