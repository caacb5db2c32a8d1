//! One run: takes the next event, changes the world, plans what follows.

use std::time::Duration;

use fastrand::Rng;
use lb_core::{
    budget::RetryBudget,
    id::{ClientKey, WorkerNumber},
    registry::TICK,
    time::Timestamp,
};

use crate::{
    agenda::{Agenda, Event, Mail, Pipe},
    balancer::SimBalancer,
    rule::Rule,
    scenario::{Arrivals, Scenario},
    summary::Tally,
    worker::{CallKey, CallToken, Life, SimWorker},
};

mod calls;
mod faults;
mod scaling;
mod streams;

use {scaling::Scaler, streams::Order};

/// How long a run goes on after the last call, besides a heartbeat: every lease and silence has passed by then.
const SETTLE: Duration = Duration::from_secs(8);

/// How long a run waits for its last calls. What is still open then never ends: its worker is frozen for good.
const PATIENCE: Duration = Duration::from_secs(600);

/// One call.
#[derive(Debug, Clone, Copy)]
struct Call {
    /// Seconds at speed 1.
    work: f64,
    started: Timestamp,
    /// Who calls again when it has ended.
    client: u32,
    /// Who makes it.
    caller: u32,
    /// How often it was sent.
    attempts: u32,
    worker: u32,
    /// `None`: sent without a pick of a balancer that counts.
    token: Option<CallToken>,
    second: Option<(u32, WorkerNumber)>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// With an answer.
    Done,
    /// Nobody took it: safe to send elsewhere.
    Refused,
    /// Its worker died over it.
    Broken,
    /// Its worker answered UNAVAILABLE.
    Failed,
    /// Its worker is full and turned it away.
    Full,
}

struct World<'a> {
    scenario: &'a Scenario,
    rule: Rule,
    now: Timestamp,
    end: Timestamp,
    agenda: Agenda,
    /// What clients want. Its own generator, so that all rules face the same calls.
    demand: Rng,
    /// Everything else.
    chance: Rng,
    workers: Vec<SimWorker>,
    balancers: Vec<SimBalancer>,
    calls: Vec<Call>,
    free_calls: Vec<CallKey>,
    open_calls: u64,
    last_end: Timestamp,
    mail: Pipe<(u32, u32, Mail)>,
    orders: Pipe<(u32, u64, Order)>,
    /// Calls that wait at the door of a frozen worker.
    at_the_door: Vec<(u32, CallKey)>,
    /// Who is broken, by client.
    broken: Vec<bool>,
    budgets: Vec<RetryBudget>,
    scaler: Option<Scaler>,
    tally: Tally,
}

/// Runs one rule on one seed.
///
/// Panics when an invariant of the world or of the core breaks; the same arguments then break it again.
pub fn run_once(scenario: &Scenario, rule: Rule, seed: u64) -> Tally {
    let mut world = World::new(scenario, rule, seed);
    world.begin();
    world.go();
    world.finish()
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, rule: Rule, seed: u64) -> Self {
        let mut demand = Rng::with_seed(seed);
        let chance = demand.fork();
        let balancers = scenario.balancers as usize;
        let machine =
            |machine: &crate::Machine| SimWorker::new(machine.slots, machine.speed, balancers);
        Self {
            scenario,
            rule,
            now: Timestamp::default(),
            end: Timestamp::at(scenario.length),
            agenda: Agenda::default(),
            demand,
            chance,
            workers: scenario.fleet.iter().map(machine).collect(),
            balancers: (0..balancers)
                .map(|_| SimBalancer::new(rule, 0, scenario.reports))
                .collect(),
            calls: Vec::new(),
            free_calls: Vec::new(),
            open_calls: 0,
            last_end: Timestamp::default(),
            mail: Pipe::default(),
            orders: Pipe::default(),
            at_the_door: Vec::new(),
            broken: vec![false; scenario.clients as usize],
            budgets: vec![RetryBudget::default(); scenario.clients as usize],
            scaler: scenario
                .scaling
                .as_ref()
                .map(|scaling| Scaler::new(scaling, scenario.fleet.len())),
            tally: Tally::default(),
        }
    }

    fn begin(&mut self) {
        for balancer in 0..self.scenario.balancers {
            self.agenda.plan(self.now + TICK, Event::Tick { balancer });
        }
        for worker in 0..self.workers.len() {
            let is_wanted = self.scaler.as_ref().is_none_or(|scaler| scaler.runs(worker));
            if is_wanted && !self.scenario.joins_later(worker) {
                self.start_worker(worker);
            }
        }
        for (place, fault) in (0..).zip(&self.scenario.faults) {
            self.agenda.plan(Timestamp::at(fault.at), Event::Fault { place, begins: true });
            if let Some(lasts) = fault.lasts {
                let at = Timestamp::at(fault.at + lasts);
                self.agenda.plan(at, Event::Fault { place, begins: false });
            }
        }
        // The first calls come when the workers are in.
        let first = self.now + Duration::from_millis(100);
        match self.scenario.arrivals {
            Arrivals::Open { .. } => self.agenda.plan(first, Event::Arrival { client: 0 }),
            Arrivals::Closed { clients, .. } => {
                for client in 0..clients {
                    self.agenda.plan(first, Event::Arrival { client });
                }
            }
        }
    }

    fn go(&mut self) {
        while let Some((at, event)) = self.agenda.next() {
            let busy_until = self.end.max(self.last_end);
            let rest = SETTLE + self.scenario.reports.heartbeat();
            let over = at > busy_until + rest && self.open_calls == 0;
            if over || at > self.end + PATIENCE {
                break;
            }
            self.now = at;
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrival { client } => self.arrival(client),
            Event::Reach { call } => self.reach(call),
            Event::Finish { worker, epoch, call } => self.finish_call(worker, epoch, call),
            Event::Answer { call, end } => self.answer(call, end),
            Event::Again { call } => self.again(call),
            Event::Outcome { balancer, incarnation, number, end, client } => {
                let process = &mut self.balancers[balancer as usize];
                if process.alive && process.incarnation == incarnation {
                    let client = ClientKey(client.into());
                    process.registry.outcomes(WorkerNumber(number), end, 1, client, self.now);
                    self.carry_out(balancer);
                }
            }
            Event::ReportDue { worker, balancer } => self.report_due(worker, balancer),
            Event::Mail => self.mail_arrives(),
            Event::Reconnect { balancer } => self.reconnect(balancer),
            Event::Tick { balancer } => self.tick(balancer),
            Event::Order => self.order_arrives(),
            Event::Started { worker, order } => self.started(worker, order),
            Event::Fault { place, begins } => self.fault(place, begins),
        }
    }

    fn tick(&mut self, balancer: u32) {
        self.agenda.plan(self.now + TICK, Event::Tick { balancer });
        let process = &mut self.balancers[balancer as usize];
        if process.alive {
            process.registry.handle_timeout(self.now);
            self.carry_out(balancer);
        }
        self.check_workers();
        if balancer == 0 {
            self.scale();
            self.look();
        }
    }

    /// Notes how full the fleet is. Whoever is not there has no slots.
    fn look(&mut self) {
        let there = self.workers.iter().filter(|worker| worker.life == Life::Up);
        let (running, waiting, slots) =
            there.fold((0, 0, 0), |(running, waiting, slots), worker| {
                let full = (worker.running.len(), worker.queue.len(), usize::from(worker.slots));
                (running + full.0, waiting + full.1, slots + full.2)
            });
        let passed = self.now.since(Timestamp::default()).div_duration_f64(self.scenario.length);
        self.tally.look(passed, running, waiting, slots);
    }

    fn check_workers(&self) {
        for worker in &self.workers {
            let running = worker.running.len();
            assert!(running <= usize::from(worker.slots), "a slot runs one call");
            let idle_slot = worker.has_free_slot() && !worker.queue.is_empty();
            assert!(!idle_slot, "no call waits beside a free slot");
        }
    }

    /// When all has come to rest, the balancers' books agree with the truth.
    fn finish(mut self) -> Tally {
        self.check_workers();
        let seconds = self.now.since(Timestamp::default()).as_secs_f64();
        for worker in &mut self.workers {
            worker.account(self.now);
            let share = worker.slot_seconds() / (seconds * f64::from(worker.slots));
            self.tally.busy.push(share);
        }
        self.tally.unfinished = self.open_calls;
        let Tally { done, failed, failed_by_client, turned_away, unfinished, .. } = self.tally;
        let ended = done + failed + failed_by_client + turned_away + unfinished;
        assert_eq!(self.tally.offered, ended, "every call ends once");
        if self.open_calls == 0 {
            self.check_books();
        }
        self.tally
    }

    fn check_books(&self) {
        for balancer in self.balancers.iter().filter(|balancer| balancer.alive) {
            for status in balancer.registry.workers(self.now) {
                let worker = &self.workers[balancer.worker(status.number) as usize];
                let truth = worker.truth();
                assert_eq!(status.estimate, truth, "{} at rest: {status:?}", status.hello.id);
            }
        }
    }
}
