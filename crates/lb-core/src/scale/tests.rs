use super::*;
use crate::id::HostId;

const NOON: TimeOfDay = TimeOfDay::from_minutes(12 * 60);
const AUTO: Manual = Manual { mode: Mode::Auto, generation: Generation::FIRST };

fn seconds(seconds: u64) -> Timestamp {
    Timestamp::at(Duration::from_secs(seconds))
}

/// A host that may run `max`, and on which `running` take calls.
fn host(id: &str, max: u32, running: u32) -> Host {
    let instance =
        |number| Instance { number, state: InstanceState::Registered, outstanding: Some(number) };
    Host {
        id: id.parse::<HostId>().unwrap(),
        bounds: Bounds::new(0, max).unwrap(),
        needs: Needs::default(),
        free_millicores: 0,
        free_memory: 0,
        obeys: None,
        instances: (1..=running).map(instance).collect(),
    }
}

/// Each worker has four slots.
fn demand(workers: u32, outstanding: u32) -> Option<Demand> {
    Some(Demand { outstanding, workers, slots: 4 * workers })
}

#[test]
fn more_demand_than_the_target_adds_in_proportion() {
    let mut planner = Planner::new(Settings::default(), seconds(0));
    let hosts = [host("h1", 8, 2), host("h2", 8, 2)];
    assert_eq!(planner.plan(seconds(0), NOON, &hosts, AUTO), None, "it settles first");
    for second in 0..=20 {
        // 14 of 16 slots, where 11.2 are the target.
        planner.observe(seconds(second), demand(4, 14));
        if let Some(plan) = planner.plan(seconds(second), NOON, &hosts, AUTO) {
            println!("{second} s: {}", plan.explain(seconds(second)));
        }
    }
    assert_eq!(planner.latest().unwrap().desired, 5);
}
