//! Whatever happens.

use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any},
    prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::*;

const NAMES: [&str; 4] = ["h1", "h2", "h3", "h4"];

fn state() -> impl Strategy<Value = InstanceState> {
    prop_oneof![
        3 => Just(InstanceState::Registered),
        2 => Just(InstanceState::Starting),
        1 => Just(InstanceState::Draining),
        1 => Just(InstanceState::Stopping),
        1 => Just(InstanceState::Failed { reason: "it died".into() }),
    ]
}

fn any_host(id: &'static str) -> impl Strategy<Value = Host> {
    let instance = (1u32..9, state(), option::of(0u32..50));
    let obeys = option::of((0u64..20, any::<bool>()));
    (vec(instance, 0..6), 0u32..4, 0u32..7, 0u64..9, 0u32..9, obeys).prop_map(
        move |(instances, min, more, memory, cores, obeys)| {
            let mut seen = Vec::new();
            let instances = instances.into_iter().filter(|(number, ..)| {
                let is_new = !seen.contains(number);
                seen.push(*number);
                is_new
            });
            Host {
                bounds: Bounds::new(min, min + more).unwrap(),
                needs: Needs { millicores: 1, memory: 1 },
                free_millicores: cores,
                free_memory: memory,
                obeys: obeys.map(|(generation, ours)| Obeyed {
                    generation: Generation::new(generation).unwrap(),
                    ours,
                }),
                instances: instances
                    .map(|(number, state, outstanding)| Instance { number, state, outstanding })
                    .collect(),
                ..host(id, 0, 0)
            }
        },
    )
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![4 => Just(Mode::Auto), 1 => (0u32..20).prop_map(Mode::Set), 1 => Just(Mode::Paused)]
}

#[derive(Debug, Clone)]
struct Moment {
    passes: u64,
    demand: Option<Demand>,
    minutes: u16,
    mode: Mode,
    hosts: Vec<Host>,
}

fn moment() -> impl Strategy<Value = Moment> {
    let demand = (0u32..2_000, 0u32..20, 0u32..9).prop_map(|(outstanding, workers, slots)| {
        Some(Demand { outstanding, workers, slots: workers * slots })
    });
    let demand = prop_oneof![4 => demand, 1 => Just(None)];
    let hosts = NAMES.map(|name| prop_oneof![3 => any_host(name).prop_map(Some), 1 => Just(None)]);
    (0u64..400, demand, 0u16..1_440, any_mode(), hosts).prop_map(
        |(passes, demand, minutes, mode, hosts)| {
            let hosts = hosts.into_iter().flatten().collect();
            Moment { passes, demand, minutes, mode, hosts }
        },
    )
}

fn planner() -> Planner {
    let day = Window {
        from: "20:00".parse().unwrap(),
        to: "04:00".parse().unwrap(),
        min: Some(5),
        max: Some(9),
    };
    let settings = settings(|raw| {
        (raw.min, raw.max) = (2, 14);
        raw.schedule = vec![day];
    });
    Planner::new(settings, at(0))
}

proptest! {
    #[test]
    fn plans_keep_all_bounds_or_say_what_lacks(moments in vec(moment(), 1..40)) {
        let (mut planner, mut mirrored) = (planner(), planner());
        let (mut now, mut generation) = (0, Generation::default());
        for Moment { passes, demand, minutes, mode, hosts } in moments {
            now += passes;
            let manual = Manual { mode, ..Manual::default() };
            let time = TimeOfDay::from_minutes(minutes);
            planner.observe(at(now), demand);
            mirrored.observe(at(now), demand);
            let plan = planner.plan(at(now), time, &hosts, manual);
            let reversed: Vec<_> = hosts.iter().rev().cloned().collect();
            prop_assert_eq!(&plan, &mirrored.plan(at(now), time, &reversed, manual), "order matters");
            let Some(plan) = plan else { continue };

            prop_assert!(plan.generation > generation);
            generation = plan.generation;
            let outranked = hosts.iter().filter_map(|host| host.obeys).all(|obeyed| obeyed.generation < generation);
            prop_assert!(outranked, "it is above all that is obeyed");
            prop_assert!(!plan.explain(at(now)).is_empty());

            let placed: usize = plan.hosts.iter().map(|plan| plan.instances.len()).sum();
            let placed = u32::try_from(placed).unwrap();
            if mode == Mode::Paused || planner.status().held == Held::Following {
                continue;
            }
            for host in &hosts {
                let wanted = &plan.host(&host.id).expect("every host has a plan").instances;
                prop_assert!(wanted.len() <= host.bounds.max() as usize, "{:?}", host.id);
                let failed = |number| host.instances.iter().any(|instance| {
                    instance.number == number && matches!(instance.state, InstanceState::Failed { .. })
                });
                prop_assert!(!wanted.iter().any(|wanted| failed(wanted.number)));
            }
            let gone = plan.hosts.len() > hosts.len();
            prop_assert!(plan.missing == plan.desired.saturating_sub(placed));
            prop_assert!(gone || placed <= plan.desired);
            let (bounds, _) = planner.settings().bounds(time);
            match mode {
                Mode::Set(count) => prop_assert_eq!(plan.desired, count.min(14)),
                _ => prop_assert!((bounds.min()..=bounds.max()).contains(&plan.desired)),
            }
            if plan.missing > 0 {
                // Nobody who has room is left out.
                for host in &hosts {
                    let wanted = plan.host(&host.id).unwrap().instances.len();
                    let taken = host.instances.len() + wanted;
                    let full = taken >= host.bounds.max() as usize || host.free_memory <= wanted as u64;
                    prop_assert!(full || !planner.fleet_is_without_failures(&host.id), "{:?}", host);
                }
            }
        }
    }

    /// With the demand unknown nothing goes for want of demand, whatever was seen before.
    #[test]
    fn nothing_goes_while_the_demand_is_unknown(seen in vec((0u32..200, 0u64..30), 0..60), running in 2u32..12) {
        let mut planner = planner();
        let hosts = [host("h1", 14, running)];
        let mut now = 0;
        for (outstanding, passes) in seen {
            now += passes;
            planner.observe(at(now), Some(Demand { outstanding, workers: running, slots: 4 * running }));
            planner.plan(at(now), NOON, &hosts, Manual::default());
        }
        let before = planner.latest().map(|plan| plan.desired);
        for _ in 0..100 {
            now += 7;
            planner.observe(at(now), None);
            if let Some(plan) = planner.plan(at(now), NOON, &hosts, Manual::default()) {
                prop_assert!(Some(plan.desired) >= before);
            }
        }
    }
}

impl Planner {
    fn fleet_is_without_failures(&self, host: &HostId) -> bool {
        self.fleet.seat_of(host).is_none_or(|seat| !seat.has_failures())
    }
}
