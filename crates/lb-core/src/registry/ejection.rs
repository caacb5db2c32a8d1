//! Who is put out for failing, and the bounds of it.
//!
//! At least half of the workers of each service stay in, whatever is said of them: too few would fall under the load of all, and what
//! so many have in common is hardly theirs. And when even the better half of those who are in fails, ejections are undone: then there
//! is nobody to turn to, and when the trouble passes, the whole fleet should be there.

use std::collections::BTreeSet;

use super::{Departure, Notice, Record, Registry, TICK};
use crate::{
    health::{Baselines, CallEnd, Cause, Change, Hearsay, Past, TRIAL},
    id::{ClientKey, ServiceName, WorkerId, WorkerNumber},
    load::{Hello, LoadReport},
    time::Timestamp,
};

/// Mean share of failures of the better half of those in rotation from which on it is no use to put anybody out.
const HOPELESS: f64 = 0.5;

/// Most lost workers that something is remembered of. Beyond it a worker that crashes again and again is let in like any other.
const PAST_LIMIT: usize = 4_096;

impl Record {
    /// Takes from a new report how many calls failed since the last one.
    pub(super) fn take_faults(
        &mut self,
        report: &LoadReport,
        baselines: &mut Baselines,
        now: Timestamp,
    ) {
        // What was before it registered is another balancer's, or another time's.
        let Some(earlier) = &self.report else { return };
        let failed = report.faults_total - earlier.faults_total;
        let ended = report.completed_total - earlier.completed_total;
        self.health.reported(ended.saturating_sub(failed), failed, &mut baselines.own);
        if failed > 0 {
            self.ledger.failed(0, failed, now, &self.counters);
        }
    }

    /// Calls inside it and on their way to it.
    pub(super) fn outstanding(&self) -> u32 {
        self.counters.estimate().saturating_sub(self.ledger.held())
    }

    /// Lets time pass: if it was out it comes back on trial, if it is on trial it may pass it. `all_lost`: nobody should be out.
    pub(super) fn follow_health(
        &mut self,
        all_lost: bool,
        baselines: &mut Baselines,
        now: Timestamp,
    ) -> Option<Change> {
        if all_lost && self.health.is_out() {
            self.health.release(baselines, now);
            return Some(Change::Released);
        }
        let change = self.health.handle_timeout(baselines, now)?;
        self.ledger.unhold(&self.counters);
        if change == Change::OnTrial {
            // One slot looks free: one call at a time tries it.
            let others = self.slots() - 1;
            self.ledger.hold(others, TRIAL, now, &self.counters);
        }
        Some(change)
    }
}

impl Registry {
    /// Takes the end of `count` calls to one worker that one session picked. A worker that has left meanwhile is no error.
    pub fn outcomes(
        &mut self,
        number: WorkerNumber,
        end: CallEnd,
        count: u64,
        client: ClientKey,
        now: Timestamp,
    ) {
        let Some(record) = self.workers.get_mut(&number) else { return };
        self.now = self.now.max(now);
        record.ledger.outcomes(end.was_sent(), count, &record.counters);
        record.health.told(end, count, client, &mut self.baselines.told, now);
        if let CallEnd::Failed(_) = end {
            record.ledger.failed(count, 0, now, &record.counters);
            self.judge(number);
        }
        self.load_changed(number);
    }

    /// Takes what a client tells of the ends of calls that nobody here picked. It says how the worker fares and nothing of its load:
    /// each of these calls is among the calls of others in the worker's own reports.
    ///
    /// An error that is not named may be the refusal of a full worker, which is no failure; so while calls wait in it, errors are not
    /// held against it.
    pub fn hearsay(
        &mut self,
        number: WorkerNumber,
        ends: Hearsay,
        client: ClientKey,
        now: Timestamp,
    ) {
        let Some(record) = self.workers.get_mut(&number) else { return };
        self.now = self.now.max(now);
        let is_full = record.report.is_some_and(|report| report.queued > 0);
        let ends = if is_full { Hearsay { failed: 0, ..ends } } else { ends };
        record.health.heard(ends, client, &mut self.baselines.told, now);
        if ends.failed > 0 {
            self.judge(number);
        }
    }

    /// Puts a worker out if it has failed too much and may be spared.
    pub(super) fn judge(&mut self, number: WorkerNumber) {
        let now = self.now;
        let record = &self.workers[&number];
        let Some(cause) = record.health.accusation(now).filter(|_| record.in_rotation()) else {
            return;
        };
        let spared = !self.is_hopeless(&cause) && self.may_be_spared(number);
        let record = self.workers.get_mut(&number).expect("the caller has just seen it");
        if !spared {
            // To find out takes a look at all workers, too much for every failure.
            return record.health.defer(now + TICK);
        }
        let lasts = record.health.eject(cause, &mut self.baselines, now);
        let worker = record.hello.id.clone();
        self.changed = true;
        self.notice(Notice::Ejected { worker, cause, lasts });
    }

    fn is_hopeless(&self, cause: &Cause) -> bool {
        let baseline = match cause {
            Cause::Reports { .. } => &self.baselines.own,
            Cause::Clients { .. } | Cause::Losses(_) => &self.baselines.told,
        };
        baseline.better_half() > HOPELESS
    }

    /// Whether half of the workers of each of its services stay in without it.
    fn may_be_spared(&self, number: WorkerNumber) -> bool {
        let half_stays = |service: &ServiceName| {
            let members = self
                .workers
                .values()
                .filter(|record| record.in_rotation() && record.hello.services.contains(service));
            let (all, out) = members.fold((0, 0), |(all, out), record| {
                (all + 1, out + usize::from(record.health.is_out()))
            });
            2 * (out + 1) <= all
        };
        self.workers[&number].hello.services.iter().all(half_stays)
    }

    /// Those who are out and listed nevertheless, since others have left and less than half of a service would be in: who is to
    /// come back soonest.
    pub(super) fn pardoned(&self) -> BTreeSet<(ServiceName, WorkerNumber)> {
        let mut pardoned = BTreeSet::new();
        let out = self.workers.values().filter(|record| record.health.is_out());
        let services: BTreeSet<&ServiceName> =
            out.flat_map(|record| &record.hello.services).collect();
        for service in services {
            let mut out = Vec::new();
            let mut listed = 0_usize;
            for (number, record) in &self.workers {
                if !record.in_rotation() || !record.hello.services.contains(service) {
                    continue;
                }
                match record.health.out() {
                    Some((until, _)) => out.push((until, *number)),
                    None => listed += 1,
                }
            }
            out.sort_unstable();
            let missing = out.len().saturating_sub(listed).div_ceil(2);
            pardoned.extend(out[..missing].iter().map(|(_, number)| (service.clone(), *number)));
        }
        pardoned
    }

    /// Whether those who are in fail so much that nobody should be out.
    pub(super) fn is_all_lost(&self) -> bool {
        let Baselines { told, own } = &self.baselines;
        told.better_half() > HOPELESS || own.better_half() > HOPELESS
    }

    /// After time has passed for everybody: tells who has recovered, and forgets what is long ago.
    pub(super) fn follow_health(&mut self, changes: Vec<(WorkerNumber, Change)>) {
        for (number, change) in changes {
            self.changed |= change != Change::Acquitted;
            if change == Change::Acquitted
                && let Some(record) = self.workers.get(&number)
            {
                self.notice(Notice::Recovered { worker: record.hello.id.clone() });
            }
        }
        let now = self.now;
        self.past.retain(|_, (_, past)| !past.is_over(now));
    }

    /// What still counts against a worker that registers.
    pub(super) fn past_of(&mut self, hello: &Hello) -> Option<Past> {
        let (instance, past) = self.past.remove(&hello.id)?;
        Some(if instance == hello.instance { past } else { past.of_another_process() })
    }

    /// Keeps what counts against a worker that was lost. A goodbye clears it: somebody has stopped it, and may have repaired it.
    pub(super) fn remember(&mut self, record: &mut Record, cause: Departure) {
        record.health.leave(&mut self.baselines);
        let id: &WorkerId = &record.hello.id;
        if cause == Departure::Goodbye || self.past.len() >= PAST_LIMIT {
            return;
        }
        let lived = self.now.since(record.joined_at);
        if let Some(past) = record.health.lost(lived, self.now) {
            self.past.insert(id.clone(), (record.hello.instance, past));
        }
    }
}
