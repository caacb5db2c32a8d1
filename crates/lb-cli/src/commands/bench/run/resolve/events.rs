//! What happens in the middle of a run: to workers, and to the rate.

use std::{collections::BTreeSet, time::Duration};

use toml::Spanned;

use crate::{
    commands::bench::run::{
        raw::{Raw, RawEvent, RawWorker},
        scenario::{Event, Happening, ScenarioError},
    },
    fleet::WorkerPlan,
    load::{End, RateChange},
};

use super::{
    Reader, Setting,
    workers::{QUEUES, SLOT_COUNTS, SLOWDOWNS},
};

impl Reader<'_> {
    pub(super) fn phases(&self, raw: &Raw, end: End) -> Result<Vec<RateChange>, ScenarioError> {
        let mut changes = Vec::new();
        let mut last = Duration::ZERO;
        for phase in &raw.phases {
            let phase = phase.get_ref();
            let at = self.written("phase.at", phase.at.clone());
            let time = moment(&at, end)?;
            if time <= last {
                return Err(at.wrong(format!("is {time:?}: expected later than {last:?}")));
            }
            last = time;
            let rate = self.written("phase.rate", phase.rate.clone());
            changes.push(RateChange { at: time, rate_per_second: rate.rate()? });
        }
        Ok(changes)
    }

    pub(super) fn no_phases(&self, raw: &Raw, reason: &str) -> Result<(), ScenarioError> {
        let Some(phase) = raw.phases.first() else { return Ok(()) };
        let phase = self.written("phase", phase.clone());
        Err(phase.wrong(format!("contradicts {reason}: expected a rate to change")))
    }

    pub(super) fn events(
        &self,
        raw: &Raw,
        workers: &[WorkerPlan],
        end: End,
    ) -> Result<Vec<Event>, ScenarioError> {
        let mut events = Vec::new();
        for event in &raw.events {
            events.push(self.event(event, workers, end)?);
        }
        events.sort_by_key(|(event, _)| event.at);
        let mut running: BTreeSet<String> =
            workers.iter().map(|worker| worker.id.clone()).collect();
        for (event, named) in &events {
            happens(&event.what, named, &mut running)?;
        }
        Ok(events.into_iter().map(|(event, _)| event).collect())
    }

    /// The event, and the place of the worker's name.
    fn event(
        &self,
        event: &Spanned<RawEvent>,
        workers: &[WorkerPlan],
        end: End,
    ) -> Result<(Event, Setting<String>), ScenarioError> {
        let RawEvent { at, kill, stop, add } = event.get_ref();
        let at = moment(&self.written("event.at", at.clone()), end)?;
        let (named, what) = match (kill, stop, add) {
            (Some(id), None, None) => {
                let named = self.written("event.kill", id.clone());
                (named.clone(), Happening::Kill(named.value))
            }
            (None, Some(id), None) => {
                let named = self.written("event.stop", id.clone());
                (named.clone(), Happening::Stop(named.value))
            }
            (None, None, Some(worker)) => {
                let worker = worker.get_ref();
                let named = self.written("event.add.id", worker.id.clone());
                (named.clone(), Happening::Add(self.added(worker, &named, workers)?))
            }
            _ => {
                let event = self.written("event", event.clone());
                return Err(event.wrong("is not clear: expected one of kill, stop and add"));
            }
        };
        Ok((Event { at, what }, named))
    }

    /// A worker that joins; what is not said of it is as with the first one.
    fn added(
        &self,
        raw: &RawWorker,
        named: &Setting<String>,
        workers: &[WorkerPlan],
    ) -> Result<WorkerPlan, ScenarioError> {
        let id = &named.value;
        let letter = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        let valid = id.chars().all(|one| letter(one) || one == '-');
        if id.is_empty() || id.len() > 63 || !valid {
            return Err(named.wrong(format!("is {id:?}: expected 1 to 63 of a-z, 0-9 and '-'")));
        }
        let like = workers.first().cloned().unwrap_or_else(|| super::plan(1, 4, 16, 1.0));
        let whole = |key, value: &Option<Spanned<i64>>, range, default| match value {
            Some(value) => self.written(key, value.clone()).whole(range),
            None => Ok(default),
        };
        let slowdown = match &raw.slowdown {
            None => 1.0,
            Some(factor) if SLOWDOWNS.contains(factor.get_ref()) => *factor.get_ref(),
            Some(factor) => {
                let factor = self.written("event.add.slowdown", factor.clone());
                return Err(factor.wrong(format!("is {}: expected 0.1 to 100", factor.value)));
            }
        };
        Ok(WorkerPlan {
            id: id.clone(),
            slots: whole("event.add.slots", &raw.slots, SLOT_COUNTS, like.slots)?,
            queue: whole("event.add.queue", &raw.queue, QUEUES, like.queue)?,
            slowdown,
        })
    }
}

/// A time within the run.
fn moment(at: &Setting<String>, end: End) -> Result<Duration, ScenarioError> {
    let time = at.time()?;
    match end {
        End::Elapsed(end) if time >= end => {
            Err(at.wrong(format!("is {time:?}, but the run ends after {end:?}")))
        }
        End::Elapsed(_) | End::Requests(_) => Ok(time),
    }
}

/// Lets an event happen to the set of workers; it must be possible at that moment.
fn happens(
    what: &Happening,
    named: &Setting<String>,
    running: &mut BTreeSet<String>,
) -> Result<(), ScenarioError> {
    let id = &named.value;
    let listed = || running.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    match what {
        Happening::Kill(_) | Happening::Stop(_) if !running.contains(id) => {
            Err(named.wrong(format!("is {id:?}: expected a worker that runs then: {}", listed())))
        }
        Happening::Add(_) if running.contains(id) => {
            Err(named.wrong(format!("is {id:?}, which runs already: {}", listed())))
        }
        Happening::Kill(_) | Happening::Stop(_) => {
            running.remove(id);
            Ok(())
        }
        Happening::Add(_) => {
            running.insert(id.clone());
            Ok(())
        }
    }
}
