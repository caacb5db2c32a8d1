//! How many instances of a worker should run, and where: a planner.
//!
//! It observes the demand on a service, and from time to time says what should run on which host. A [`Plan`] is complete and is the same
//! for the same observations, so whoever carries it out can compare it with what runs and be repeated, and a planner that takes over
//! goes on where another one ended. It says who wanted it, why, and not before when it can be less.
//!
//! - *How many* (`decision`): the demand decides, within bounds that can differ by the hour (`settings`, `schedule`). More come after each
//!   [`RawSettings::sync`] (a small excess must have lasted for two of them), or at once when no slot is free and calls wait. Fewer come only when the highest demand of
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
pub use host::{HOST_LIMIT, Host, Instance, InstanceState, Needs, Obeyed};
pub use plan::{Action, Change, Generation, HostPlan, Manual, Mode, Plan, Wanted};
pub use reason::{Held, Limit, Reason, Seen, Why};
pub use schedule::{TimeError, TimeOfDay, Window};
pub use settings::{
    Bounds, BoundsError, INSTANCE_LIMIT, RawSettings, Settings, SettingsError, WINDOW_LIMIT,
};
use {
    decision::Current,
    demand::Gauge,
    fleet::{Fleet, Hosts},
    host::View,
};

/// No slot may be free, and calls must wait, for so long before it is acted upon at once: less is chance. A second is many calls of
/// most services, and little beside the start of a worker.
pub const SATURATION: Duration = Duration::from_secs(1);

/// A scaler takes a plan within milliseconds. Whom none has obeyed for so long does not lead.
const OBEYED: Duration = Duration::from_secs(3);

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
    latest_at: Timestamp,
}

/// A time over which the demand was averaged.
#[derive(Debug, Clone, Copy)]
struct Period {
    /// Calls outstanding; `None`: nobody knew.
    mean: Option<f64>,
    /// The same of the period before.
    previous: Option<f64>,
    over: Duration,
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
        let next_judgement = now + settings.settle.max(settings.sync);
        Self {
            settings,
            started: now,
            gauge: Gauge::default(),
            fleet: Fleet::default(),
            desired: None,
            generation: Generation::default(),
            next_judgement,
            judged_at: now,
            not_down_before: now,
            held: Held::Settling,
            latest: None,
            latest_at: now,
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
        let hosts: Hosts<'_> = hosts.iter().map(|host| (&host.id, View::new(host))).collect();
        let taken_over = self.is_outranked(&hosts);
        let following = self.is_following(&hosts, now);
        let believe = taken_over || following;
        // A host that is lost together with the leader is made good by whoever leads then.
        let grace = if following { 5 * HOST_GRACE } else { HOST_GRACE };
        let mut news = self.fleet.see(&hosts, believe, grace, now);
        if now.since(self.started) < self.settings.settle {
            return None;
        }
        let before = self.fleet.clone();
        let found = self.fleet.count();
        // What is missing is still wanted, unless nobody wants it from us.
        let is_obeyed = hosts.values().any(|host| host.obeys.is_some_and(|obeyed| obeyed.ours));
        let was = match self.desired {
            Some(desired) if !believe || is_obeyed => desired.max(found),
            _ => found,
        };
        if believe {
            news.push(Reason::TakenOver);
        }
        let (bounds, window) = self.settings.bounds(time);
        let period = self.end_period(now);
        let decided = match manual.mode {
            _ if following => {
                self.held = Held::Following;
                None
            }
            Mode::Paused => {
                self.held = Held::Paused;
                None
            }
            Mode::Set(count) => {
                self.held = Held::ByHand;
                let max = self.settings.max;
                Some((count.min(max), Reason::ByHand { count, max }))
            }
            Mode::Auto if was > bounds.max() => {
                Some((bounds.max(), Reason::Max { max: bounds.max(), window }))
            }
            Mode::Auto if was < bounds.min() => {
                Some((bounds.min(), Reason::Min { min: bounds.min(), window }))
            }
            Mode::Auto => self.judge(now, period, &hosts, was, bounds),
        };
        let mut desired = decided.as_ref().map_or(was, |(count, _)| *count);
        if manual.mode != Mode::Paused && !following {
            news.extend(self.fleet.drop_failed(&hosts, now));
            desired = self.fit(&hosts, desired, manual.mode, bounds);
        }
        if self.desired.is_some_and(|before| before != desired) {
            self.not_down_before = self.not_down_before.max(now + self.settings.cooldown);
            self.held = if following { Held::Following } else { Held::Changed };
        }
        let begun = self.desired.is_none().then_some(Reason::Begun { found });
        self.desired = Some(desired);
        let reason = decided.filter(|(count, _)| *count != was).map(|(_, reason)| reason);
        let reason = reason.or_else(|| self.by_hand(manual)).or(begun).or(news.into_iter().next());
        let plan =
            self.publish(&before, desired, manual, reason.unwrap_or(Reason::Room), taken_over);
        self.latest_at = if plan.is_some() && !following { now } else { self.latest_at };
        plan
    }

    /// Whether scalers obey another balancer though they have had time to obey this one: it then wants what they run, so that
    /// nothing changes when it leads one day.
    fn is_following(&self, hosts: &Hosts<'_>, now: Timestamp) -> bool {
        let mut obeyed = hosts.values().filter_map(|host| host.obeys).peekable();
        self.latest.is_some()
            && now.since(self.latest_at) >= OBEYED
            && obeyed.peek().is_some()
            && obeyed.all(|obeyed| !obeyed.ours)
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

    /// What a setting by hand has changed, if it is new.
    fn by_hand(&self, manual: Manual) -> Option<Reason> {
        let before = self.latest.as_ref().map(|plan| plan.manual.mode);
        if before == Some(manual.mode) {
            return None;
        }
        match manual.mode {
            Mode::Paused => Some(Reason::Paused),
            Mode::Set(count) => Some(Reason::ByHand { count, max: self.settings.max }),
            Mode::Auto => before.map(|_| Reason::Resumed),
        }
    }

    /// Ends an average when it is time to judge it.
    fn end_period(&mut self, now: Timestamp) -> Option<Period> {
        if now < self.next_judgement {
            return None;
        }
        let over = now.since(self.judged_at);
        self.next_judgement = now + self.settings.sync;
        self.judged_at = now;
        let previous = self.gauge.previous();
        let mean = self.gauge.end_period(now, self.settings.stabilization);
        Some(Period { mean, previous, over })
    }

    /// How many the demand wants, when a period has ended, or no slot is free.
    fn judge(
        &mut self,
        now: Timestamp,
        period: Option<Period>,
        hosts: &Hosts<'_>,
        was: u32,
        bounds: Bounds,
    ) -> Option<(u32, Reason)> {
        let instances = hosts.values().flat_map(|host| &host.instances);
        let registered = instances.filter(|instance| instance.state == InstanceState::Registered);
        let registered = u32::try_from(registered.count()).unwrap_or(u32::MAX);
        // Who waits for instances that start does not start more for the same calls.
        let all_are_ready = registered >= self.fleet.count();
        let saturated = self.gauge.saturated(now, SATURATION).filter(|_| all_are_ready);
        let demand = self.gauge.latest();
        let Some(demand) = demand.filter(|_| period.is_some() || saturated.is_some()) else {
            if period.is_some() {
                self.held = Held::Unknown;
            }
            return None;
        };
        let unmanaged = demand.workers.saturating_sub(registered);
        let placed = self.fleet.count();
        let current = Current { wanted: was, placed, unmanaged, demand, bounds };
        let settings = &self.settings;
        let rushed = saturated.and_then(|(calls, over)| current.up(calls, over, true, settings));
        let on_average = || {
            let Period { mean, previous, over } = period?;
            // The end of a period must agree: what waited at its beginning may be served by now. A small excess must have lasted for
            // two periods, a large one is no chance.
            let mean = mean?.min(self.gauge.recent());
            let lasting = mean.min(previous.unwrap_or(mean));
            let calls = if current.is_far_below(mean, settings) { mean } else { lasting };
            current.up(calls, over, false, settings)
        };
        if let Some(up) = rushed.or_else(on_average) {
            self.not_down_before = self.not_down_before.max(now + self.settings.stabilization);
            // What was seen before the step says nothing of what comes after it.
            self.next_judgement = now;
            self.end_period(now);
            return Some(up);
        }
        self.judge_down(now, current, period?)
    }

    fn judge_down(
        &mut self,
        now: Timestamp,
        current: Current,
        period: Period,
    ) -> Option<(u32, Reason)> {
        let settings = &self.settings;
        let held = |mean| current.held(mean, period.over, settings);
        self.held = period.mean.map_or(Held::Unknown, held);
        let highest = self.gauge.highest(now, settings.stabilization)?;
        let (count, reason) = current.down(highest, settings)?;
        if now < self.not_down_before {
            self.held = Held::Cooling(current.seen(highest, settings.stabilization, settings));
            return None;
        }
        Some((count, reason))
    }

    /// Brings what is wanted where to the number that is. Returns that number; it is higher if hosts have their least.
    fn fit(&mut self, hosts: &Hosts<'_>, desired: u32, mode: Mode, bounds: Bounds) -> u32 {
        self.fleet.trim(hosts);
        let mut desired = desired;
        if mode == Mode::Auto {
            if self.fleet.fill_up_to_mins(hosts, bounds.max()) {
                desired = desired.max(self.fleet.count());
            }
            let mins: usize = hosts.values().map(View::least).sum();
            let mins = u32::try_from(mins).unwrap_or(u32::MAX);
            desired = desired.max(mins.min(self.fleet.count()).min(bounds.max()));
            self.fleet.shrink(hosts, desired, true);
        }
        // What is too many even then goes in any case: the hosts want more at least than there may be, or it is set by hand.
        self.fleet.shrink(hosts, desired, false);
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
