//! The way of a call: picked, on its way, queued, run, answered.

use std::time::Duration;

use lb_core::{id::WorkerNumber, token::TokenClass};

use super::{Call, End, World};
use crate::{
    agenda::Event,
    balancer::SERVICE,
    scenario::{Arrivals, Calls},
    worker::{CallKey, CallToken, Life},
};

impl World<'_> {
    pub(super) fn arrival(&mut self, client: u32) {
        if self.now > self.end {
            return;
        }
        if let Arrivals::Open { rate } = self.scenario.arrivals {
            let gap = -(1.0 - self.demand.f64()).ln() / rate;
            self.agenda.plan(self.now + Duration::from_secs_f64(gap), Event::Arrival { client });
        }
        let work = self.scenario.service.draw(&mut self.demand);
        // Clients of an open scenario are many: each call is another one's.
        let home = match self.scenario.arrivals {
            Arrivals::Open { .. } => self.demand.u32(..),
            Arrivals::Closed { .. } => client,
        };
        self.tally.offered += 1;
        self.open_calls += 1;
        let call = Call { work, started: self.now, client, worker: 0, token: None, second: None };
        let picked = self.pick(call, home);
        let key = self.keep(picked.unwrap_or(call));
        match picked {
            Some(_) => self.send(key),
            None => self.agenda.plan(self.now, Event::Answer { call: key, end: End::Refused }),
        }
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
        let worker = &mut self.workers[place as usize];
        worker.account(self.now);
        let knows = worker.saw(self.calls[key as usize].token);
        worker.queue.push_back(key);
        self.fill_slots(place);
        self.worker_changed(place, knows);
    }

    pub(super) fn fill_slots(&mut self, place: u32) {
        let worker = &mut self.workers[place as usize];
        while worker.has_free_slot() {
            let Some(call) = worker.queue.pop_front() else { break };
            let finish = self.now + worker.takes(self.calls[call as usize].work);
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
        self.tell_outcome(&call, end);
        if let (End::Refused, Some((worker, number))) = (end, call.second) {
            self.tally.retried += 1;
            let token =
                call.token.map(|token| CallToken { number, class: TokenClass::Second, ..token });
            self.calls[key as usize] = Call { worker, token, second: None, ..call };
            return self.send(key);
        }
        self.open_calls -= 1;
        self.last_end = self.now;
        self.free_calls.push(key);
        let measured =
            call.started.since(lb_core::time::Timestamp::default()) >= self.scenario.warm_up;
        match end {
            End::Done => self.tally.done(self.now.since(call.started), measured),
            End::Refused | End::Broken => self.tally.failed += 1,
        }
        if let Arrivals::Closed { think, .. } = self.scenario.arrivals {
            // A client that is refused does not hammer.
            let pause = if end == End::Done { think } else { think + Duration::from_millis(100) };
            self.agenda.plan(self.now + pause, Event::Arrival { client: call.client });
        }
    }

    fn tell_outcome(&mut self, call: &Call, end: End) {
        let Some(token) = call.token.filter(|token| token.class == TokenClass::Session) else {
            return;
        };
        let CallToken { balancer, incarnation, number: WorkerNumber(number), .. } = token;
        let sent = end != End::Refused;
        let event = Event::Outcome { balancer, incarnation, number, sent };
        self.agenda.plan(self.now + self.scenario.outcome_delay, event);
    }

    pub(super) fn outcome(
        &mut self,
        balancer: u32,
        incarnation: u32,
        number: WorkerNumber,
        sent: bool,
    ) {
        let process = &mut self.balancers[balancer as usize];
        if process.alive && process.incarnation == incarnation {
            process.registry.outcomes(number, sent, 1);
        }
    }
}
