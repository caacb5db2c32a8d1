//! Who is in, and in what state: the only mutable owner of membership.
//!
//! Membership is a worker's stream. [`Registry::hello`] lets a worker in, its first report puts it into rotation, and
//! it is out when its stream ends ([`Registry::closed`]) or stays silent for [`SILENT_HEARTBEATS`]
//! heartbeats ([`Registry::handle_timeout`]).
//!
//! How to drive it: call one method that changes something; then [`Registry::publish`] the snapshot, if there is a new one, to
//! those who pick; then carry out each [`Output`] until [`Registry::poll_output`] has no more. The order matters for a draining
//! worker: it is told how many calls to expect only after nobody can pick it any more.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    estimator::{Bank, FleetPace, Ledger, Seat},
    health::{Baselines, Health, Past},
    id::{ServiceName, WorkerId, WorkerNumber},
    load::{Hello, LoadError, LoadReport, WorkerState},
    policy::{Cursor, PolicyKind},
    snapshot::{Profile, ServiceView, Snapshot, Worker},
    time::Timestamp,
};

mod check;
mod ejection;
mod output;
mod status;

pub use output::{Departure, Notice, Output, Refusal};
pub use status::{Ejected, Standing, WorkerStatus};

/// Most workers registered at once. Far above any LAN; it bounds memory, not ambition.
pub const WORKER_LIMIT: usize = 100_000;

/// Least time between two reports of a worker in the long run, see [`crate::allowance`]. At most fifty a second keep an estimate that is corrected by the
/// balancer's own counts as good as exact, and cost a worker nothing.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(20);

/// Most time between two reports of a worker.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// A worker that has been silent for this many heartbeats is out: with a [`TICK`], less than the two seconds that a host
/// without power may stay in rotation. A stream loses no report, so one that is missing is late, and more than half a
/// heartbeat late is a machine that is as good as gone. If it was none, it registers again within a tenth of a second.
pub const SILENT_HEARTBEATS: f64 = 1.6;

/// A new list is published when the weight of a worker has changed by this factor: less than that is noise, and a list is
/// sent to every client that watches.
const WEIGHT_CHANGE: f64 = 1.2;

/// A pause between two timeouts that is longer than this is the balancer's own (a suspended machine, a frozen
/// process): workers could not be heard, and are not silent.
const STALL: Duration = TICK.saturating_mul(3);

/// How often [`Registry::handle_timeout`] wants to be called: several times in a heartbeat and in a lease.
pub const TICK: Duration = Duration::from_millis(250);

/// Why a report is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The worker is not registered any more.
    #[error("worker number {0} is not registered")]
    NotRegistered(WorkerNumber),
    /// The report cannot be true.
    #[error(transparent)]
    Impossible(#[from] LoadError),
}

/// An id that no registered worker has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no worker with id {0} is registered")]
pub struct UnknownWorker(pub WorkerId);

#[derive(Debug)]
struct Record {
    hello: Hello,
    /// As reported last; `None` until the first report.
    report: Option<LoadReport>,
    /// An operator wants it out of rotation. Holds until the worker reports that it follows: from then on
    /// the worker's own state counts, so that any balancer can take it back.
    drain_ordered: bool,
    /// The worker has been told how many calls to expect.
    drain_acknowledged: bool,
    joined_at: Timestamp,
    heard_at: Timestamp,
    ledger: Ledger,
    health: Health,
    counters: Arc<Seat>,
    /// Its place in the last list of each of its services, in their order; `None` if it is in none.
    places: Vec<Option<usize>>,
    /// As the last list shows it.
    listed_weight: f64,
}

impl Record {
    fn slots(&self) -> u16 {
        self.report.map_or(self.hello.slots, |report| report.slots())
    }

    fn weight(&self) -> f64 {
        f64::from(self.slots()) * self.counters.speed()
    }

    /// Whether its weight is so much another that those who go by the list should know.
    fn has_new_weight(&self) -> bool {
        let change = self.weight() / self.listed_weight;
        self.in_rotation() && !(1.0 / WEIGHT_CHANGE..WEIGHT_CHANGE).contains(&change)
    }

    fn state(&self) -> Option<WorkerState> {
        self.report.map(|report| report.state)
    }

    fn in_rotation(&self) -> bool {
        self.state() == Some(WorkerState::Serving) && !self.drain_ordered
    }
}

/// What the shell still has to do, before its numbers are known.
#[derive(Debug)]
enum Pending {
    Ready(Output),
    DrainAck(WorkerNumber),
}

/// All workers of one balancer.
#[derive(Debug, Default)]
pub struct Registry {
    workers: BTreeMap<WorkerNumber, Record>,
    by_id: BTreeMap<WorkerId, WorkerNumber>,
    last_number: u32,
    policy: PolicyKind,
    report_interval: Duration,
    heartbeat: Duration,
    cursors: BTreeMap<ServiceName, Cursor>,
    snapshot: Arc<Snapshot>,
    ticked_at: Option<Timestamp>,
    /// The snapshot no longer tells the truth.
    changed: bool,
    /// The latest moment anybody has named.
    now: Timestamp,
    fleet: FleetPace,
    baselines: Baselines,
    /// What is remembered of workers that were lost, with the instance that each had.
    past: BTreeMap<WorkerId, (u64, Past)>,
    bank: Bank,
    pending: VecDeque<Pending>,
}

impl Registry {
    /// No workers yet.
    pub fn new(policy: PolicyKind) -> Self {
        let (report_interval, heartbeat) = (REPORT_INTERVAL, HEARTBEAT);
        Self { policy, report_interval, heartbeat, changed: true, ..Self::default() }
    }

    /// For workers that were told to report on change at most every `report_interval`, instead of [`REPORT_INTERVAL`],
    /// and at least every `heartbeat`, instead of [`HEARTBEAT`].
    #[must_use]
    pub fn with_intervals(self, report_interval: Duration, heartbeat: Duration) -> Self {
        Self { report_interval, heartbeat, ..self }
    }

    /// The policy in force.
    pub fn policy(&self) -> PolicyKind {
        self.policy
    }

    /// Puts another policy in force.
    pub fn set_policy(&mut self, policy: PolicyKind) {
        if self.policy != policy {
            self.policy = policy;
            self.changed = true;
            self.notice(Notice::Policy(policy));
        }
    }

    /// Lets a worker in. It gets calls after its first report.
    ///
    /// A second process with the id of a live worker is refused. It is no second one if it has the same instance (the same
    /// process on a new connection) or the same address (two processes cannot listen on one address, so it is the
    /// successor of one that died without a word).
    ///
    /// # Errors
    /// [`Refusal`], with the reason.
    pub fn hello(&mut self, hello: Hello, now: Timestamp) -> Result<WorkerNumber, Refusal> {
        self.make_room(&hello).inspect_err(|cause| {
            let notice = Notice::Refused { worker: hello.id.clone(), cause: cause.clone() };
            self.pending.push_back(Pending::Ready(Output::Notice(notice)));
        })?;
        let number = self.next_number();
        self.notice(Notice::Joined {
            worker: hello.id.clone(),
            address: hello.address,
            slots: hello.slots,
        });
        self.by_id.insert(hello.id.clone(), number);
        self.now = self.now.max(now);
        let past = self.past_of(&hello);
        let health = Health::new(past, &mut self.baselines, now);
        if let Some((until, cause)) = health.out() {
            let worker = hello.id.clone();
            self.notice(Notice::Ejected { worker, cause, lasts: until.since(now) });
        }
        let record = Record {
            places: vec![None; hello.services.len()],
            hello,
            report: None,
            drain_ordered: false,
            drain_acknowledged: false,
            joined_at: now,
            heard_at: now,
            ledger: Ledger::default(),
            health,
            counters: self.bank.take(),
            listed_weight: 0.0,
        };
        self.workers.insert(number, record);
        self.changed = true;
        self.check_invariants();
        Ok(number)
    }

    fn make_room(&mut self, hello: &Hello) -> Result<(), Refusal> {
        if let Some(&holder) = self.by_id.get(&hello.id) {
            let Hello { address, instance, .. } = self.workers[&holder].hello;
            if address != hello.address && instance != hello.instance {
                return Err(Refusal::Taken { id: hello.id.clone(), holder: address });
            }
            self.disconnect(holder, Departure::Replaced);
        }
        if self.workers.len() >= WORKER_LIMIT { Err(Refusal::Full) } else { Ok(()) }
    }

    /// A number that no worker has. They begin anew after four billion registrations, which a flood of them could reach: by then
    /// the tokens of the first ones are long void.
    fn next_number(&mut self) -> WorkerNumber {
        loop {
            self.last_number = self.last_number.wrapping_add(1).max(1);
            let number = WorkerNumber(self.last_number);
            if !self.workers.contains_key(&number) {
                return number;
            }
        }
    }

    /// Takes a worker's load report.
    ///
    /// # Errors
    /// [`ReportError`] if it cannot be true; the worker keeps its last one.
    pub fn report(
        &mut self,
        number: WorkerNumber,
        report: LoadReport,
        now: Timestamp,
    ) -> Result<(), ReportError> {
        let record = self.workers.get_mut(&number).ok_or(ReportError::NotRegistered(number))?;
        if let Some(earlier) = &record.report {
            report.check_follows(earlier)?;
        }
        let before = (record.state(), record.slots());
        record.heard_at = now;
        self.now = now;
        record.ledger.report(&report, now, &record.counters);
        record.take_faults(&report, &mut self.baselines, now);
        let (fleet, interval) = (&mut self.fleet, self.report_interval);
        record.ledger.learn(&report, fleet, now, interval, &record.counters);
        record.report = Some(report);
        record.drain_ordered &= report.state == WorkerState::Serving;
        if before == (record.state(), record.slots()) {
            self.load_changed(number);
        } else {
            self.state_changed(number);
        }
        self.judge(number);
        Ok(())
    }

    fn state_changed(&mut self, number: WorkerNumber) {
        self.changed = true;
        let record = self.workers.get_mut(&number).expect("the caller has just seen it");
        let Some(state) = record.state() else { return };
        let notice = Notice::Changed { worker: record.hello.id.clone(), state };
        match state {
            WorkerState::Serving => record.drain_acknowledged = false,
            WorkerState::Draining if !record.drain_acknowledged => {
                record.drain_acknowledged = true;
                self.pending.push_back(Pending::DrainAck(number));
            }
            WorkerState::Draining => {}
        }
        self.notice(notice);
    }

    /// The load of a worker is another, its place in the lists is not.
    fn load_changed(&self, number: WorkerNumber) {
        let record = &self.workers[&number];
        for (service, place) in record.hello.services.iter().zip(&record.places) {
            if let (Some(view), &Some(place)) = (self.snapshot.services.get(service), place) {
                view.load_changed(place, self.now);
            }
        }
    }

    /// A session has ended with `count` of its picks open: whether those calls go on, only the worker can tell.
    pub fn abandoned(&mut self, number: WorkerNumber, count: u64, now: Timestamp) {
        let Some(record) = self.workers.get_mut(&number) else { return };
        record.ledger.abandoned(count, now, &record.counters);
        self.load_changed(number);
    }

    /// A worker's stream has ended.
    pub fn closed(&mut self, number: WorkerNumber, cause: Departure) {
        let Some(mut record) = self.workers.remove(&number) else {
            return;
        };
        self.by_id.remove(&record.hello.id);
        record.ledger.leave(&mut self.fleet);
        self.remember(&mut record, cause);
        self.bank.give_back(record.counters);
        self.forget_unused_cursors(&record.hello.services);
        self.changed = true;
        self.notice(Notice::Left { worker: record.hello.id, cause });
        self.check_invariants();
    }

    fn forget_unused_cursors(&mut self, services: &[ServiceName]) {
        for service in services {
            let offered = |record: &Record| record.hello.services.contains(service);
            if !self.workers.values().any(offered) {
                self.cursors.remove(service);
            }
        }
    }

    fn disconnect(&mut self, number: WorkerNumber, cause: Departure) {
        self.pending.push_back(Pending::Ready(Output::Disconnect { worker: number, cause }));
        self.closed(number, cause);
    }

    /// Takes a worker out of rotation by order, and returns the estimate of calls still in it.
    ///
    /// # Errors
    /// [`UnknownWorker`].
    pub fn drain(&mut self, id: &WorkerId) -> Result<u32, UnknownWorker> {
        let number = self.find(id)?;
        let record = self.workers.get_mut(&number).expect("found by its id");
        record.drain_ordered = true;
        let estimate = record.outstanding();
        self.changed = true;
        self.order(number, WorkerState::Draining);
        Ok(estimate)
    }

    /// Takes a drained worker back into rotation, as soon as it says that it follows.
    ///
    /// # Errors
    /// [`UnknownWorker`].
    pub fn undrain(&mut self, id: &WorkerId) -> Result<(), UnknownWorker> {
        let number = self.find(id)?;
        self.workers.get_mut(&number).expect("found by its id").drain_ordered = false;
        self.changed = true;
        self.order(number, WorkerState::Serving);
        Ok(())
    }

    fn find(&self, id: &WorkerId) -> Result<WorkerNumber, UnknownWorker> {
        self.by_id.get(id).copied().ok_or_else(|| UnknownWorker(id.clone()))
    }

    fn order(&mut self, worker: WorkerNumber, state: WorkerState) {
        self.pending.push_back(Pending::Ready(Output::Order { worker, state }));
    }

    fn notice(&mut self, notice: Notice) {
        self.pending.push_back(Pending::Ready(Output::Notice(notice)));
    }

    /// Puts silent workers out and lets lost picks expire. Call every [`TICK`].
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = now;
        let pause = self.ticked_at.replace(now).map_or(Duration::ZERO, |last| now.since(last));
        if pause > STALL {
            for record in self.workers.values_mut() {
                record.heard_at = now.min(record.heard_at + pause);
            }
        }
        let silence = self.heartbeat.mul_f64(SILENT_HEARTBEATS);
        let (mut lost, mut changes) = (Vec::new(), Vec::new());
        let all_lost = self.is_all_lost();
        // Once over all of them: in a large fleet each is a walk through memory.
        for (number, record) in &mut self.workers {
            if now.since(record.heard_at) > silence {
                lost.push(*number);
            } else {
                record.ledger.expire(now, &record.counters);
                self.changed |= record.has_new_weight();
                let change = record.follow_health(all_lost, &mut self.baselines, now);
                changes.extend(change.map(|change| (*number, change)));
            }
        }
        for number in lost {
            self.disconnect(number, Departure::Silent);
        }
        self.follow_health(changes);
        for view in self.snapshot.services.values() {
            view.time_passed(now);
        }
    }

    /// What the shell must do next; `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            match self.pending.pop_front()? {
                Pending::Ready(output) => return Some(output),
                Pending::DrainAck(worker) => {
                    if let Some(record) = self.workers.get(&worker) {
                        let expected = record.ledger.expected(&record.counters);
                        return Some(Output::DrainAck { worker, expected });
                    }
                }
            }
        }
    }

    /// A new snapshot, if more than load has changed since the last one: membership, state, slots, policy, or a worker's speed by much.
    pub fn publish(&mut self) -> Option<Arc<Snapshot>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let pardoned = self.pardoned();
        let mut lists: BTreeMap<ServiceName, Vec<Worker>> = BTreeMap::new();
        for number in self.by_id.values() {
            let record = self.workers.get_mut(number).expect("an id leads to its worker");
            record.listed_weight = record.weight();
            let worker = record.in_rotation().then(|| picture(*number, record));
            for (service, place) in record.hello.services.iter().zip(&mut record.places) {
                let list = lists.entry(service.clone()).or_default();
                let out = record.health.is_out() && !pardoned.contains(&(service.clone(), *number));
                let worker = worker.as_ref().filter(|_| !out);
                *place = worker.map(|_| list.len());
                list.extend(worker.cloned());
            }
        }
        let mut services = BTreeMap::new();
        for (name, workers) in lists {
            let cursor = self.cursors.entry(name.clone()).or_default();
            services.insert(name, ServiceView::new(workers, self.policy, cursor, self.now));
        }
        let generation = self.snapshot.generation + 1;
        self.snapshot = Arc::new(Snapshot { generation, policy: self.policy, services });
        Some(Arc::clone(&self.snapshot))
    }
}

fn picture(number: WorkerNumber, record: &Record) -> Worker {
    let profile = Profile {
        id: record.hello.id.clone(),
        address: record.hello.address,
        weight: record.listed_weight,
        labels: record.hello.labels.clone(),
        seat: Arc::clone(&record.counters),
    };
    Worker::new(number, record.slots(), profile)
}

#[cfg(test)]
mod tests;
