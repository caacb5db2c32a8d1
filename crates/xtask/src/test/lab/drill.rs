//! One drill: something fails, and what clients and balancers make of it is measured.

use std::{collections::BTreeSet, thread, time::Duration};

use anyhow::Context as _;

use super::{
    cluster::Cluster,
    journal::{self, Event},
    load::{Call, Load, now},
    report::{Figures, Run},
};
use crate::lab::wait_until;

/// Longest wait for a fleet to be whole again. Limits are much shorter; beyond this it will not happen.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A call that was sent just before the fleet was whole again is given this time to end.
const LAST_CALLS: Duration = Duration::from_secs(1);
/// Clients give up calls at a silent worker after three seconds; only then it is known how many have failed.
const GIVEN_UP: f64 = 4.0;

/// Each may have a client.
const BALANCERS: usize = 2;

/// How long before a failure it is looked how many calls workers usually have, in seconds.
const USUAL: f64 = 10.0;

/// How many calls may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failures {
    None,
    /// As many as were in flight at the worker when it failed.
    InFlight,
    /// As many as were in flight at the worker when it failed, and as many more as each balancer sends until it looks as full as
    /// another: a host that is silent cannot say so, and until somebody misses it, it is sent calls like any other, as long as it has
    /// not more of them. Balancers do not know of each other's picks there, so each fills it up.
    ///
    /// What is wanted is [`Failures::InFlight`]. It is missed, and the report says by how much.
    UpToOthers,
}

/// What is to be reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) failures: Failures,
    /// Seconds from the failure until the worker is out of rotation.
    pub(super) out: Option<f64>,
    /// Seconds from the return until all workers are in rotation at all balancers.
    pub(super) back: Option<f64>,
}

/// What happened in a drill, and when, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Happened {
    /// The worker that it happened to.
    pub(super) worker: Option<usize>,
    pub(super) at: f64,
    /// What was away is there again.
    pub(super) returned: f64,
}

pub(super) struct Drill {
    pub(super) name: &'static str,
    pub(super) limits: Limits,
    /// It takes minutes.
    pub(super) long: bool,
    /// Lets it happen, and puts everything right again.
    pub(super) act: fn(&mut Cluster) -> anyhow::Result<Happened>,
}

impl Drill {
    /// Runs it under load; once more if it was too slow, because this machine is shared.
    ///
    /// # Errors
    /// When it cannot be done, or the fleet does not become whole again.
    pub(super) fn run(&self, cluster: &mut Cluster, load: &mut Load) -> anyhow::Result<Run> {
        let figures = self.measure(cluster, load)?;
        let missed = self.limits.missed(&figures);
        if missed.is_empty() || !self.limits.allow_failures_of(&figures) {
            return Ok(Run::new(self, figures, missed, None));
        }
        let again = self.measure(cluster, load)?;
        let missed = self.limits.missed(&again);
        Ok(Run::new(self, again, missed, Some(figures)))
    }

    fn measure(&self, cluster: &mut Cluster, load: &mut Load) -> anyhow::Result<Figures> {
        let before = now();
        await_whole(cluster, load, before).context("before it began")?;
        let happened = (self.act)(cluster)?;
        let whole = await_whole(cluster, load, happened.returned).context("afterwards")?;
        let given_up = Duration::from_secs_f64((happened.at + GIVEN_UP - now()).max(0.0));
        thread::sleep(LAST_CALLS.max(given_up));
        let id = happened.worker.map(|worker| cluster.ids()[worker].clone());
        let journals = journals(cluster);
        let calls = load.calls()?;
        Ok(figures(calls, &journals, id.as_deref(), &happened, &whole))
    }
}

impl Limits {
    fn allow_failures_of(&self, figures: &Figures) -> bool {
        figures.failed <= self.allowed(figures)
    }

    /// How many calls may fail.
    fn allowed(&self, figures: &Figures) -> usize {
        match self.failures {
            Failures::None => 0,
            Failures::InFlight => figures.in_flight,
            Failures::UpToOthers => {
                let room = figures.elsewhere.saturating_sub(figures.in_flight);
                figures.in_flight + BALANCERS * room
            }
        }
    }

    /// What was not reached, in words.
    fn missed(&self, figures: &Figures) -> Vec<String> {
        let mut missed = Vec::new();
        if !self.allow_failures_of(figures) {
            let allowed = self.allowed(figures);
            missed.push(format!("{} calls failed, at most {allowed} may", figures.failed));
        }
        if let Some(limit) = self.out {
            match figures.out_after {
                None => missed.push("it never was out of rotation".into()),
                Some(after) if after > limit => {
                    missed.push(format!("out of rotation after {after:.2} s, not {limit} s"));
                }
                Some(_) => {}
            }
        }
        if let Some(limit) = self.back.filter(|limit| figures.back_after > *limit) {
            missed.push(format!("back after {:.2} s, not {limit} s", figures.back_after));
        }
        missed
    }
}

/// Since when the fleet is whole.
struct Whole {
    /// For balancers: all have all workers in rotation.
    balancers: f64,
    /// For clients: each has had an answer of each worker.
    clients: f64,
}

/// Waits until every balancer has every worker in rotation, and every client has had an answer of every worker to a call
/// that it began after `returned`.
fn await_whole(cluster: &Cluster, load: &mut Load, returned: f64) -> anyhow::Result<Whole> {
    let mut whole = None;
    wait_until("the fleet to be whole", WHOLE_TIMEOUT, || {
        let Some(clients) = answered_by_all(cluster, load.calls()?, returned) else {
            return Ok(false);
        };
        let journals = journals(cluster);
        let since = journals.iter().map(|events| journal::whole_since(events, cluster.ids()));
        let since: Option<Vec<f64>> = since.collect();
        let all = since.filter(|since| since.len() == cluster.balancers().len());
        whole = all.map(|since| Whole { balancers: latest(since), clients });
        Ok(whole.is_some())
    })?;
    whole.context("it is whole")
}

fn latest(moments: Vec<f64>) -> f64 {
    moments.into_iter().fold(f64::MIN, f64::max)
}

/// Of those balancers whose hosts are on.
fn journals(cluster: &Cluster) -> Vec<Vec<Event>> {
    cluster.balancers().iter().filter_map(|host| journal::events(host).ok()).collect()
}

/// When the last client had the first answer of the last worker, to calls begun after `since`.
fn answered_by_all(cluster: &Cluster, calls: &[Call], since: f64) -> Option<f64> {
    let mut awaited = BTreeSet::new();
    for client in 0..cluster.clients().len() {
        awaited.extend(cluster.ids().iter().map(|id| (client, id.as_str())));
    }
    // Calls are listed as they end, client by client.
    let mut answered: Vec<_> =
        calls.iter().filter(|call| call.begun > since && call.is_answered()).collect();
    answered.sort_by(|a, b| a.ended.total_cmp(&b.ended));
    answered.into_iter().find_map(|call| {
        awaited.remove(&(call.client, call.worker.as_str()));
        awaited.is_empty().then_some(call.ended)
    })
}

fn figures(
    calls: &[Call],
    journals: &[Vec<Event>],
    id: Option<&str>,
    happened: &Happened,
    whole: &Whole,
) -> Figures {
    let Happened { at, returned, .. } = *happened;
    let of_worker = |call: &&Call| id == Some(call.worker.as_str());
    let during: Vec<&Call> = calls.iter().filter(|call| call.ended >= at).collect();
    let failed = || during.iter().copied().filter(|call| !call.is_answered());
    let in_flight = during.iter().copied().filter(of_worker).filter(|call| call.begun < at).count();
    // Nobody may call it after it is out, whatever a journal says.
    let away = |call: &&Call| call.begun >= at && call.begun < returned;
    let last_call = during.iter().copied().filter(of_worker).filter(away).map(|call| call.begun);
    let out = id.map(|id| {
        let noted: Option<Vec<f64>> =
            journals.iter().map(|events| journal::out_at(events, id, at)).collect();
        noted.map(|noted| latest(noted).max(last_call.fold(f64::MIN, f64::max)))
    });
    let out = out.flatten();
    let elsewhere: BTreeSet<&str> = calls.iter().map(|call| call.worker.as_str()).collect();
    let elsewhere = elsewhere.into_iter().filter(|worker| id.is_some_and(|id| id != *worker));
    let until = out.unwrap_or(at);
    let at_once = |worker| most_at_once(calls, worker, at - USUAL, until);
    let answers = calls.iter().filter(of_worker).filter(|call| call.is_answered());
    let first = answers.filter(|call| call.begun > returned).map(|call| call.ended);
    let back = if id.is_some() { first.fold(f64::MAX, f64::min) } else { returned };
    let longest =
        during.iter().filter(|call| call.is_answered()).map(|call| call.ended - call.begun);
    let after = |moment: f64, since: f64| (moment - since).max(0.0);
    Figures {
        calls: during.len(),
        failed: failed().count(),
        failed_later: failed().filter(|call| call.begun >= at).count(),
        outcomes: failed().map(|call| call.outcome.clone()).collect(),
        in_flight,
        elsewhere: elsewhere.map(at_once).max().unwrap_or(0),
        out_after: out.map(|out| after(out, at)),
        back_after: after(whole.balancers.max(back), returned),
        whole_after: after(whole.balancers.max(whole.clients), returned),
        longest: longest.fold(0.0, f64::max),
    }
}

/// Most calls that were under way at a worker at one moment of a time.
fn most_at_once(calls: &[Call], worker: &str, from: f64, until: f64) -> usize {
    let there = calls.iter().filter(|call| call.worker == worker);
    let there = there.filter(|call| call.ended >= from && call.begun <= until);
    let mut steps: Vec<(f64, bool)> =
        there.flat_map(|call| [(call.begun, true), (call.ended, false)]).collect();
    // Who ends at the moment at which another begins is not beside it.
    steps.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut now = 0_usize;
    let count = |(_, begins): &(f64, bool)| {
        now = if *begins { now + 1 } else { now.saturating_sub(1) };
        now
    };
    steps.iter().map(count).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(begun: f64, ended: f64, worker: &str, outcome: &str) -> Call {
        let (worker, outcome) = (worker.to_owned(), outcome.to_owned());
        Call { client: 0, begun, ended, worker, outcome }
    }

    fn lost(at: f64) -> Event {
        let line = format!(
            r#"{{"__REALTIME_TIMESTAMP":"{}","LB_EVENT":"worker_lost","LB_WORKER":"a"}}"#,
            at * 1e6
        );
        journal::parse(&line).unwrap()
    }

    #[test]
    fn figures_count_from_the_failure_and_from_the_return() {
        let calls = [
            call(8.0, 9.0, "a", "OK"),
            call(9.9, 10.5, "a", "UNAVAILABLE"),
            call(9.9, 10.1, "b", "OK"),
            call(10.2, 10.6, "a", "UNAVAILABLE"),
            call(13.1, 13.2, "a", "OK"),
        ];
        let journals = [vec![lost(10.1)], vec![lost(10.15)]];
        let happened = Happened { worker: Some(0), at: 10.0, returned: 13.0 };
        let whole = Whole { balancers: 13.3, clients: 13.5 };
        let figures = figures(&calls, &journals, Some("a"), &happened, &whole);
        assert_eq!((figures.calls, figures.failed, figures.failed_later), (4, 2, 1));
        assert_eq!((figures.in_flight, figures.elsewhere), (1, 1));
        let about = |found: f64, expected: f64| (found - expected).abs() < 1e-9;
        assert!(about(figures.out_after.unwrap(), 0.2), "the last call counts: {figures:?}");
        assert!(about(figures.back_after, 0.3) && about(figures.whole_after, 0.5));
        assert!(about(figures.longest, 0.2));
        let limits = Limits { failures: Failures::InFlight, out: Some(0.3), back: Some(0.2) };
        let missed = limits.missed(&figures);
        assert_eq!(missed, ["2 calls failed, at most 1 may", "back after 0.30 s, not 0.2 s"]);
    }

    #[test]
    fn calls_at_once_are_those_that_overlap() {
        let spans = [(1.0, 2.0), (1.5, 3.0), (2.0, 2.5), (8.0, 9.0), (8.0, 9.0), (8.0, 9.0)];
        let mut calls: Vec<_> =
            spans.iter().map(|(begun, ended)| call(*begun, *ended, "a", "OK")).collect();
        calls.push(call(1.6, 1.7, "b", "OK"));
        assert_eq!(most_at_once(&calls, "a", 1.0, 5.0), 2);
        assert_eq!(most_at_once(&calls, "a", 1.0, 9.0), 3);
        assert_eq!(most_at_once(&calls, "c", 1.0, 9.0), 0);
    }
}
