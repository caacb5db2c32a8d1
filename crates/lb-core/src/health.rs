//! Which workers fail, as all clients together tell, and how long each stays out for it.
//!
//! A dead or sick worker should leave after its first failures, not after as many for each client. So what clients say of the ends
//! of calls is pooled per worker, and so is what the worker's own reports say, for clients that tell nothing. A worker that
//! fails clearly more often than the others (`suspicion`) is out, if the accusers can be believed (`witnesses`): for a second, and
//! for twice as long each time again. Then it is on trial: back in rotation, but one failure puts it out again, and answers
//! clear it. Each [`FORGIVE`] without an ejection takes one doubling back.
//!
//! A worker that loses its stream soon after it came, again and again, is out for longer and longer in the same way.
//!
//! What happens to a fleet that fails as a whole, and how many may be out at once, the registry decides: see `registry::ejection`.

use std::{fmt, time::Duration};

use crate::{id::ClientKey, time::Timestamp};

mod suspicion;
mod witnesses;

pub(crate) use suspicion::Baseline;
use {suspicion::Suspicion, witnesses::Witnesses};

/// How long the first ejection lasts: about as long as a restart, and what a client alone avoids a worker for.
pub const FIRST_EJECTION: Duration = Duration::from_secs(1);

/// Longest ejection: a worker that was repaired is back within a minute.
pub const LONGEST_EJECTION: Duration = Duration::from_secs(60);

/// A worker that nobody calls while it is on trial is acquitted after this long.
pub const TRIAL: Duration = Duration::from_secs(10);

/// So long in rotation without an ejection, and the next one is as long as the last one was, not twice.
pub const FORGIVE: Duration = Duration::from_secs(30);

/// A stream that ends without a word sooner than this after it began is a failure of its worker: it crashes as it starts, or its
/// connection does not hold.
pub const SHORT_LIVED: Duration = Duration::from_secs(3);

/// How a call ended, as far as it says something about its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallEnd {
    /// The worker answered, if only to say no.
    Answered,
    /// The worker failed.
    Failed(Failure),
    /// It was given back unsent, for no fault of the worker.
    Unsent,
    /// It was sent, and its caller did not wait for the end.
    Abandoned,
}

impl CallEnd {
    /// Whether the call may have reached the worker.
    pub const fn was_sent(self) -> bool {
        !matches!(self, Self::Unsent | Self::Failed(Failure::Unreachable))
    }
}

/// How a worker failed a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// It could not be reached.
    Unreachable,
    /// It answered UNAVAILABLE, or the connection broke during the call.
    Unavailable,
    /// It did not answer within the caller's deadline.
    Overdue,
    /// The caller counts errors and does not say which.
    Unnamed,
}

/// How calls to one worker ended, as somebody counts who does not tell of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hearsay {
    /// With OK.
    pub answered: u64,
    /// With any other status.
    pub failed: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unreachable => "it could not be reached",
            Self::Unavailable => "UNAVAILABLE",
            Self::Overdue => "DEADLINE_EXCEEDED",
            Self::Unnamed => "an error",
        })
    }
}

/// Why a worker is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Clients say so.
    Clients {
        /// Calls that failed lately.
        failed: u32,
        /// Of so many.
        calls: u32,
        /// How the last of them failed.
        last: Failure,
        /// More than one client says so.
        several: bool,
    },
    /// Its own reports say so.
    Reports {
        /// Calls that failed lately.
        failed: u32,
        /// Of so many.
        calls: u32,
    },
    /// Its stream has broken so often, each time soon after it registered.
    Losses(u32),
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients { failed, calls, last, several } => {
                let who = if *several { "several clients say" } else { "the only client says" };
                write!(formatter, "{failed} of {calls} calls failed, {who}, the last: {last}")
            }
            Self::Reports { failed, calls } => {
                write!(formatter, "{failed} of {calls} calls failed, as it reports itself")
            }
            Self::Losses(count) => {
                write!(formatter, "lost {count} times, each time soon after it registered")
            }
        }
    }
}

/// Where a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    In,
    Out {
        until: Timestamp,
        cause: Cause,
    },
    Trial {
        until: Timestamp,
        cause: Cause,
    },
}

/// What the passing of time has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is on trial now.
    OnTrial,
    /// It has passed.
    Acquitted,
    /// It is back before its time, since nobody should be out.
    Released,
}

/// What is kept of a worker between two registrations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past {
    out: Option<(Timestamp, Cause)>,
    level: u32,
    ejections: u32,
    losses: u32,
    kept_at: Timestamp,
}

impl Past {
    /// Of an earlier process with the same id: the new one may be well, unless they all crash.
    pub(crate) fn of_another_process(self) -> Self {
        let out = self.out.filter(|(_, cause)| matches!(cause, Cause::Losses(_)));
        Self { out, ..self }
    }

    /// Whether it is so long ago that nothing follows from it.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.kept_at) > LONGEST_EJECTION + FORGIVE * self.level.max(self.losses)
    }
}

/// What is known of the health of one worker.
#[derive(Debug, Default)]
pub(crate) struct Health {
    told: Suspicion,
    own: Suspicion,
    witnesses: Witnesses,
    last: Option<Failure>,
    state: State,
    /// How often the time out has doubled, and one more.
    level: u32,
    /// It is one too many to be put out: not to be asked again before this.
    deferred_until: Timestamp,
    /// Since when it has been in, or was last forgiven.
    good_since: Timestamp,
    ejections: u32,
    losses: u32,
}

impl Health {
    /// Of a worker that registers now.
    pub(crate) fn new(past: Option<Past>, baselines: &mut Baselines, now: Timestamp) -> Self {
        let mut health = Self { good_since: now, ..Self::default() };
        if let Some(Past { out, level, ejections, losses, .. }) = past {
            health = Self { level, ejections, losses, ..health };
            if let Some((until, cause)) = out.filter(|(until, _)| *until > now) {
                health.state = State::Out { until, cause };
                return health;
            }
        }
        health.join(baselines);
        health
    }

    fn join(&mut self, baselines: &mut Baselines) {
        self.told.join(&mut baselines.told);
        self.own.join(&mut baselines.own);
    }

    /// Takes the end of calls that a client tells of.
    pub(crate) fn told(
        &mut self,
        end: CallEnd,
        count: u64,
        client: ClientKey,
        baseline: &mut Baseline,
        now: Timestamp,
    ) {
        if self.is_out() {
            // Of calls that were under way: they say no more than is known.
            return;
        }
        match end {
            CallEnd::Answered => {
                self.witnesses.defends(client, now);
                self.told.learn(count, 0, baseline);
            }
            CallEnd::Failed(failure) => {
                self.witnesses.accuses(client, now);
                self.last = Some(failure);
                self.told.learn(0, count, baseline);
            }
            CallEnd::Unsent | CallEnd::Abandoned => {}
        }
    }

    /// Takes what a client counts. In one sum, since it does not tell in which order the calls ended.
    pub(crate) fn heard(
        &mut self,
        ends: Hearsay,
        client: ClientKey,
        baseline: &mut Baseline,
        now: Timestamp,
    ) {
        if self.is_out() {
            return;
        }
        let Hearsay { answered, failed } = ends;
        if answered > 0 {
            self.witnesses.defends(client, now);
        }
        if failed > 0 {
            self.witnesses.accuses(client, now);
            self.last = Some(Failure::Unnamed);
        }
        self.told.learn(answered, failed, baseline);
    }

    /// Takes what the worker's own report adds.
    pub(crate) fn reported(&mut self, answered: u64, failed: u64, baseline: &mut Baseline) {
        if !self.is_out() {
            self.own.learn(answered, failed, baseline);
        }
    }

    /// Why it should be out, if it should.
    pub(crate) fn accusation(&self, now: Timestamp) -> Option<Cause> {
        if self.is_out() || now < self.deferred_until {
            return None;
        }
        if self.told.is_convicting()
            && let Some(several) = self.witnesses.are_credible(now)
        {
            let (failed, calls) = self.told.lately();
            let last = self.last.unwrap_or(Failure::Unavailable);
            return Some(Cause::Clients { failed, calls, last, several });
        }
        // Whoever is answered knows better than a count that mixes all callers.
        if self.own.is_convicting() && !self.witnesses.are_content(now) {
            let (failed, calls) = self.own.lately();
            return Some(Cause::Reports { failed, calls });
        }
        None
    }

    /// It cannot be put out now: there is no [`Health::accusation`] before `until`.
    pub(crate) fn defer(&mut self, until: Timestamp) {
        self.deferred_until = until;
    }

    /// Puts it out. Returns for how long.
    pub(crate) fn eject(
        &mut self,
        cause: Cause,
        baselines: &mut Baselines,
        now: Timestamp,
    ) -> Duration {
        self.level += 1;
        self.ejections += 1;
        let lasts = duration(self.level);
        self.state = State::Out { until: now + lasts, cause };
        self.leave(baselines);
        lasts
    }

    /// The others are not compared with it any more.
    pub(crate) fn leave(&mut self, baselines: &mut Baselines) {
        self.told.leave(&mut baselines.told);
        self.own.leave(&mut baselines.own);
    }

    /// Lets it in again though its time is not over. As if it had not happened.
    pub(crate) fn release(&mut self, baselines: &mut Baselines, now: Timestamp) {
        if self.is_out() {
            self.level = self.level.saturating_sub(1);
            self.acquit(now);
            self.join(baselines);
        }
    }

    /// Follows the time; the registry asks some times a second.
    pub(crate) fn handle_timeout(
        &mut self,
        baselines: &mut Baselines,
        now: Timestamp,
    ) -> Option<Change> {
        match self.state {
            State::Out { until, cause } if now >= until => {
                self.state = State::Trial { until: now + TRIAL, cause };
                self.witnesses = Witnesses::default();
                self.told.arm();
                self.own.arm();
                self.join(baselines);
                Some(Change::OnTrial)
            }
            State::Trial { until, .. } => {
                let cleared = self.told.is_cleared() || self.own.is_cleared();
                (cleared || now >= until).then(|| {
                    self.acquit(now);
                    Change::Acquitted
                })
            }
            State::In if self.level > 0 && now.since(self.good_since) >= FORGIVE => {
                self.level -= 1;
                self.good_since = now;
                None
            }
            State::In | State::Out { .. } => None,
        }
    }

    fn acquit(&mut self, now: Timestamp) {
        self.state = State::In;
        self.good_since = now;
        self.told.acquit();
        self.own.acquit();
    }

    /// Its stream has ended without a word, after so long: what to remember of it.
    pub(crate) fn lost(&self, lived: Duration, now: Timestamp) -> Option<Past> {
        let losses = if lived < SHORT_LIVED { self.losses + 1 } else { 0 };
        let mut out = self.out();
        let mut ejections = self.ejections;
        // Once is an accident: the time out begins with the second.
        if losses > 1 {
            let until = now + duration(losses - 1);
            if out.is_none_or(|(already, _)| already < until) {
                out = Some((until, Cause::Losses(losses)));
                ejections += 1;
            }
        }
        let past = Past { out, level: self.level, ejections, losses, kept_at: now };
        (losses > 0 || self.level > 0).then_some(past)
    }

    /// Whether its time out is not over.
    pub(crate) fn is_out(&self) -> bool {
        matches!(self.state, State::Out { .. })
    }

    /// When it may come back, and why it is out.
    pub(crate) fn out(&self) -> Option<(Timestamp, Cause)> {
        match self.state {
            State::Out { until, cause } => Some((until, cause)),
            State::In | State::Trial { .. } => None,
        }
    }

    /// What it is on trial for.
    pub(crate) fn trial(&self) -> Option<Cause> {
        match self.state {
            State::Trial { cause, .. } => Some(cause),
            State::In | State::Out { .. } => None,
        }
    }

    /// How often it has been put out.
    pub(crate) fn ejections(&self) -> u32 {
        self.ejections
    }
}

/// How the workers fare that are not out, as clients tell and by their own reports.
#[derive(Debug, Default)]
pub(crate) struct Baselines {
    pub(crate) told: Baseline,
    pub(crate) own: Baseline,
}

fn duration(level: u32) -> Duration {
    let doublings = level.saturating_sub(1).min(16);
    (FIRST_EJECTION * (1 << doublings)).min(LONGEST_EJECTION)
}

#[cfg(test)]
mod tests;
