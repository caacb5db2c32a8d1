//! The way of a call: picked, on its way, queued, run, answered.

use std::time::Duration;

use lb_core::{
    health::{CallEnd, Failure},
    id::WorkerNumber,
    time::Timestamp,
    token::TokenClass,
};

use super::{Call, End, World};
use crate::{
    agenda::Event,
    balancer::SERVICE,
    scenario::{Arrivals, Calls},
    service::lasting,
    worker::{CallKey, CallToken, Life},
};

/// How often a client sends a call at most; as `lb-client` does it.
const ATTEMPTS: u32 = 3;

impl World<'_> {
    pub(super) fn arrival(&mut self, client: u32) {
        if self.now > self.end {
            return;
        }
        if let Some(rate) = self.scenario.rate(self.now.since(Timestamp::default())) {
            let gap = -(1.0 - self.demand.f64()).ln() / rate;
            self.agenda.plan(self.now + lasting(gap), Event::Arrival { client });
        }
        let work = self.scenario.service.draw(&mut self.demand);
        // Clients of an open scenario are many: each call is another one's.
        let home = match self.scenario.arrivals {
            Arrivals::Open { .. } => self.demand.u32(..),
            Arrivals::Closed { .. } => client,
        };
        self.tally.offered += 1;
        self.open_calls += 1;
        let caller = home % self.scenario.clients;
        self.budgets[caller as usize].deposit();
        let call = Call {
            work,
            started: self.now,
            client,
            caller,
            attempts: 0,
            worker: 0,
            token: None,
            second: None,
        };
        let key = self.keep(call);
        self.pick_and_send(key, home);
    }

    fn pick_and_send(&mut self, key: CallKey, home: u32) {
        match self.pick(self.calls[key as usize], home) {
            Some(picked) => {
                self.calls[key as usize] = picked;
                self.send(key);
            }
            None => self.agenda.plan(self.now, Event::Answer { call: key, end: End::Refused }),
        }
    }

    pub(super) fn again(&mut self, key: CallKey) {
        let home = self.calls[key as usize].caller;
        self.pick_and_send(key, home);
    }

    /// Asks one of the balancers that live, or else the last list that a client was given.
    fn pick(&mut self, call: Call, home: u32) -> Option<Call> {
        let alive = self.balancers.iter().filter(|balancer| balancer.alive).count();
        if alive == 0 {
            return self.pick_from_last_list(call, home);
        }
        let nth = home as usize % alive;
        let mut living = (0..).zip(&self.balancers).filter(|(_, balancer)| balancer.alive);
        let (place, balancer) = living.nth(nth).expect("counted");
        let class = match self.scenario.calls {
            Calls::OneShot => TokenClass::Picked,
            Calls::Session => TokenClass::Session,
        };
        let picked = balancer.pick(class, self.now, &self.workers, &mut self.chance).ok()?;
        let incarnation = balancer.incarnation;
        let token = CallToken { balancer: place, incarnation, number: picked.number, class };
        let token = matches!(self.rule, crate::Rule::Core(_)).then_some(token);
        Some(Call { worker: picked.worker, token, second: picked.second, ..call })
    }

    fn pick_from_last_list(&mut self, call: Call, home: u32) -> Option<Call> {
        let balancer = &self.balancers[home as usize % self.balancers.len()];
        let workers = balancer.snapshot.service(SERVICE).ok()?.workers();
        let drawn = self.chance.choice(workers)?;
        Some(Call { worker: balancer.worker(drawn.number), ..call })
    }

    fn keep(&mut self, call: Call) -> CallKey {
        if let Some(key) = self.free_calls.pop() {
            self.calls[key as usize] = call;
            return key;
        }
        self.calls.push(call);
        u32::try_from(self.calls.len() - 1).expect("fewer than 2^32 calls at once")
    }

    fn send(&mut self, key: CallKey) {
        self.calls[key as usize].attempts += 1;
        self.workers[self.calls[key as usize].worker as usize].on_the_way += 1;
        self.agenda.plan(self.now + self.scenario.network_delay, Event::Reach { call: key });
    }

    pub(super) fn reach(&mut self, key: CallKey) {
        let place = self.calls[key as usize].worker;
        let worker = &mut self.workers[place as usize];
        worker.on_the_way -= 1;
        match worker.life {
            Life::Up => self.enter(place, key),
            Life::Frozen => self.at_the_door.push((place, key)),
            Life::Left | Life::Crashed | Life::Unborn => {
                self.tally.refused_after_drain += u64::from(
                    worker.life == Life::Left && self.calls[key as usize].token.is_some(),
                );
                self.agenda.plan(
                    self.now + self.scenario.network_delay,
                    Event::Answer { call: key, end: End::Refused },
                );
            }
        }
    }

    pub(super) fn enter(&mut self, place: u32, key: CallKey) {
        let token = self.calls[key as usize].token;
        let worker = &mut self.workers[place as usize];
        worker.account(self.now);
        let knows = worker.saw(token);
        if worker.is_full(self.scenario.queue) {
            worker.refused(token);
            return self.reply(place, key, End::Full);
        }
        if worker.sick > 0 && self.chance.u8(..100) < worker.sick {
            worker.failed(token);
            return self.reply(place, key, End::Failed);
        }
        worker.queue.push_back(key);
        self.fill_slots(place);
        self.worker_changed(place, knows);
    }

    /// Answers a call that never got a slot.
    fn reply(&mut self, place: u32, call: CallKey, end: End) {
        let at = self.now + self.scenario.network_delay;
        self.agenda.plan(at, Event::Answer { call, end });
        self.worker_changed(place, None);
    }

    pub(super) fn fill_slots(&mut self, place: u32) {
        let worker = &mut self.workers[place as usize];
        while worker.has_free_slot() {
            let Some(call) = worker.queue.pop_front() else { break };
            let finish = self.now + worker.takes(self.calls[call as usize].work, self.now);
            worker.running.push((call, finish));
            let epoch = worker.epoch;
            self.agenda.plan(finish, Event::Finish { worker: place, epoch, call });
        }
    }

    pub(super) fn finish_call(&mut self, place: u32, epoch: u32, key: CallKey) {
        let worker = &mut self.workers[place as usize];
        if worker.epoch != epoch {
            return;
        }
        worker.account(self.now);
        let running = worker.running.iter().position(|(running, _)| *running == key);
        worker.running.swap_remove(running.expect("what finishes was running"));
        worker.ended(self.calls[key as usize].token);
        self.agenda.plan(
            self.now + self.scenario.network_delay,
            Event::Answer { call: key, end: End::Done },
        );
        self.fill_slots(place);
        self.worker_changed(place, None);
        self.leave_if_drained(place);
    }

    pub(super) fn answer(&mut self, key: CallKey, end: End) {
        let call = self.calls[key as usize];
        let broken = self.broken[call.caller as usize];
        let end = if broken && end == End::Done { End::Failed } else { end };
        self.tell_outcome(&call, end);
        if end == End::Full && self.tries_again(key) {
            return;
        }
        if let (End::Refused, Some((worker, number))) = (end, call.second) {
            self.tally.retried += 1;
            return self.take_second(key, worker, number);
        }
        self.open_calls -= 1;
        self.last_end = self.now;
        self.free_calls.push(key);
        let measured = call.started.since(Timestamp::default()) >= self.scenario.warm_up;
        match end {
            End::Done => {
                let second = self.now.since(Timestamp::default()).as_secs();
                self.tally.done(self.now.since(call.started), measured, second);
            }
            End::Failed if broken => self.tally.failed_by_client += 1,
            End::Full => self.tally.turned_away += 1,
            End::Refused | End::Broken | End::Failed => self.tally.failed += 1,
        }
        if let Arrivals::Closed { think, .. } = self.scenario.arrivals {
            // A client that is refused does not hammer.
            let pause = if end == End::Done { think } else { think + Duration::from_millis(100) };
            self.agenda.plan(self.now + pause, Event::Arrival { client: call.client });
        }
    }

    /// A call that was turned away has not run: its client tries the second choice at once, and then, after a while, whoever is
    /// best by then.
    fn tries_again(&mut self, key: CallKey) -> bool {
        let call = self.calls[key as usize];
        let may = self.scenario.retries && call.attempts < ATTEMPTS;
        if !may || !self.budgets[call.caller as usize].withdraw() {
            return false;
        }
        self.tally.retried += 1;
        if let Some((worker, number)) = call.second {
            self.take_second(key, worker, number);
            return true;
        }
        // As the worker hints: when about half of its queue has emptied.
        let queue = f64::from(self.scenario.queue.unwrap_or(1).max(1));
        let slots = f64::from(self.workers[call.worker as usize].slots);
        let hint = self.scenario.service.mean() * queue / slots / 2.0;
        let pause = Duration::from_secs_f64(hint * (1.0 + self.chance.f64()));
        self.agenda.plan(self.now + pause, Event::Again { call: key });
        true
    }

    fn take_second(&mut self, key: CallKey, worker: u32, number: WorkerNumber) {
        let call = self.calls[key as usize];
        let token =
            call.token.map(|token| CallToken { number, class: TokenClass::Second, ..token });
        self.calls[key as usize] = Call { worker, token, second: None, ..call };
        self.send(key);
    }

    fn tell_outcome(&mut self, call: &Call, end: End) {
        let Some(token) = call.token.filter(|token| token.class == TokenClass::Session) else {
            return;
        };
        let CallToken { balancer, incarnation, number: WorkerNumber(number), .. } = token;
        let end = match end {
            End::Done | End::Full => CallEnd::Answered,
            End::Refused => CallEnd::Failed(Failure::Unreachable),
            End::Broken | End::Failed => CallEnd::Failed(Failure::Unavailable),
        };
        let event = Event::Outcome { balancer, incarnation, number, end, client: call.caller };
        self.agenda.plan(self.now + self.scenario.outcome_delay, event);
    }
}
