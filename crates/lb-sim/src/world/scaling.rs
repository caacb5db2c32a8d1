//! Scalers: they start and stop workers as the plan says, and tell what runs.

use std::time::Duration;

use lb_core::{
    id::HostId,
    registry::TICK,
    scale::{
        Bounds, Demand, Host, Instance, InstanceState, Manual, Needs, Obeyed, Plan, Planner,
        TimeOfDay,
    },
    time::Timestamp,
};

use super::World;
use crate::{
    agenda::Event,
    balancer::SERVICE,
    scaling::{Pilot, Scaling},
    worker::Life,
};

/// How long it takes until a host without power is noticed to be gone.
const NOTICED: Duration = Duration::from_secs(2);

/// All scalers, and who plans for them.
#[derive(Debug)]
pub(super) struct Scaler {
    scaling: Scaling,
    /// `None`: the clairvoyant one.
    planner: Option<Planner>,
    hosts: Vec<SimHost>,
    /// Which of the workers are being started, by the number of the order.
    starting: Vec<Option<u32>>,
    orders: u32,
    /// Who should run.
    wanted: Vec<bool>,
    count: u32,
}

#[derive(Debug)]
struct SimHost {
    id: HostId,
    lost_at: Option<Timestamp>,
    obeys: Option<Obeyed>,
}

impl Scaler {
    pub(super) fn new(scaling: &Scaling, places: usize) -> Self {
        let host = |number| SimHost {
            id: format!("h{number}").parse().expect("a sound id"),
            lost_at: None,
            obeys: None,
        };
        let planner = match &scaling.pilot {
            Pilot::Planner(settings) => Some(Planner::new(settings.clone(), Timestamp::default())),
            Pilot::Clairvoyant(_) => None,
        };
        let mut scaler = Self {
            scaling: scaling.clone(),
            planner,
            hosts: (1..=scaling.hosts).map(host).collect(),
            starting: vec![None; places],
            orders: 0,
            wanted: vec![false; places],
            count: scaling.running,
        };
        for place in scaler.in_turn().take(scaling.running as usize) {
            scaler.wanted[place] = true;
        }
        scaler
    }

    pub(super) fn runs(&self, place: usize) -> bool {
        self.wanted[place]
    }

    fn places_of_a_host(&self) -> usize {
        self.wanted.len() / self.hosts.len()
    }

    /// All places, a host after the other in turn.
    fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (hosts, each) = (self.hosts.len(), self.places_of_a_host());
        (0..hosts * each).map(move |turn| turn % hosts * each + turn / hosts)
    }

    fn obey(&mut self, plan: &Plan) {
        let each = self.places_of_a_host();
        self.wanted.fill(false);
        self.count = plan.desired;
        for (host, first) in self.hosts.iter_mut().zip((0..).step_by(each)) {
            let Some(of_host) = plan.host(&host.id) else { continue };
            host.obeys = Some(Obeyed { generation: plan.generation, ours: true });
            for wanted in &of_host.instances {
                self.wanted[first + wanted.number as usize - 1] = true;
            }
        }
    }
}

impl World<'_> {
    /// Looks, plans, and lets the scalers do what is planned.
    pub(super) fn scale(&mut self) {
        let Some(mut scaler) = self.scaler.take() else { return };
        let since_start = self.now.since(Timestamp::default());
        match (&mut scaler.planner, &scaler.scaling.pilot) {
            (Some(_), _) => self.plan(&mut scaler),
            (None, Pilot::Clairvoyant(staffing)) => {
                let ahead = scaler.scaling.start_most + TICK;
                let count = self.scenario.foreseen(*staffing, since_start, ahead);
                scaler.count = count;
                scaler.wanted.fill(false);
                for place in scaler.in_turn().take(count as usize) {
                    scaler.wanted[place] = true;
                }
            }
            (None, Pilot::Planner(_)) => unreachable!("a planner was made for it"),
        }
        self.carry_out_plan(&mut scaler);
        self.note(&scaler, since_start);
        self.scaler = Some(scaler);
    }

    fn plan(&mut self, scaler: &mut Scaler) {
        let balancer = &self.balancers[0];
        if !balancer.alive {
            return;
        }
        let demand = balancer.snapshot.service(SERVICE).ok().map(|view| {
            view.workers().iter().fold(
                Demand { outstanding: 0, workers: 0, slots: 0 },
                |demand, worker| Demand {
                    outstanding: demand.outstanding + worker.estimate(),
                    workers: demand.workers + 1,
                    slots: demand.slots
                        + u32::from(self.workers[balancer.worker(worker.number) as usize].slots),
                },
            )
        });
        let there = |host: &&SimHost| host.lost_at.is_none_or(|at| self.now.since(at) < NOTICED);
        let each = scaler.places_of_a_host();
        let hosts = scaler.hosts.iter().zip((0..).step_by(each)).filter(|(host, _)| there(host));
        let hosts: Vec<_> =
            hosts.map(|(host, first)| self.host(scaler, host, first..first + each)).collect();
        let planner = scaler.planner.as_mut().expect("checked by the caller");
        planner.observe(self.now, demand);
        let noon = TimeOfDay::from_minutes(12 * 60);
        if let Some(plan) = planner.plan(self.now, noon, &hosts, Manual::default()) {
            scaler.obey(&plan);
        }
    }

    fn host(&self, scaler: &Scaler, host: &SimHost, places: std::ops::Range<usize>) -> Host {
        let first = places.start;
        let most = u32::try_from(places.len()).expect("a fleet is small");
        let instance = |place: usize| {
            let worker = &self.workers[place];
            let state = match worker.life {
                _ if scaler.starting[place].is_some() => InstanceState::Starting,
                Life::Up | Life::Frozen if worker.draining => InstanceState::Stopping,
                Life::Up | Life::Frozen if worker.links[0].number.is_some() => {
                    InstanceState::Registered
                }
                Life::Up | Life::Frozen => InstanceState::Starting,
                Life::Unborn | Life::Crashed | Life::Left => return None,
            };
            let number = u32::try_from(place - first + 1).expect("a fleet is small");
            Some(Instance { number, state, outstanding: Some(worker.truth()) })
        };
        Host {
            id: host.id.clone(),
            bounds: Bounds::new(0, most).expect("none is the least"),
            needs: Needs::default(),
            free_millicores: 0,
            free_memory: 0,
            obeys: host.obeys,
            instances: places.filter_map(instance).collect(),
        }
    }

    fn carry_out_plan(&mut self, scaler: &mut Scaler) {
        let each = scaler.places_of_a_host();
        for place in 0..scaler.wanted.len() {
            if scaler.hosts[place / each].lost_at.is_some() {
                continue;
            }
            let life = self.workers[place].life;
            let is_starting = scaler.starting[place].is_some();
            match (scaler.wanted[place], life) {
                (true, Life::Unborn | Life::Crashed | Life::Left) if !is_starting => {
                    scaler.orders += 1;
                    scaler.starting[place] = Some(scaler.orders);
                    let Scaling { start_least, start_most, .. } = scaler.scaling;
                    let spread = start_most.saturating_sub(start_least);
                    let takes = start_least + spread.mul_f64(self.chance.f64());
                    let worker = u32::try_from(place).expect("a fleet is small");
                    let event = Event::Started { worker, order: scaler.orders };
                    self.agenda.plan(self.now + takes, event);
                }
                // Who waits for the answer to its hello is sent away when it has it.
                (false, Life::Up)
                    if !self.workers[place].draining
                        && self.workers[place].links[0].number.is_some() =>
                {
                    self.drain(u32::try_from(place).expect("a fleet is small"));
                }
                (false, _) => scaler.starting[place] = None,
                (true, _) => {}
            }
        }
    }

    pub(super) fn started(&mut self, worker: u32, order: u32) {
        let place = worker as usize;
        let Some(scaler) = &mut self.scaler else { return };
        if scaler.starting[place] == Some(order) {
            scaler.starting[place] = None;
            let warm_at = self.now + scaler.scaling.cold;
            self.start_worker(place);
            self.workers[place].warm_at = warm_at;
        }
    }

    /// The balancer that plans is a new process: it knows nothing of its last life but what scalers tell.
    pub(super) fn plan_anew(&mut self) {
        let Some(scaler) = &mut self.scaler else { return };
        if let Pilot::Planner(settings) = &scaler.scaling.pilot {
            scaler.planner = Some(Planner::new(settings.clone(), self.now));
        }
        for obeyed in scaler.hosts.iter_mut().filter_map(|host| host.obeys.as_mut()) {
            obeyed.ours = false;
        }
    }

    /// A host loses its power, with all that runs there.
    pub(super) fn lose_host(&mut self, host: u32) {
        let Some(scaler) = &mut self.scaler else { return };
        let each = scaler.places_of_a_host();
        scaler.hosts[host as usize].lost_at = Some(self.now);
        scaler.hosts[host as usize].obeys = None;
        let places = host as usize * each..(host as usize + 1) * each;
        scaler.starting[places.clone()].fill(None);
        for place in places {
            self.crash(u32::try_from(place).expect("a fleet is small"));
        }
    }

    pub(super) fn return_host(&mut self, host: u32) {
        if let Some(scaler) = &mut self.scaler {
            scaler.hosts[host as usize].lost_at = None;
        }
    }

    fn note(&mut self, scaler: &Scaler, since_start: Duration) {
        if since_start > self.scenario.length {
            return;
        }
        let there = |place: &usize| {
            scaler.starting[*place].is_some()
                || matches!(self.workers[*place].life, Life::Up | Life::Frozen)
        };
        let paid = (0..self.workers.len()).filter(there).count();
        let serves = |worker: &&crate::worker::SimWorker| {
            worker.life == Life::Up && !worker.draining && worker.links[0].number.is_some()
        };
        let ready = self.workers.iter().filter(serves).count();
        self.tally.worker_seconds += paid as f64 * TICK.as_secs_f64();
        self.tally.wanted.push((since_start, scaler.count));
        self.tally.ready.push(u32::try_from(ready).expect("a fleet is small"));
    }
}
