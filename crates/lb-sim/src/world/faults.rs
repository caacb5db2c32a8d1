//! What goes wrong, or is done to the fleet.

use lb_core::registry::Departure;

use super::{End, World};
use crate::{
    agenda::Event,
    balancer::SimBalancer,
    scenario::FaultKind,
    worker::{Life, Link},
};

impl World<'_> {
    pub(super) fn fault(&mut self, place: u32, begins: bool) {
        let fault = self.scenario.faults[place as usize];
        let target = fault.target;
        match (fault.kind, begins) {
            (FaultKind::Crash, true) => self.crash(target),
            (FaultKind::Freeze, true) => self.freeze(target),
            (FaultKind::Freeze, false) => self.thaw(target),
            (FaultKind::Drain, true) => self.drain(target),
            (FaultKind::Join, true) | (FaultKind::Crash | FaultKind::Drain, false) => {
                if !matches!(self.workers[target as usize].life, Life::Up | Life::Frozen) {
                    self.start_worker(target as usize);
                }
            }
            (FaultKind::Join, false) => {}
            (FaultKind::Sick(percent), true) => self.workers[target as usize].sick = percent,
            (FaultKind::Sick(_), false) => self.workers[target as usize].sick = 0,
            (FaultKind::BrokenClient, begins) => self.broken[target as usize] = begins,
            (FaultKind::BalancerLoss, true) => self.lose_balancer(target),
            (FaultKind::BalancerLoss, false) => self.restart_balancer(target),
            (FaultKind::HostLoss, true) => self.lose_host(target),
            (FaultKind::HostLoss, false) => self.return_host(target),
        }
    }

    pub(super) fn crash(&mut self, place: u32) {
        let worker = &mut self.workers[place as usize];
        if !matches!(worker.life, Life::Up | Life::Frozen) {
            return;
        }
        worker.account(self.now);
        worker.life = Life::Crashed;
        let running = worker.stop_running().into_iter().map(|(call, _)| call);
        let mut lost: Vec<_> = running.chain(std::mem::take(&mut worker.queue)).collect();
        lost.extend(self.at_the_door.extract_if(.., |(at, _)| *at == place).map(|(_, call)| call));
        for call in lost {
            let at = self.now + self.scenario.network_delay;
            self.agenda.plan(at, Event::Answer { call, end: End::Broken });
        }
        self.close_streams(place, Departure::Broken);
    }

    fn freeze(&mut self, place: u32) {
        let worker = &mut self.workers[place as usize];
        if worker.life == Life::Up {
            worker.account(self.now);
            worker.life = Life::Frozen;
            worker.frozen_at = self.now;
            worker.epoch += 1;
        }
    }

    fn thaw(&mut self, place: u32) {
        let worker = &mut self.workers[place as usize];
        if worker.life != Life::Frozen {
            return;
        }
        worker.account(self.now);
        worker.life = Life::Up;
        for (call, finish) in &mut worker.running {
            *finish = self.now + finish.since(worker.frozen_at);
            let epoch = worker.epoch;
            self.agenda.plan(*finish, Event::Finish { worker: place, epoch, call: *call });
        }
        self.fill_slots(place);
        let waiting: Vec<_> = self.at_the_door.extract_if(.., |(at, _)| *at == place).collect();
        for (place, call) in waiting {
            self.enter(place, call);
        }
        if !self.workers[place as usize].draining {
            self.connect_all(place as usize);
        }
        self.report_to_all(place);
        self.leave_if_drained(place);
    }

    /// The worker is stopped in good order: it says so, finishes what it has and what is on its way, and goes.
    pub(super) fn drain(&mut self, place: u32) {
        let worker = &mut self.workers[place as usize];
        if worker.life == Life::Up {
            worker.draining = true;
            self.report_to_all(place);
            self.leave_if_drained(place);
        }
    }

    fn lose_balancer(&mut self, balancer: u32) {
        self.balancers[balancer as usize].alive = false;
        for worker in &mut self.workers {
            worker.links[balancer as usize] = Link::default();
        }
        for place in 0..self.scenario.fleet.len() {
            self.leave_if_drained(u32::try_from(place).expect("a fleet is small"));
        }
    }

    /// A new process that knows nothing; clients go on with the list they have until it answers.
    fn restart_balancer(&mut self, balancer: u32) {
        let old = &self.balancers[balancer as usize];
        if old.alive {
            return;
        }
        self.balancers[balancer as usize] =
            SimBalancer::new(self.rule, old.incarnation + 1, self.scenario.reports);
        if balancer == 0 {
            self.plan_anew();
        }
        self.balancer_returns(balancer);
    }
}
