//! A made-up cluster that obeys the planner: what is started registers after a while, what is not wanted ends.

use std::collections::BTreeMap;

use super::*;
use crate::id::HostId;

mod anything;
mod count;
mod place;
mod takeover;

const NOON: TimeOfDay = TimeOfDay::from_minutes(12 * 60);
const SLOTS: u32 = 4;

fn at(seconds: u64) -> Timestamp {
    Timestamp::at(Duration::from_secs(seconds))
}

fn host_id(id: &str) -> HostId {
    id.parse().unwrap()
}

/// A host that may run `max`, and on which `running` take calls.
fn host(id: &str, max: u32, running: u32) -> Host {
    let instance =
        |number| Instance { number, state: InstanceState::Registered, outstanding: Some(0) };
    Host {
        id: host_id(id),
        bounds: Bounds::new(0, max).unwrap(),
        needs: Needs::default(),
        free_millicores: 0,
        free_memory: 0,
        obeys: None,
        instances: (1..=running).map(instance).collect(),
    }
}

fn settings(edit: impl Fn(&mut RawSettings)) -> Settings {
    let mut raw = RawSettings::default();
    edit(&mut raw);
    Settings::parse(raw).unwrap()
}

fn mode(mode: Mode) -> Manual {
    Manual::default().changed(mode)
}

/// Hosts that do what the plan says, and time.
struct Cluster {
    planner: Planner,
    hosts: BTreeMap<String, Host>,
    manual: Manual,
    /// Seconds since the start.
    now: u64,
    time: TimeOfDay,
    /// Seconds from the start of an instance until it takes calls.
    delay: u64,
    /// Instances that start, and when they are ready.
    starting: Vec<(String, u32, u64)>,
    /// All plans, with the seconds at which they were made.
    plans: Vec<(u64, Plan)>,
}

impl Cluster {
    fn new(settings: Settings, hosts: impl IntoIterator<Item = Host>) -> Self {
        Self {
            planner: Planner::new(settings, at(0)),
            hosts: hosts.into_iter().map(|host| (host.id.to_string(), host)).collect(),
            manual: Manual::default(),
            now: 0,
            time: NOON,
            delay: 2,
            starting: Vec::new(),
            plans: Vec::new(),
        }
    }

    /// Instances that take calls.
    fn ready(&self) -> u32 {
        let instances = self.hosts.values().flat_map(|host| &host.instances);
        let ready = instances.filter(|instance| instance.state == InstanceState::Registered);
        u32::try_from(ready.count()).unwrap()
    }

    /// A second passes, with so many calls outstanding; `None`: nobody knows.
    fn second(&mut self, outstanding: Option<u32>) {
        self.now += 1;
        let now = self.now;
        for (host, number, _) in self.starting.extract_if(.., |(_, _, ready)| *ready <= now) {
            let instances =
                self.hosts.get_mut(&host).into_iter().flat_map(|host| &mut host.instances);
            for instance in instances.filter(|instance| instance.number == number) {
                instance.state = InstanceState::Registered;
            }
        }
        let workers = self.ready();
        let demand =
            outstanding.map(|outstanding| Demand { outstanding, workers, slots: SLOTS * workers });
        self.planner.observe(at(now), demand);
        let hosts: Vec<_> = self.hosts.values().cloned().collect();
        if let Some(plan) = self.planner.plan(at(now), self.time, &hosts, self.manual) {
            self.obey(&plan);
            self.plans.push((now, plan));
        }
    }

    fn obey(&mut self, plan: &Plan) {
        for (id, host) in &mut self.hosts {
            let Some(wanted) = plan.host(&host.id) else { continue };
            let wants = |number| wanted.instances.iter().any(|wanted| wanted.number == number);
            host.obeys = Some(Obeyed { generation: plan.generation, ours: true });
            host.instances.retain(|instance| wants(instance.number));
            for Wanted { number, .. } in &wanted.instances {
                if host.instances.iter().all(|instance| instance.number != *number) {
                    let state = InstanceState::Starting;
                    host.instances.push(Instance { number: *number, state, outstanding: None });
                    self.starting.push((id.clone(), *number, self.now + self.delay));
                }
            }
        }
    }

    fn seconds(&mut self, seconds: u64, outstanding: u32) {
        (0..seconds).for_each(|_| self.second(Some(outstanding)));
    }

    /// How many were wanted, by second, whenever that changed.
    fn counts(&self) -> Vec<(u64, u32)> {
        let mut counts: Vec<_> =
            self.plans.iter().map(|(now, plan)| (*now, plan.desired)).collect();
        counts.dedup_by_key(|(_, count)| *count);
        counts
    }

    fn last(&self) -> &Plan {
        &self.plans.last().unwrap().1
    }

    /// What should run on a host by the last plan.
    fn wanted(&self, host: &str) -> Vec<u32> {
        let plan = self.last().host(&host_id(host));
        plan.map_or(Vec::new(), |plan| plan.instances.iter().map(|wanted| wanted.number).collect())
    }
}
