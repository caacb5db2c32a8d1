//! What to start and to stop: what should run, compared with what does.
//!
//! Pure: time is an argument, and what is to be done comes back as values. It is asked again and again with all that there is, so an order
//! that came to nothing is simply given again.
//!
//! An instance that dies is started again after a pause that doubles; one that dies [`DEATHS`] times within [`DEATHS_WITHIN`], or that
//! cannot be started, is given up: it is told as failed, which the balancer plans around. That is still told when it is not wanted
//! any more, so that an operator who comes later sees it too.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use lb_core::scale::FAILED_PAUSE;
use lb_proto::parse::scaler::{Doing, Reported};

use crate::executor::{ExecutorError, Found, FoundState};

/// So many deaths ...
const DEATHS: usize = 5;
/// ... within this time are a crash loop. A worker that has a bad minute gets over it; one that cannot work dies within seconds each time.
const DEATHS_WITHIN: Duration = Duration::from_secs(120);
/// Pause before the first attempt after a death, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An instance that was given up is tried again after this, if it is still wanted: somebody may have mended it.
const GIVEN_UP_FOR: Duration = Duration::from_secs(600);
/// How long an instance that was given up, and then taken out of the plan, is told as failed. Ends before balancers try it again: what
/// is failed is not wanted.
const TOLD_FOR: Duration = FAILED_PAUSE.saturating_sub(Duration::from_secs(60));
/// Restarts that are counted at once: more say nothing more.
const MOST_AT_ONCE: u32 = 5;
/// An order that seems to have come to nothing is given again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start this instance.
    Start(u32),
    /// Stop it; it drains first.
    Stop(u32),
}

/// Something that an operator wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// An instance died and is started again.
    Died {
        /// Which.
        number: u32,
        /// How.
        cause: String,
    },
    /// An instance was given up.
    GivenUp {
        /// Which.
        number: u32,
        /// Why.
        cause: String,
    },
}

/// What is remembered of an instance that is wanted, or about to stop.
#[derive(Debug, Default)]
struct Record {
    /// It has been seen to run since it is wanted: an end is a death.
    lives: bool,
    /// Restarts by somebody else that have been counted; `None`: all that there were before.
    restarts: Option<u32>,
    deaths: VecDeque<Instant>,
    last_cause: String,
    /// Not to be started before.
    not_before: Option<Instant>,
    /// When it was given up, and why.
    given_up: Option<(Instant, String)>,
    /// When the last order was given.
    ordered: Option<Instant>,
}

/// All instances of this host.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    records: BTreeMap<u32, Record>,
    /// Those that were given up and are wanted no more: since when, and why.
    past: BTreeMap<u32, (Instant, String)>,
    notices: VecDeque<Notice>,
}

impl Instances {
    /// What is to be done now so that what is `wanted` runs, and nothing else.
    pub(crate) fn reconcile(
        &mut self,
        wanted: &BTreeSet<u32>,
        found: &BTreeMap<u32, Found>,
        now: Instant,
    ) -> Vec<Action> {
        self.remember(wanted, now);
        self.records.retain(|number, _| wanted.contains(number) || found.contains_key(number));
        let mut actions = Vec::new();
        for (&number, found) in found.iter().filter(|(number, _)| !wanted.contains(number)) {
            let record = self.records.entry(number).or_default();
            // What is wanted again later begins anew.
            let has_ended = matches!(found.state, FoundState::Dead { .. });
            let ordered = record.ordered.filter(|_| !has_ended);
            *record = Record { ordered, ..Record::default() };
            let is_there = matches!(found.state, FoundState::Starting | FoundState::Running);
            if is_there && record.may_order(now) {
                actions.push(Action::Stop(number));
            }
        }
        for &number in wanted {
            let record = self.records.entry(number).or_default();
            actions.extend(record.keep_running(number, found.get(&number), now, &mut self.notices));
        }
        actions
    }

    /// Keeps for a while what was given up and is wanted no more.
    fn remember(&mut self, wanted: &BTreeSet<u32>, now: Instant) {
        let unwanted = self.records.iter_mut().filter(|(number, _)| !wanted.contains(number));
        let given_up =
            unwanted.filter_map(|(&number, record)| Some((number, record.given_up.take()?)));
        self.past.extend(given_up);
        self.past.retain(|number, (since, _)| {
            !wanted.contains(number) && now.duration_since(*since) < TOLD_FOR
        });
    }

    /// An action could not be carried out.
    pub(crate) fn failed(&mut self, action: Action, error: &ExecutorError, now: Instant) {
        let (Action::Start(number), Some(record)) =
            (action, self.records.get_mut(&action.number()))
        else {
            return;
        };
        match error {
            ExecutorError::Hopeless(cause) => {
                record.give_up(number, cause.clone(), now, &mut self.notices);
            }
            ExecutorError::Unavailable(cause) => {
                record.died(number, cause.clone(), now, &mut self.notices);
            }
        }
    }

    /// The next thing that an operator wants to know.
    pub(crate) fn notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Whether something starts, so that it is worth looking often. Nobody waits for a drain, which takes long.
    pub(crate) fn is_moving(&self, wanted: &BTreeSet<u32>, found: &BTreeMap<u32, Found>) -> bool {
        let is_settled = |number: &u32| {
            let given_up = self.records.get(number).is_some_and(|record| record.given_up.is_some());
            let state = found.get(number).map(|found| &found.state);
            given_up || matches!(state, Some(FoundState::Running | FoundState::Stopping))
        };
        !wanted.iter().all(is_settled)
    }

    /// For the report: what is there, and what should be.
    pub(crate) fn report(
        &self,
        wanted: &BTreeSet<u32>,
        found: &BTreeMap<u32, Found>,
        now: Instant,
    ) -> BTreeMap<u32, Reported> {
        let numbers = wanted.iter().chain(found.keys()).chain(self.past.keys());
        let numbers: BTreeSet<u32> = numbers.copied().collect();
        let reported = numbers.into_iter().filter_map(|number| {
            let record = self.records.get(&number);
            let instance = found.get(&number);
            let past = || Some((Doing::Failed, self.past.get(&number)?.1.clone()));
            let (doing, reason) =
                doing(wanted.contains(&number), instance, record, now).or_else(past)?;
            let worker = instance.and_then(|found| found.worker.clone());
            Some((number, Reported { worker, doing, reason }))
        });
        reported.collect()
    }
}

/// What an instance does, and why; `None`: it is not there, and should not be.
fn doing(
    is_wanted: bool,
    found: Option<&Found>,
    record: Option<&Record>,
    now: Instant,
) -> Option<(Doing, String)> {
    let state = found.map(|found| &found.state);
    if !is_wanted {
        let is_there = !matches!(state, None | Some(FoundState::Dead { .. }));
        return is_there.then(|| (Doing::Draining, String::new()));
    }
    if let Some((_, cause)) = record.and_then(|record| record.given_up.as_ref()) {
        return Some((Doing::Failed, cause.clone()));
    }
    Some(match state {
        Some(FoundState::Running) => (Doing::Running, String::new()),
        Some(FoundState::Stopping) => (Doing::Starting, "stops, and is started again".into()),
        Some(FoundState::Starting) => (Doing::Starting, String::new()),
        None | Some(FoundState::Dead { .. }) => {
            let again = record.and_then(|record| {
                let pause = record.not_before?.saturating_duration_since(now);
                let cause = &record.last_cause;
                Some(format!("it ended ({cause}); again in {:.0} s", pause.as_secs_f64().ceil()))
            });
            (Doing::Starting, again.unwrap_or_default())
        }
    })
}

impl Action {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Start(number) | Self::Stop(number) => number,
        }
    }
}

impl Record {
    fn keep_running(
        &mut self,
        number: u32,
        found: Option<&Found>,
        now: Instant,
        notices: &mut VecDeque<Notice>,
    ) -> Option<Action> {
        if let Some((since, _)) = &self.given_up {
            if now.duration_since(*since) < GIVEN_UP_FOR {
                // One that systemd starts again and again is stopped.
                let is_there = found.is_some_and(|found| {
                    matches!(found.state, FoundState::Starting | FoundState::Running)
                });
                return (is_there && self.may_order(now)).then_some(Action::Stop(number));
            }
            *self = Self::default();
        }
        match found.map(|found| &found.state) {
            Some(FoundState::Starting | FoundState::Running) => {
                let restarts = found.map_or(0, |found| found.restarts);
                let by_others = restarts.saturating_sub(self.restarts.unwrap_or(restarts));
                for _ in 0..by_others.min(MOST_AT_ONCE) {
                    let cause = "it ended, and systemd has started it again".to_owned();
                    self.died(number, cause, now, notices);
                }
                (self.lives, self.restarts, self.ordered) = (true, Some(restarts), None);
                None
            }
            // It is started again when it has ended.
            Some(FoundState::Stopping) => {
                self.lives = false;
                None
            }
            // An end from before it was wanted is none of ours.
            Some(FoundState::Dead { cause }) if self.lives || self.ordered.is_some() => {
                self.died(number, cause.clone(), now, notices);
                None
            }
            None if self.lives => {
                self.died(number, "it was stopped by somebody else".into(), now, notices);
                None
            }
            None | Some(FoundState::Dead { .. }) => self.start(number, now),
        }
    }

    fn start(&mut self, number: u32, now: Instant) -> Option<Action> {
        let is_due = self.not_before.is_none_or(|not_before| not_before <= now);
        let may = is_due && self.may_order(now);
        if may {
            self.restarts = Some(0);
        }
        may.then_some(Action::Start(number))
    }

    fn died(&mut self, number: u32, cause: String, now: Instant, notices: &mut VecDeque<Notice>) {
        self.deaths.push_back(now);
        while self.deaths.front().is_some_and(|death| now.duration_since(*death) > DEATHS_WITHIN) {
            self.deaths.pop_front();
        }
        let count = self.deaths.len();
        if count >= DEATHS {
            let cause =
                format!("it ended {count} times within {} s: {cause}", DEATHS_WITHIN.as_secs());
            return self.give_up(number, cause, now, notices);
        }
        (self.lives, self.ordered) = (false, None);
        let doublings = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        self.not_before = Some(now + (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE));
        self.last_cause.clone_from(&cause);
        notices.push_back(Notice::Died { number, cause });
    }

    fn give_up(
        &mut self,
        number: u32,
        cause: String,
        now: Instant,
        notices: &mut VecDeque<Notice>,
    ) {
        (self.given_up, self.ordered) = (Some((now, cause.clone())), None);
        notices.push_back(Notice::GivenUp { number, cause });
    }

    /// Whether an order may be given now; then it counts as given.
    fn may_order(&mut self, now: Instant) -> bool {
        let may = self.ordered.is_none_or(|ordered| now.duration_since(ordered) >= AGAIN);
        if may {
            self.ordered = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests;
