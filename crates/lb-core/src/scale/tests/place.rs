//! Where: room, work, failures, hosts that come and go.

use super::*;

const MEMORY: u64 = 1 << 30;

/// A host with so many free cores, and so much free memory in GiB, where an instance takes one of each.
fn roomy(id: &str, cores: u32, memory: u64) -> Host {
    Host {
        needs: Needs { millicores: 1_000, memory: MEMORY },
        free_millicores: 1_000 * cores,
        free_memory: memory * MEMORY,
        ..host(id, 16, 0)
    }
}

fn set(count: u32, hosts: impl IntoIterator<Item = Host>) -> Cluster {
    let mut cluster = Cluster::new(Settings::default(), hosts);
    cluster.manual = mode(Mode::Set(count));
    cluster.seconds(5, 0);
    cluster
}

fn spread(cluster: &Cluster) -> Vec<usize> {
    cluster.hosts.keys().map(|host| cluster.wanted(host).len()).collect()
}

#[test]
fn instances_are_spread_by_room() {
    assert_eq!(spread(&set(9, [host("h1", 8, 0), host("h2", 8, 0), host("h3", 8, 0)])), [3, 3, 3]);
    assert_eq!(spread(&set(6, [roomy("h1", 8, 8), roomy("h2", 4, 8)])), [4, 2]);
    assert_eq!(spread(&set(6, [roomy("h1", 8, 4), roomy("h2", 8, 8)])), [2, 4]);
}

#[test]
fn a_host_whose_memory_is_too_small_gets_none_and_one_without_cpu_is_the_last() {
    let hosts = [roomy("h1", 8, 0), roomy("h2", 0, 8), roomy("h3", 2, 8)];
    assert_eq!(spread(&set(2, hosts.clone())), [0, 0, 2]);
    assert_eq!(spread(&set(6, hosts)), [0, 3, 3]);
}

#[test]
fn where_no_host_has_room_the_plan_says_so_and_room_is_used_when_it_comes() {
    let mut cluster = set(9, [roomy("h1", 8, 3), host("h2", 2, 0)]);
    assert_eq!((cluster.last().desired, cluster.last().missing), (9, 4));
    let text = cluster.last().explain(at(5));
    assert!(text.contains("\n4 of them have no room on any host\n"), "{text}");
    cluster.hosts.insert("h3".to_owned(), host("h3", 16, 0));
    cluster.seconds(1, 0);
    assert_eq!((cluster.last().missing, cluster.wanted("h3").len()), (0, 4));
}

#[test]
fn the_instance_with_the_least_work_goes() {
    let mut cluster = set(6, [host("h1", 8, 4), host("h2", 8, 2)]);
    cluster.seconds(5, 0);
    let work = |cluster: &mut Cluster, host: &str, work: &[Option<u32>]| {
        let host = cluster.hosts.get_mut(host).unwrap();
        for (instance, work) in host.instances.iter_mut().zip(work) {
            instance.outstanding = *work;
        }
    };
    work(&mut cluster, "h1", &[None, Some(5), Some(3), Some(4)]);
    work(&mut cluster, "h2", &[Some(3), Some(9)]);
    let mut gone = Vec::new();
    for count in (0..6).rev() {
        cluster.manual = cluster.manual.changed(Mode::Set(count));
        cluster.seconds(1, 0);
        for plan in &cluster.last().hosts {
            for change in &plan.changes {
                gone.push(format!("{}/{}: {}", plan.host, change.number, change.why));
            }
        }
    }
    assert_eq!(
        gone,
        [
            // Of two with as little work, the one on the fuller host.
            "h1/3: least work, 3 calls",
            "h2/1: least work, 3 calls",
            "h1/4: least work, 4 calls",
            "h1/2: least work, 5 calls",
            "h2/2: least work, 9 calls",
            "h1/1: its work is not known",
        ]
    );
}

#[test]
fn what_does_not_work_yet_goes_first() {
    let mut cluster = set(4, [host("h1", 8, 2)]);
    cluster.manual = cluster.manual.changed(Mode::Set(3));
    cluster.seconds(1, 0);
    let plan = cluster.last().host(&host_id("h1")).unwrap();
    assert_eq!(plan.changes, [Change { number: 4, action: Action::Stop, why: Why::NotReady }]);
}

#[test]
fn hosts_keep_their_least_and_no_more_than_their_most() {
    let bounded = |id: &str, min, max, running| Host {
        bounds: Bounds::new(min, max).unwrap(),
        ..host(id, max, running)
    };
    let mut cluster =
        Cluster::new(Settings::default(), [bounded("h1", 2, 2, 0), bounded("h2", 1, 8, 6)]);
    cluster.seconds(1_000, 0);
    assert_eq!(spread(&cluster), [2, 1], "the least numbers of the hosts, though one would do");
    cluster.manual = mode(Mode::Set(0));
    cluster.seconds(1, 0);
    assert_eq!(spread(&cluster), [0, 0], "by hand there can be none");
    cluster.manual = cluster.manual.changed(Mode::Set(10));
    cluster.seconds(1, 0);
    assert_eq!(spread(&cluster), [2, 8]);
    cluster.hosts.get_mut("h2").unwrap().bounds = Bounds::new(0, 5).unwrap();
    cluster.seconds(1, 0);
    assert_eq!((spread(&cluster), cluster.last().missing), (vec![2, 5], 3));
}

#[test]
fn what_fails_again_and_again_is_planned_around() {
    let mut cluster = set(4, [host("h1", 3, 0), host("h2", 3, 0)]);
    cluster.seconds(5, 0);
    let fail = |cluster: &mut Cluster, host: &str, number: u32| {
        let host = cluster.hosts.get_mut(host).unwrap();
        for instance in host.instances.iter_mut().filter(|instance| instance.number == number) {
            instance.state = InstanceState::Failed { reason: "exit status 1".into() };
        }
    };
    fail(&mut cluster, "h1", 1);
    cluster.seconds(1, 0);
    assert_eq!(
        cluster.last().explain(at(cluster.now)),
        "plan 2, set to 4: 4 instances, instance 1 of h1 has failed: exit status 1\n\
         h1: stop 1, failed: exit status 1\n\
         h2: start 3, most room here"
    );
    fail(&mut cluster, "h2", 3);
    cluster.seconds(1, 0);
    assert_eq!((cluster.wanted("h1"), cluster.wanted("h2")), (vec![2, 3], vec![1, 2]));
    fail(&mut cluster, "h1", 3);
    cluster.seconds(500, 0);
    assert_eq!(cluster.last().missing, 1, "no number is tried again soon");
    cluster.seconds(FAILED_PAUSE.as_secs() - 500, 0);
    assert_eq!(cluster.last().missing, 0, "but it is in the end");
}

#[test]
fn a_lost_host_is_made_good_and_a_scaler_that_is_restarted_is_not_lost() {
    let mut cluster = set(6, [host("h1", 8, 2), host("h2", 8, 2), host("h3", 8, 2)]);
    cluster.manual = cluster.manual.changed(Mode::Auto);
    cluster.seconds(10, 17);
    let plans = cluster.plans.len();
    let away = cluster.hosts.remove("h3").unwrap();
    cluster.seconds(1, 17);
    cluster.hosts.insert("h3".to_owned(), Host { obeys: None, ..away });
    cluster.seconds(30, 17);
    assert_eq!(cluster.plans.len(), plans, "back within the grace");

    let away = cluster.hosts.remove("h3").unwrap();
    let lost_at = cluster.now;
    while cluster.ready() < 6 {
        cluster.seconds(1, 17);
    }
    assert!(cluster.now - lost_at <= 6, "made good after {} s", cluster.now - lost_at);
    assert_eq!((cluster.wanted("h1").len(), cluster.wanted("h2").len()), (3, 3));
    assert_eq!(cluster.last().reason.to_string(), "host h3 is gone, 2 instances are lost");
    // It comes back with what it had: nobody is sent away for it until the demand says so.
    cluster.hosts.insert("h3".to_owned(), Host { obeys: None, ..away });
    cluster.seconds(1, 17);
    assert_eq!(cluster.last().desired, 8);
    assert_eq!(cluster.last().reason.to_string(), "host h3 has come with 2, kept for now");
    cluster.seconds(400, 17);
    assert_eq!(cluster.last().desired, 7);
}

#[test]
fn nothing_is_made_good_while_it_is_paused() {
    let mut cluster = set(4, [host("h1", 8, 2), host("h2", 8, 2)]);
    cluster.manual = cluster.manual.changed(Mode::Paused);
    cluster.seconds(5, 0);
    cluster.hosts.remove("h2");
    cluster.seconds(100, 0);
    assert_eq!((cluster.last().missing, cluster.wanted("h1").len()), (2, 2));
    cluster.manual = cluster.manual.changed(Mode::Set(4));
    cluster.seconds(1, 0);
    assert_eq!((cluster.last().missing, cluster.wanted("h1").len()), (0, 4));
}

/// An upgrade restarts a worker: it drains and comes back, and that is no reason to start another.
#[test]
fn an_instance_that_restarts_stays_wanted() {
    let mut cluster = set(4, [host("h1", 8, 4)]);
    let plans = cluster.plans.len();
    for state in [InstanceState::Draining, InstanceState::Starting, InstanceState::Registered] {
        cluster.hosts.get_mut("h1").unwrap().instances[1].state = state;
        cluster.seconds(5, 0);
    }
    assert_eq!(cluster.plans.len(), plans);
}

/// A number is free only when its last instance has ended.
#[test]
fn numbers_are_not_used_while_they_drain() {
    let mut planner = Planner::new(Settings::default(), at(0));
    let mut draining = host("h1", 4, 2);
    draining.instances[0].state = InstanceState::Stopping;
    let plan = planner.plan(at(9), NOON, &[draining], mode(Mode::Set(3))).unwrap();
    let numbers: Vec<_> = plan.hosts[0].instances.iter().map(|wanted| wanted.number).collect();
    assert_eq!(numbers, [2, 3, 4]);
}

/// Anybody may claim to have room for everybody: it takes no time that the balancer's other work would miss.
#[test]
fn what_is_asked_of_a_host_is_bounded() {
    let giant = |id| Host { bounds: Bounds::new(u32::MAX, u32::MAX).unwrap(), ..host(id, 0, 0) };
    let mut cluster = Cluster::new(Settings::default(), [giant("h1"), giant("h2")]);
    cluster.seconds(6, 0);
    assert_eq!(spread(&cluster), [HOST_LIMIT as usize; 2]);
    cluster.manual = mode(Mode::Set(1_000));
    cluster.seconds(1, 0);
    assert_eq!(spread(&cluster), [500, 500]);
}
