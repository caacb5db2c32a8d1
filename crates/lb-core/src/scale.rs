//! How many instances of a worker should run, and where: a planner.
//!
//! It observes the demand on a service, and from time to time says what should run on which host. A [`Plan`] is complete and is the same
//! for the same observations, so whoever carries it out can compare it with what runs and be repeated, and a planner that takes over
//! goes on where another one ended. It says who wanted it, why, and not before when it can be less.
//!
//! - *How many* (`decision`): the demand decides, within bounds that can differ by the hour (`settings`, `schedule`). More come after each
//!   [`RawSettings::sync`], or at once when no slot is free. Fewer come only when the highest demand of
//!   [`RawSettings::stabilization`] allows it, all of which must be known. Somebody may set the number by hand, or pause everything.
//! - *Where* (`fleet`): a new instance goes to the host with the most room by CPU and memory, none to one whose memory is too small;
//!   the instance with the least work is taken away first. A lost host's instances are wanted on the others, those that fail
//!   again and again as well.
//!
//! How to drive it: [`Planner::observe`] a few times a second, then [`Planner::plan`], and send what it returns to all scalers.

use std::time::Duration;

use crate::time::Timestamp;

mod decision;
mod demand;
mod fleet;
mod host;
mod plan;
mod reason;
mod schedule;
mod settings;
#[cfg(test)]
mod tests;

pub use demand::{Demand, OBSERVATION_GAP};
pub use fleet::{FAILED_PAUSE, HOST_GRACE};
pub use host::{Host, Instance, InstanceState, Needs, Obeyed};
pub use plan::{Action, Change, Generation, HostPlan, Manual, Mode, Plan, Wanted};
pub use reason::{Held, Reason, Seen, Why};
pub use schedule::{TimeError, TimeOfDay, Window};
pub use settings::{
    Bounds, BoundsError, INSTANCE_LIMIT, RawSettings, Settings, SettingsError, WINDOW_LIMIT,
};
use {
    decision::Current,
    demand::Gauge,
    fleet::{Fleet, Hosts},
};

/// No slot may be free for so long before it is acted upon: less is chance.
pub const SATURATION: Duration = Duration::from_secs(1);

/// Plans the instances of one service.
#[derive(Debug, Clone)]
pub struct Planner {
    settings: Settings,
    started: Timestamp,
    gauge: Gauge,
    fleet: Fleet,
    /// `None` until it begins.
    desired: Option<u32>,
    generation: Generation,
    next_judgement: Timestamp,
    judged_at: Timestamp,
    not_down_before: Timestamp,
    held: Held,
    latest: Option<Plan>,
}

/// What an operator sees of a planner.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Instances that are wanted; `None` before the first plan.
    pub desired: Option<u32>,
    /// Calls per slot at the moment; `None`: nobody knows.
    pub demand: Option<Demand>,
    /// Why nothing changes at the moment, or that something has just changed.
    pub held: Held,
    /// For want of demand nothing is taken away before this moment.
    pub not_down_before: Timestamp,
    /// When the demand is judged next, unless no slot is free before.
    pub next_judgement: Timestamp,
}

impl Planner {
    /// A planner that begins at `now`, and settles first ([`RawSettings::settle`]).
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        let begins = now + settings.settle;
        Self {
            settings,
            started: now,
            gauge: Gauge::default(),
            fleet: Fleet::default(),
            desired: None,
            generation: Generation::default(),
            next_judgement: begins,
            judged_at: now,
            not_down_before: now,
            held: Held::Settling,
            latest: None,
        }
    }

    /// By which numbers it plans.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Goes on with other numbers; what it has observed stays.
    pub fn change_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// The latest plan; `None` before the first. A scaler that has just come is sent this one.
    pub fn latest(&self) -> Option<&Plan> {
        self.latest.as_ref()
    }

    /// Where it stands.
    pub fn status(&self) -> Status {
        Status {
            desired: self.desired,
            demand: self.gauge.latest(),
            held: self.held,
            not_down_before: self.not_down_before,
            next_judgement: self.next_judgement,
        }
    }

    /// Takes in the demand at `now`; `None`: nobody knows it. It counts until the next observation, but not for longer than
    /// [`OBSERVATION_GAP`].
    pub fn observe(&mut self, now: Timestamp, demand: Option<Demand>) {
        self.gauge.observe(now, demand);
    }

    /// What should run where, if that is not what the latest plan says. `hosts` are those whose scalers are there, in any order.
    pub fn plan(
        &mut self,
        now: Timestamp,
        time: TimeOfDay,
        hosts: &[Host],
        manual: Manual,
    ) -> Option<Plan> {
        let hosts: Hosts<'_> = hosts.iter().map(|host| (&host.id, host)).collect();
        let taken_over = self.is_outranked(&hosts);
        let before = self.fleet.clone();
        self.fleet.begin_round();
        let mut news = self.fleet.see(&hosts, taken_over, now);
        if now.since(self.started) < self.settings.settle {
            return None;
        }
        let found = self.fleet.count();
        let was = self.desired.unwrap_or(found).max(found);
        let mut reason = None;
        if self.desired.is_none() {
            reason = Some(Reason::Begun { found });
        }
        let mut desired = was;
        if manual.mode == Mode::Paused {
            self.held = Held::Paused;
        } else {
            news.extend(self.fleet.drop_failed(&hosts, now));
            let decided = self.decide(now, time, &hosts, manual.mode, was);
            if let Some((next, why)) = decided {
                desired = next;
                reason = Some(why);
            }
            desired = self.fit(&hosts, desired, manual.mode, time);
        }
        if desired != was {
            self.not_down_before = self.not_down_before.max(now + self.settings.cooldown);
            self.held = Held::Changed;
        }
        self.desired = Some(desired);
        if taken_over {
            news.push(Reason::TakenOver);
        }
        let reason = reason.or_else(|| self.manual_reason(manual)).or(news.into_iter().next());
        self.publish(&before, desired, manual, reason.unwrap_or(Reason::Room), taken_over)
    }

    /// Whether some scaler obeys a plan that ours does not replace.
    fn is_outranked(&mut self, hosts: &Hosts<'_>) -> bool {
        let obeyed = hosts.values().filter_map(|host| host.obeys);
        let Some(highest) = obeyed.max_by_key(|obeyed| (obeyed.generation, !obeyed.ours)) else {
            return false;
        };
        let outranked = highest.generation > self.generation
            || highest.generation == self.generation && !highest.ours;
        self.generation = self.generation.max(highest.generation);
        outranked
    }

    fn manual_reason(&self, manual: Manual) -> Option<Reason> {
        let before = self.latest.as_ref().map(|plan| plan.manual.mode);
        match (before, manual.mode) {
            (before, Mode::Paused) if before != Some(Mode::Paused) => Some(Reason::Paused),
            (Some(before), Mode::Auto) if before != Mode::Auto => Some(Reason::Resumed),
            _ => None,
        }
    }

    /// How many there should be instead of `was`, if it is not that.
    fn decide(
        &mut self,
        now: Timestamp,
        time: TimeOfDay,
        hosts: &Hosts<'_>,
        mode: Mode,
        was: u32,
    ) -> Option<(u32, Reason)> {
        if let Mode::Set(count) = mode {
            self.held = Held::ByHand;
            let count = count.min(self.settings.max);
            return (count != was).then_some((count, Reason::ByHand { count }));
        }
        let judged = self.judge(now, hosts, was);
        let next = judged.as_ref().map_or(was, |(next, _)| *next);
        let (bounds, window) = self.settings.bounds(time);
        if next > bounds.max() {
            return Some((bounds.max(), Reason::Max { max: bounds.max(), window }))
                .filter(|(next, _)| *next != was);
        }
        if next < bounds.min() {
            return Some((bounds.min(), Reason::Min { min: bounds.min(), window }))
                .filter(|(next, _)| *next != was);
        }
        judged
    }

    /// How many the demand wants, when it is time to ask.
    fn judge(&mut self, now: Timestamp, hosts: &Hosts<'_>, was: u32) -> Option<(u32, Reason)> {
        let is_due = now >= self.next_judgement;
        let states = || hosts.values().flat_map(|host| &host.instances);
        let registered =
            states().filter(|instance| instance.state == InstanceState::Registered).count();
        let registered = u32::try_from(registered).unwrap_or(u32::MAX);
        let all_are_ready = registered >= self.fleet.count();
        let saturated = self.gauge.saturated(now, SATURATION).filter(|_| all_are_ready || is_due);
        if !is_due && saturated.is_none() {
            return None;
        }
        let over = now.since(self.judged_at);
        let Some(demand) = self.gauge.latest() else {
            self.gauge.judge(now, self.settings.stabilization);
            self.next_judgement = now + self.settings.sync;
            self.judged_at = now;
            self.held = Held::Unknown;
            return None;
        };
        let unmanaged = demand.workers.saturating_sub(registered);
        let current = Current { wanted: was, placed: self.fleet.count(), unmanaged, demand };
        let settings = &self.settings;
        let rushed = saturated.and_then(|(calls, over)| current.up(calls, over, true, settings));
        if !is_due && rushed.is_none() {
            return None;
        }
        self.next_judgement = now + settings.sync;
        self.judged_at = now;
        let mean = self.gauge.judge(now, settings.stabilization);
        let up = rushed.or_else(|| mean.and_then(|mean| current.up(mean, over, false, settings)));
        if up.is_some() {
            self.not_down_before = self.not_down_before.max(now + settings.stabilization);
            return up;
        }
        self.judge_down(now, current, mean, over)
    }

    fn judge_down(
        &mut self,
        now: Timestamp,
        current: Current,
        mean: Option<f64>,
        over: Duration,
    ) -> Option<(u32, Reason)> {
        let settings = &self.settings;
        self.held = mean.map_or(Held::Unknown, |mean| current.held(mean, over, settings));
        let down = self
            .gauge
            .highest(now, settings.stabilization)
            .and_then(|highest| current.down(highest, settings));
        if let Some((_, Reason::LessDemand { seen })) = &down
            && now < self.not_down_before
        {
            self.held = Held::Cooling(*seen);
            return None;
        }
        down
    }

    /// Brings what is wanted where to the number that is. Returns that number; it is higher if hosts have their least.
    fn fit(&mut self, hosts: &Hosts<'_>, desired: u32, mode: Mode, time: TimeOfDay) -> u32 {
        self.fleet.trim(hosts);
        let keeps_mins = mode == Mode::Auto;
        let mut desired = desired;
        if keeps_mins {
            let (bounds, _) = self.settings.bounds(time);
            self.fleet.fill_up_to_mins(hosts, bounds.max());
            let mins: u32 =
                hosts.values().map(|host| host.bounds.min()).fold(0, u32::saturating_add);
            desired = desired.max(mins.min(self.fleet.count()).min(bounds.max()));
        }
        self.fleet.shrink(hosts, desired, keeps_mins);
        self.fleet.grow(hosts, desired);
        desired
    }

    fn publish(
        &mut self,
        before: &Fleet,
        desired: u32,
        manual: Manual,
        reason: Reason,
        taken_over: bool,
    ) -> Option<Plan> {
        let hosts = self.fleet.seats().map(|(host, seat)| {
            let wanted = seat.wanted.iter();
            let wanted = wanted.map(|(&number, why)| Wanted { number, why: why.clone() });
            HostPlan {
                host: host.clone(),
                instances: wanted.collect(),
                changes: seat.changes(before.seat_of(host)),
            }
        });
        let hosts: Vec<_> = hosts.collect();
        let missing = desired.saturating_sub(self.fleet.count());
        let same = |latest: &Plan| {
            (latest.desired, latest.missing, latest.manual) == (desired, missing, manual)
                && latest.hosts.len() == hosts.len()
                && latest.hosts.iter().zip(&hosts).all(|(latest, now)| latest.is_same(now))
        };
        if !taken_over && self.latest.as_ref().is_some_and(same) {
            return None;
        }
        self.generation = self.generation.next();
        let plan = Plan {
            generation: self.generation,
            manual,
            before: self.latest.as_ref().map_or(before.count(), |latest| latest.desired),
            desired,
            missing,
            reason,
            not_down_before: self.not_down_before,
            hosts,
        };
        self.latest = Some(plan.clone());
        Some(plan)
    }
}
