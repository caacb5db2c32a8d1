//! A worker that is made up: slots, a queue, counters, and a stream to each balancer.

use std::{collections::VecDeque, time::Duration};

use lb_core::{
    allowance::Allowance,
    estimator::Expected,
    id::WorkerNumber,
    load::{LoadReport, RawLoad, TokenCounts, WorkerState},
    time::Timestamp,
    token::TokenClass,
};

use crate::service::lasting;

/// The place of a call in the table of calls.
pub(crate) type CallKey = u32;

/// Whether a worker works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It has not started yet.
    Unborn,
    Up,
    /// It neither works nor talks, but its address still takes calls.
    Frozen,
    /// It has crashed: whoever calls it is refused.
    Crashed,
    /// It has drained and left in good order.
    Left,
}

/// A worker's stream to one balancer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    /// Which process of the balancer it is connected to.
    pub(crate) incarnation: u32,
    /// Its registration there; `None` while there is none.
    pub(crate) number: Option<WorkerNumber>,
    /// It has said hello and waits for the answer.
    pub(crate) connecting: bool,
    pub(crate) picked: TokenCounts,
    pub(crate) session: TokenCounts,
    /// What to wait for before leaving, once the balancer has said so.
    pub(crate) expected: Option<Expected>,
    pub(crate) allowance: Allowance,
    pub(crate) next_heartbeat: Timestamp,
    /// The balancer does not know all that has happened here.
    pub(crate) has_news: bool,
}

impl Link {
    fn counts(&mut self, class: TokenClass) -> Option<&mut TokenCounts> {
        match class {
            TokenClass::Picked => Some(&mut self.picked),
            TokenClass::Session => Some(&mut self.session),
            TokenClass::Second => None,
        }
    }

    /// All calls that this balancer sent have come and gone.
    fn is_drained(&self) -> bool {
        self.number.is_none()
            || self.expected.is_some_and(|expected| {
                self.picked.done >= expected.picked && self.session.done >= expected.session
            })
    }
}

/// The token of a call: who picked, for which registration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallToken {
    pub(crate) balancer: u32,
    pub(crate) incarnation: u32,
    pub(crate) number: WorkerNumber,
    pub(crate) class: TokenClass,
}

#[derive(Debug)]
pub(crate) struct SimWorker {
    pub(crate) slots: u16,
    pub(crate) speed: f64,
    pub(crate) life: Life,
    pub(crate) draining: bool,
    /// Grows when the plans made for its running calls become void.
    pub(crate) epoch: u32,
    /// Grows with each start of its process.
    pub(crate) instance: u64,
    pub(crate) queue: VecDeque<CallKey>,
    pub(crate) running: Vec<(CallKey, Timestamp)>,
    pub(crate) links: Vec<Link>,
    /// Calls on their way to it: the oracles see them.
    pub(crate) on_the_way: u32,
    pub(crate) frozen_at: Timestamp,
    /// Until then it works at half its speed.
    pub(crate) warm_at: Timestamp,
    /// Of a hundred calls it fails so many.
    pub(crate) sick: u8,
    completed_total: u64,
    faults_total: u64,
    in_flight_integral: f64,
    busy_seconds: f64,
    accounted_until: Timestamp,
}

impl SimWorker {
    pub(crate) fn new(slots: u16, speed: f64, balancers: usize) -> Self {
        Self {
            slots,
            speed,
            life: Life::Unborn,
            draining: false,
            epoch: 0,
            instance: 0,
            queue: VecDeque::new(),
            running: Vec::new(),
            links: vec![Link::default(); balancers],
            on_the_way: 0,
            frozen_at: Timestamp::default(),
            warm_at: Timestamp::default(),
            sick: 0,
            completed_total: 0,
            faults_total: 0,
            in_flight_integral: 0.0,
            busy_seconds: 0.0,
            accounted_until: Timestamp::default(),
        }
    }

    /// A new process: nothing of the old one is left.
    pub(crate) fn start(&mut self, now: Timestamp) {
        let fresh = Self {
            life: Life::Up,
            epoch: self.epoch + 1,
            instance: self.instance + 1,
            on_the_way: self.on_the_way,
            accounted_until: now,
            sick: self.sick,
            ..Self::new(self.slots, self.speed, self.links.len())
        };
        *self = fresh;
    }

    /// Calls inside, running and queued.
    pub(crate) fn in_flight(&self) -> u32 {
        u32::try_from(self.running.len() + self.queue.len()).unwrap_or(u32::MAX)
    }

    /// Calls inside and on their way.
    pub(crate) fn truth(&self) -> u32 {
        self.in_flight() + self.on_the_way
    }

    pub(crate) fn slot_seconds(&self) -> f64 {
        self.busy_seconds
    }

    /// Brings the integrals up to date; call before anything changes.
    pub(crate) fn account(&mut self, now: Timestamp) {
        let seconds = now.since(self.accounted_until).as_secs_f64();
        self.in_flight_integral += seconds * f64::from(self.in_flight());
        self.busy_seconds += seconds * self.running.len() as f64;
        self.accounted_until = now;
    }

    pub(crate) fn has_free_slot(&self) -> bool {
        self.life == Life::Up && self.running.len() < usize::from(self.slots)
    }

    /// How long `work` seconds take here, when they begin now.
    pub(crate) fn takes(&self, work: f64, now: Timestamp) -> Duration {
        let speed = if now < self.warm_at { self.speed / 2.0 } else { self.speed };
        lasting(work / speed)
    }

    fn link_of(&mut self, token: CallToken) -> Option<&mut TokenCounts> {
        let link = &mut self.links[token.balancer as usize];
        let mine = link.number == Some(token.number) && link.incarnation == token.incarnation;
        if mine { link.counts(token.class) } else { None }
    }

    /// A call has come in. Returns the balancer whose token it carries: to all others it is news.
    pub(crate) fn saw(&mut self, token: Option<CallToken>) -> Option<u32> {
        let token = token?;
        self.link_of(token)?.seen += 1;
        Some(token.balancer)
    }

    /// Whether slots and queue are taken.
    pub(crate) fn is_full(&self, queue: Option<u32>) -> bool {
        queue.is_some_and(|queue| self.in_flight() >= u32::from(self.slots) + queue)
    }

    /// A call that came is answered UNAVAILABLE at once.
    pub(crate) fn failed(&mut self, token: Option<CallToken>) {
        self.faults_total += 1;
        self.ended(token);
    }

    /// A call has ended, with the token it came with.
    pub(crate) fn ended(&mut self, token: Option<CallToken>) {
        self.completed_total += 1;
        self.refused(token);
    }

    /// A call that came is not let in: its token is done.
    pub(crate) fn refused(&mut self, token: Option<CallToken>) {
        if let Some(token) = token
            && let Some(counts) = self.link_of(token)
            && counts.done < counts.seen
        {
            counts.done += 1;
        }
    }

    /// Takes all running calls off; plans made for them become void.
    pub(crate) fn stop_running(&mut self) -> Vec<(CallKey, Timestamp)> {
        self.epoch += 1;
        std::mem::take(&mut self.running)
    }

    /// Whether it may leave: drained, as far as it and all balancers know.
    pub(crate) fn may_leave(&self) -> bool {
        self.draining && self.in_flight() == 0 && self.links.iter().all(Link::is_drained)
    }

    pub(crate) fn report(&self, balancer: usize) -> LoadReport {
        let link = &self.links[balancer];
        LoadReport::parse(RawLoad {
            state: if self.draining { WorkerState::Draining } else { WorkerState::Serving },
            in_flight: self.in_flight(),
            queued: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            slots: self.slots.into(),
            picked: link.picked,
            session: link.session,
            completed_total: self.completed_total,
            errors_total: self.faults_total,
            faults_total: self.faults_total,
            in_flight_integral: self.in_flight_integral,
            busy_seconds: self.busy_seconds,
            cpu: 0.0,
            memory: 0.0,
        })
        .expect("a worker that counts right reports what is possible")
    }
}
