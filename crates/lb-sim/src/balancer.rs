//! A balancer process: the core's registry and snapshot, and what the yardsticks need beside them.

use std::sync::Arc;

use fastrand::Rng;
use lb_core::{
    id::WorkerNumber,
    registry::{Output, Registry},
    snapshot::{PickError, ServiceView, Snapshot, Wish},
    time::Timestamp,
    token::TokenClass,
};

use crate::{rule::Rule, scenario::Reports, worker::SimWorker};

/// The one service all made-up workers offer.
pub(crate) const SERVICE: &str = "Simulated";

#[derive(Debug)]
pub(crate) struct SimBalancer {
    pub(crate) incarnation: u32,
    pub(crate) alive: bool,
    pub(crate) registry: Registry,
    pub(crate) snapshot: Arc<Snapshot>,
    rule: Rule,
    /// The worker behind each registration number.
    workers: Vec<u32>,
    /// Calls per slot by the last report, by registration number; for the naive rule.
    reported: Vec<f64>,
}

/// Who was picked: first and second choice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Picked {
    pub(crate) worker: u32,
    pub(crate) number: WorkerNumber,
    pub(crate) second: Option<(u32, WorkerNumber)>,
}

impl SimBalancer {
    pub(crate) fn new(rule: Rule, incarnation: u32, reports: Reports) -> Self {
        let registry = Registry::new(rule.policy());
        Self {
            incarnation,
            alive: true,
            registry: registry.with_intervals(reports.interval(), reports.heartbeat()),
            snapshot: Arc::default(),
            rule,
            workers: Vec::new(),
            reported: Vec::new(),
        }
    }

    pub(crate) fn joined(&mut self, number: WorkerNumber, worker: u32) {
        let place = number.0 as usize;
        self.workers.resize(place + 1, u32::MAX);
        self.reported.resize(place + 1, 0.0);
        self.workers[place] = worker;
    }

    pub(crate) fn worker(&self, number: WorkerNumber) -> u32 {
        self.workers[number.0 as usize]
    }

    pub(crate) fn note_reported(&mut self, number: WorkerNumber, calls_per_slot: f64) {
        self.reported[number.0 as usize] = calls_per_slot;
    }

    /// After any change: publishes, then says what is to be done.
    pub(crate) fn settle(&mut self) -> Vec<Output> {
        if let Some(snapshot) = self.registry.publish() {
            self.snapshot = snapshot;
        }
        std::iter::from_fn(|| self.registry.poll_output()).collect()
    }

    pub(crate) fn pick(
        &self,
        class: TokenClass,
        now: Timestamp,
        workers: &[SimWorker],
        rng: &mut Rng,
    ) -> Result<Picked, PickError> {
        let view = self.snapshot.service(SERVICE)?;
        let wish = Wish { now, ..Wish::default() };
        if let Rule::Core(_) = self.rule {
            let pick = view.pick(wish, class, rng)?;
            let number = pick.worker.number;
            let second = view.second(&pick, wish, rng);
            let second = second.map(|worker| (self.worker(worker.number), worker.number));
            return Ok(Picked { worker: self.worker(number), number, second });
        }
        let number = self.least_by_rule(view, workers, rng).ok_or(PickError::NoWorker)?;
        Ok(Picked { worker: self.worker(number), number, second: None })
    }

    fn least_by_rule(
        &self,
        view: &ServiceView,
        workers: &[SimWorker],
        rng: &mut Rng,
    ) -> Option<WorkerNumber> {
        let mut best: Option<((f64, f64), WorkerNumber)> = None;
        let mut ties = 0;
        for candidate in view.workers() {
            let number = candidate.number;
            let worker = &workers[self.worker(number) as usize];
            let cost = match self.rule {
                Rule::ShortestQueue => (per_slot(worker), 0.0),
                Rule::ShortestDelay => delay(worker),
                _ => (self.reported[number.0 as usize], 0.0),
            };
            match best {
                Some((least, _)) if cost > least => continue,
                Some((least, _)) if cost == least => ties += 1,
                _ => ties = 1,
            }
            if rng.usize(..ties) == 0 {
                best = Some((cost, number));
            }
        }
        best.map(|(_, number)| number)
    }
}

fn per_slot(worker: &SimWorker) -> f64 {
    (f64::from(worker.truth()) + 1.0) / f64::from(worker.slots)
}

/// Time until a new call ends, in mean calls at speed 1; among equals, the emptier worker.
fn delay(worker: &SimWorker) -> (f64, f64) {
    let slots = f64::from(worker.slots);
    let waits_for = (f64::from(worker.truth()) + 1.0 - slots).max(0.0);
    ((1.0 + waits_for / slots) / worker.speed, per_slot(worker))
}
