//! What workers and balancers say to each other.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use lb_core::{
    estimator::Expected,
    id::WorkerNumber,
    load::{Hello, WorkerState},
    registry::{Departure, Notice, Output},
};

use super::World;
use crate::{
    agenda::{Event, Mail},
    balancer::SERVICE,
    scenario::Reports,
    worker::{Life, Link},
};

/// How long a worker takes to connect again to a balancer that came back.
const RECONNECT: Duration = Duration::from_millis(200);

/// A balancer's message to a worker.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Accepted { balancer: u32, incarnation: u32, number: WorkerNumber },
    State(WorkerState),
    DrainAck { balancer: u32, number: WorkerNumber, expected: Expected },
    Disconnect { balancer: u32, number: WorkerNumber },
}

impl World<'_> {
    pub(super) fn start_worker(&mut self, place: usize) {
        self.workers[place].start(self.now);
        self.connect_all(place);
    }

    /// Says hello wherever the worker has no stream.
    pub(super) fn connect_all(&mut self, place: usize) {
        for balancer in 0..self.scenario.balancers {
            self.connect(place, balancer);
        }
    }

    pub(super) fn connect(&mut self, place: usize, balancer: u32) {
        let process = &self.balancers[balancer as usize];
        let link = &mut self.workers[place].links[balancer as usize];
        if !process.alive || link.number.is_some() || link.connecting {
            return;
        }
        let allowance = self.scenario.reports.allowance();
        *link = Link {
            incarnation: process.incarnation,
            connecting: true,
            allowance,
            ..Link::default()
        };
        let worker = u32::try_from(place).expect("a fleet is small");
        self.post(balancer, process.incarnation, Mail::Hello { worker });
    }

    fn post(&mut self, balancer: u32, incarnation: u32, mail: Mail) {
        self.mail.push_back((balancer, incarnation, mail));
        self.agenda.plan(self.now + self.scenario.network_delay, Event::Mail);
    }

    /// Something in the worker changed: tells the balancers that do not know it, at once or as soon as the interval allows.
    pub(super) fn worker_changed(&mut self, place: u32, knows: Option<u32>) {
        let Reports::OnChange { .. } = self.scenario.reports else { return };
        for balancer in (0..self.scenario.balancers).filter(|&balancer| Some(balancer) != knows) {
            let link = &mut self.workers[place as usize].links[balancer as usize];
            let earliest = link.allowance.next();
            if earliest <= self.now {
                self.report_to(place, balancer);
            } else if !link.has_news {
                link.has_news = true;
                self.agenda.plan(earliest, Event::ReportDue { worker: place, balancer });
            }
        }
    }

    pub(super) fn report_due(&mut self, place: u32, balancer: u32) {
        let link = &self.workers[place as usize].links[balancer as usize];
        let earliest = link.allowance.next();
        if link.next_heartbeat <= self.now || link.has_news && earliest <= self.now {
            self.report_to(place, balancer);
        }
    }

    pub(super) fn report_to_all(&mut self, place: u32) {
        for balancer in 0..self.scenario.balancers {
            self.report_to(place, balancer);
        }
    }

    fn report_to(&mut self, place: u32, balancer: u32) {
        let worker = &mut self.workers[place as usize];
        if worker.life != Life::Up {
            return;
        }
        worker.account(self.now);
        let report = worker.report(balancer as usize);
        let link = &mut worker.links[balancer as usize];
        let Some(number) = link.number else { return };
        link.allowance.spend(self.now);
        link.has_news = false;
        // Reports on change do not move the heartbeats.
        if link.next_heartbeat <= self.now {
            link.next_heartbeat = self.now + self.scenario.reports.pause();
            let event = Event::ReportDue { worker: place, balancer };
            self.agenda.plan(link.next_heartbeat, event);
        }
        let incarnation = link.incarnation;
        self.post(balancer, incarnation, Mail::Report { number, report });
    }

    /// The first report to a balancer is due now. The second comes at random, so that workers which started together do not report
    /// together for ever.
    fn begin_reports(&mut self, place: u32, balancer: u32) {
        let pause = self.scenario.reports.pause().mul_f64(self.chance.f64());
        let next_heartbeat = self.now + pause;
        self.workers[place as usize].links[balancer as usize].next_heartbeat = next_heartbeat;
        self.agenda.plan(next_heartbeat, Event::ReportDue { worker: place, balancer });
        self.report_to(place, balancer);
    }

    pub(super) fn close_streams(&mut self, place: u32, cause: Departure) {
        for balancer in 0..self.scenario.balancers {
            let link = &mut self.workers[place as usize].links[balancer as usize];
            if let Some(number) = link.number.take() {
                let incarnation = link.incarnation;
                self.post(balancer, incarnation, Mail::Closed { number, cause });
            }
        }
    }

    pub(super) fn mail_arrives(&mut self) {
        let (balancer, incarnation, mail) = self.mail.pop_front().expect("one event, one letter");
        let process = &mut self.balancers[balancer as usize];
        if !process.alive || process.incarnation != incarnation {
            return;
        }
        match mail {
            Mail::Hello { worker } => self.hello_arrives(balancer, incarnation, worker),
            Mail::Report { number, report } => {
                let calls_per_slot = f64::from(report.in_flight) / f64::from(report.slots);
                // A report of a registration that is over is no error: it crossed the order to go.
                if process.registry.report(number, report, self.now).is_ok() {
                    process.note_reported(number, calls_per_slot);
                }
            }
            Mail::Closed { number, cause } => process.registry.closed(number, cause),
        }
        self.carry_out(balancer);
    }

    fn hello_arrives(&mut self, balancer: u32, incarnation: u32, worker: u32) {
        let sim = &self.workers[worker as usize];
        let port = u16::try_from(worker + 1).expect("a fleet is small");
        let hello = Hello {
            id: format!("w{worker:05}").parse().expect("a sound id"),
            instance: sim.instance,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            services: vec![SERVICE.parse().expect("a sound name")],
            slots: sim.slots,
            zone: String::new(),
            labels: BTreeMap::new(),
            version: String::new(),
        };
        let process = &mut self.balancers[balancer as usize];
        let number = process.registry.hello(hello, self.now).expect("ids are not shared");
        process.joined(number, worker);
        self.order(worker, Order::Accepted { balancer, incarnation, number });
    }

    fn order(&mut self, worker: u32, order: Order) {
        self.orders.push_back((worker, self.workers[worker as usize].instance, order));
        self.agenda.plan(self.now + self.scenario.network_delay, Event::Order);
    }

    /// Publishes, and does what the registry says.
    pub(super) fn carry_out(&mut self, balancer: u32) {
        for output in self.balancers[balancer as usize].settle() {
            let worker = |number| self.balancers[balancer as usize].worker(number);
            match output {
                Output::Order { worker: number, state } => {
                    self.order(worker(number), Order::State(state));
                }
                Output::DrainAck { worker: number, expected } => {
                    self.order(worker(number), Order::DrainAck { balancer, number, expected });
                }
                Output::Disconnect { worker: number, .. } => {
                    self.order(worker(number), Order::Disconnect { balancer, number });
                }
                Output::Notice(Notice::Ejected { .. }) => self.tally.ejections += 1,
                Output::Notice(_) => {}
            }
        }
    }

    pub(super) fn order_arrives(&mut self) {
        let (place, instance, order) = self.orders.pop_front().expect("one event, one order");
        let worker = &mut self.workers[place as usize];
        if worker.instance != instance || !matches!(worker.life, Life::Up | Life::Frozen) {
            return;
        }
        match order {
            Order::Accepted { balancer, incarnation, number } => {
                let link = &mut worker.links[balancer as usize];
                if link.incarnation == incarnation {
                    link.number = Some(number);
                    link.connecting = false;
                    self.begin_reports(place, balancer);
                }
            }
            Order::State(state) => {
                worker.draining = state == WorkerState::Draining;
                self.report_to_all(place);
            }
            Order::DrainAck { balancer, number, expected } => {
                let link = &mut worker.links[balancer as usize];
                if link.number == Some(number) {
                    link.expected = Some(expected);
                }
            }
            Order::Disconnect { balancer, number } => {
                let link = &mut worker.links[balancer as usize];
                if link.number == Some(number) {
                    link.number = None;
                    if worker.life == Life::Up && !worker.draining {
                        self.connect(place as usize, balancer);
                    }
                }
            }
        }
        self.leave_if_drained(place);
    }

    pub(super) fn leave_if_drained(&mut self, place: u32) {
        let worker = &mut self.workers[place as usize];
        if worker.life == Life::Up && worker.may_leave() {
            worker.life = Life::Left;
            self.close_streams(place, Departure::Goodbye);
        }
    }

    /// All workers that are up find a balancer that has come back.
    pub(super) fn balancer_returns(&mut self, balancer: u32) {
        self.agenda.plan(self.now + RECONNECT, Event::Reconnect { balancer });
    }

    pub(super) fn reconnect(&mut self, balancer: u32) {
        for place in 0..self.workers.len() {
            if self.workers[place].life == Life::Up && !self.workers[place].draining {
                self.connect(place, balancer);
            }
        }
    }
}
