//! Several balancers plan, one is obeyed.

use super::*;

fn obeys(generation: u64, ours: bool, host: Host) -> Host {
    let generation = Generation::new(generation).unwrap();
    Host { obeys: Some(Obeyed { generation, ours }), ..host }
}

#[test]
fn a_new_leader_goes_on_above_the_highest_generation_with_what_runs() {
    let mut planner = Planner::new(Settings::default(), at(0));
    let hosts = [obeys(41, false, host("h1", 8, 3)), obeys(40, false, host("h2", 8, 1))];
    assert_eq!(planner.plan(at(4), NOON, &hosts, Manual::default()), None);
    let plan = planner.plan(at(5), NOON, &hosts, Manual::default()).unwrap();
    assert_eq!((plan.generation.number(), plan.desired), (42, 4));
    assert!(plan.hosts.iter().all(|plan| plan.changes.is_empty()));
    assert_eq!(plan.reason.to_string(), "begun with the 4 that run");
}

#[test]
fn whoever_is_not_obeyed_follows_what_runs() {
    let mut planner = Planner::new(Settings::default(), at(0));
    let mut host = host("h1", 8, 4);
    let plan = planner.plan(at(5), NOON, &[host.clone()], Manual::default()).unwrap();
    assert_eq!(plan.generation.number(), 1);
    // The other one leads, has the same generation, and has started two.
    host = obeys(1, false, host);
    host.instances.extend((5..=6).map(|number| Instance {
        number,
        state: InstanceState::Starting,
        outstanding: None,
    }));
    let plan = planner.plan(at(6), NOON, &[host.clone()], Manual::default()).unwrap();
    assert_eq!((plan.generation.number(), plan.desired), (2, 6));
    assert_eq!(plan.reason, Reason::TakenOver);
    assert_eq!(planner.plan(at(7), NOON, &[host.clone()], Manual::default()), None);
    // Now we lead, and are obeyed: what the host still does otherwise is no news.
    host = obeys(2, true, host);
    host.instances.pop();
    assert_eq!(planner.plan(at(8), NOON, &[host], Manual::default()), None);
    assert_eq!(planner.latest().unwrap().desired, 6);
}

/// A scaler that was restarted hears another balancer first. That is no reason to change anything on the other hosts.
#[test]
fn one_host_that_obeys_another_leaves_the_plan_of_the_others() {
    let mut planner = Planner::new(settings(|raw| raw.min = 6), at(0));
    let hosts = ["h1", "h2"].map(|id| obeys(7, false, host(id, 2, 2)));
    let plan = planner.plan(at(5), NOON, &hosts, Manual::default()).unwrap();
    assert_eq!((plan.generation.number(), plan.desired, plan.missing), (8, 6, 2));
    let [mut one, two] = hosts;
    // What is restarted, or was drained by hand, is wanted as before; what its scaler stops is not.
    one.instances[0].state = InstanceState::Draining;
    one.instances[1].state = InstanceState::Stopping;
    // Of the other, one has died and is not reported as running yet.
    let mut two = obeys(8, true, two);
    two.instances.pop();
    let hosts = [obeys(9, false, one), two];
    let paused = mode(Mode::Paused);
    let plan = planner.plan(at(6), NOON, &hosts, paused).unwrap();
    let numbers =
        |host: &HostPlan| host.instances.iter().map(|wanted| wanted.number).collect::<Vec<_>>();
    assert_eq!(plan.hosts.iter().map(numbers).collect::<Vec<_>>(), [vec![1], vec![1, 2]]);
    assert_eq!((plan.generation.number(), plan.desired, plan.missing), (10, 6, 3));
}

/// Whoever says that it obeys the last plan of all leaves none to make; nobody refuses what comes then.
#[test]
fn the_highest_generation_is_the_last_one() {
    let mut planner = Planner::new(Settings::default(), at(0));
    let hosts = [obeys(Generation::LIMIT, false, host("h1", 8, 3))];
    let plan = planner.plan(at(5), NOON, &hosts, Manual::default()).unwrap();
    assert_eq!(Generation::new(plan.generation.number()), Some(plan.generation));
    let last = Generation::new(Generation::LIMIT).unwrap();
    let set = Manual { mode: Mode::Set(1), generation: last }.changed(Mode::Auto);
    assert_eq!(set.generation, last);
}

/// The leader dies together with a host: who comes after it knows what was there.
#[test]
fn a_host_that_is_lost_with_the_leader_is_made_good() {
    let mut planner = Planner::new(Settings::default(), at(0));
    let hosts = ["h1", "h2"].map(|id| obeys(7, false, host(id, 8, 2)));
    planner.plan(at(5), NOON, &hosts, Manual::default()).unwrap();
    assert_eq!(planner.plan(at(6), NOON, &hosts[..1], Manual::default()), None, "the grace");
    let [left, _] = hosts;
    let left = obeys(8, true, left);
    let plan = planner.plan(at(8), NOON, &[left], Manual::default()).unwrap();
    assert_eq!((plan.generation.number(), plan.desired), (9, 4));
    assert_eq!(plan.hosts[0].instances.len(), 4);
}

#[test]
fn the_newest_setting_holds() {
    let first = mode(Mode::Set(3));
    let second = first.changed(Mode::Paused);
    assert_eq!(first.newer(second), second);
    assert_eq!(second.newer(first), second);
    assert_eq!(Manual::default().newer(first).mode, Mode::Set(3));
    // Set at two balancers at once.
    for (one, other) in
        [(Mode::Set(3), Mode::Set(4)), (Mode::Auto, Mode::Set(0)), (Mode::Set(9), Mode::Paused)]
    {
        let (one, other) = (mode(one), mode(other));
        assert_eq!((one.newer(other), other.newer(one)), (other, other));
    }
    assert_eq!(Generation::new(u64::MAX), None);
}

/// What the leader does shows in what runs, sooner or later; whoever follows wants that, and nothing goes when it leads.
#[test]
fn whoever_follows_takes_nobody_away_when_it_leads() {
    let mut planner = Planner::new(settings(|raw| raw.min = 3), at(0));
    let mut host = obeys(7, false, host("h1", 8, 4));
    planner.plan(at(5), NOON, &[host.clone()], Manual::default()).unwrap();
    let mut plans = Vec::new();
    for second in 6..60 {
        // No demand is known, and the least number is no matter: somebody else decides.
        match second {
            10 => host.instances.truncate(2),
            20 => host.instances.push(Instance {
                number: 7,
                state: InstanceState::Starting,
                outstanding: None,
            }),
            _ => {}
        }
        plans.extend(planner.plan(at(second), NOON, &[host.clone()], Manual::default()));
    }
    let counts: Vec<_> = plans.iter().map(|plan| plan.desired).collect();
    assert_eq!((counts, planner.status().held), (vec![2, 3], Held::Following));
    let host = obeys(plans[1].generation.number(), true, host);
    assert_eq!(planner.plan(at(60), NOON, &[host], Manual::default()), None);
    assert_ne!(planner.status().held, Held::Following);
}
