//! How many: demand, bounds, schedule, hand.

use super::*;

/// Ten hosts with room for ten, the first of them runs `running`.
fn cluster(running: u32, edit: impl Fn(&mut RawSettings)) -> Cluster {
    let host = |place| host(&format!("h{place}"), 10, if place == 0 { running } else { 0 });
    Cluster::new(settings(edit), (0..10).map(host))
}

#[test]
fn more_demand_than_the_target_adds_in_proportion() {
    let mut cluster = cluster(4, |_| ());
    // 0.875 of the slots, where 0.7 are the target.
    cluster.seconds(200, 14);
    assert_eq!(cluster.counts(), [(5, 4), (15, 5)], "it settles, then judges");
    assert_eq!(
        cluster.last().explain(at(15)),
        "plan 2, auto: 4 to 5 instances, demand: 0.88 calls per slot in 15 s, target 0.70; \
         no fewer for want of demand in the next 300 s\n\
         h1: start 1, most room here"
    );
}

#[test]
fn what_is_within_the_tolerance_changes_nothing() {
    for outstanding in [30, 28, 26] {
        let mut cluster = cluster(10, |_| ());
        cluster.seconds(1_000, outstanding);
        let Held::OnTarget(seen) = cluster.planner.status().held else { panic!("{outstanding}") };
        assert!((seen.per_slot - f64::from(outstanding) / 40.0).abs() < 1e-9);
        assert_eq!(cluster.counts(), [(5, 10)], "{outstanding} calls");
    }
}

#[test]
fn one_step_adds_as_many_as_there_are_or_four() {
    let mut cluster = cluster(2, |raw| raw.max = 40);
    // No slot is free, so each step comes when the last one is there and a second more has passed.
    cluster.seconds(200, 1_000);
    assert_eq!(cluster.counts(), [(5, 6), (8, 12), (11, 24), (14, 40)]);
    let (_, step) = &cluster.plans[1];
    assert_eq!(
        step.reason.to_string(),
        "no slot is free: 41.67 calls per slot in 1 s, target 0.70, as many as one step may add"
    );
    let reason = cluster.last().reason.to_string();
    assert!(reason.ends_with(", as many as there may be"), "{reason}");
    assert!(matches!(cluster.planner.status().held, Held::AtLimit(_)));
}

#[test]
fn what_starts_counts() {
    let mut cluster = cluster(4, |_| ());
    cluster.delay = 50;
    // 15 of 16 slots: six are needed, and for fifty seconds the four have no help.
    cluster.seconds(70, 15);
    assert_eq!(cluster.counts(), [(5, 4), (15, 6)]);
}

#[test]
fn a_full_fleet_is_helped_at_once_and_a_full_moment_is_chance() {
    let mut cluster = cluster(10, |_| ());
    cluster.seconds(22, 28);
    cluster.seconds(1, 60);
    cluster.seconds(6, 28);
    cluster.seconds(2, 58);
    assert_eq!(cluster.counts(), [(5, 10)], "a second of it, and 58 calls on 40 slots, are chance");
    cluster.seconds(2, 60);
    assert_eq!(cluster.counts(), [(5, 10), (33, 20)]);
}

#[test]
fn a_queue_that_is_being_served_asks_for_nobody() {
    let mut cluster = cluster(10, |_| ());
    cluster.seconds(15, 28);
    for outstanding in (28..=100).rev().step_by(12) {
        cluster.seconds(1, outstanding);
    }
    cluster.seconds(20, 28);
    assert_eq!(cluster.counts(), [(5, 10)]);
}

#[test]
fn a_small_excess_must_last_for_two_periods() {
    let mut cluster = cluster(10, |_| ());
    cluster.seconds(15, 28);
    cluster.seconds(15, 32);
    cluster.seconds(16, 28);
    assert_eq!(cluster.counts(), [(5, 10)]);
    cluster.seconds(60, 32);
    assert_eq!(cluster.counts(), [(5, 10), (75, 12)]);
}

#[test]
fn fewer_only_when_the_highest_demand_of_the_window_allows_it() {
    let mut cluster = cluster(10, |_| ());
    cluster.seconds(105, 28);
    cluster.seconds(900, 14);
    // The average that ended at 105 s counts for 300 s. The next one still holds a second of many calls; then there is a cooldown.
    assert_eq!(cluster.counts(), [(5, 10), (420, 6), (480, 5)]);
    assert_eq!(
        cluster.last().reason.to_string(),
        "demand: at most 0.58 calls per slot in 300 s, target 0.70"
    );
}

#[test]
fn one_gap_in_what_is_known_keeps_everybody() {
    let mut cluster = cluster(10, |_| ());
    cluster.seconds(290, 14);
    cluster.second(None);
    assert_eq!(cluster.planner.status().demand, None);
    cluster.seconds(299, 14);
    assert_eq!(cluster.counts(), [(5, 10)]);
    cluster.seconds(20, 14);
    assert_eq!(cluster.counts().len(), 2);
    for _ in 0..4_000 {
        cluster.second(None);
    }
    assert_eq!(cluster.counts().len(), 2, "who is not known stays");
    assert_eq!(cluster.planner.status().held, Held::Unknown);
}

#[test]
fn an_observation_does_not_hold_for_ever() {
    let mut planner = Planner::new(Settings::default(), at(0));
    planner.observe(at(0), Some(Demand { outstanding: 1, workers: 4, slots: 16 }));
    let hosts = [host("h1", 8, 4)];
    for minute in 1..60 {
        planner.plan(at(minute * 60), NOON, &hosts, Manual::default());
    }
    assert_eq!(planner.latest().unwrap().desired, 4);
    assert_eq!(planner.status().held, Held::Unknown);
}

#[test]
fn the_cooldown_keeps_steps_down_apart() {
    let mut cluster = cluster(20, |raw| {
        raw.stabilization = Duration::ZERO;
        raw.cooldown = Duration::from_secs(100);
    });
    let mut outstanding = 56;
    for _ in 0..20 {
        cluster.seconds(20, outstanding);
        outstanding -= 2;
    }
    let times: Vec<_> = cluster.counts().iter().map(|(now, _)| *now).collect();
    assert!(
        times.len() > 3 && times[1..].windows(2).all(|pair| pair[1] - pair[0] >= 100),
        "{times:?}"
    );
}

#[test]
fn noise_of_a_fifth_changes_nothing() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut cluster = cluster(10, |_| ());
        for _ in 0..600 {
            cluster.second(Some(28 * rng.u32(80..=120) / 100));
        }
        assert_eq!(cluster.counts(), [(5, 10)], "seed {seed}");
    }
}

#[test]
fn bounds_hold() {
    let mut cluster = cluster(3, |raw| (raw.min, raw.max) = (6, 8));
    cluster.seconds(600, 0);
    assert_eq!(cluster.counts(), [(5, 6)]);
    assert_eq!(cluster.last().reason.to_string(), "min is 6");
    cluster.seconds(600, 300);
    assert_eq!(cluster.last().desired, 8);
}

#[test]
fn workers_that_nobody_scales_do_their_part() {
    let mut planner = Planner::new(Settings::default(), at(0));
    let hosts = [host("h1", 8, 2)];
    for second in 0..30 {
        // Eight workers, two of them from scalers: ten are needed.
        planner.observe(at(second), Some(Demand { outstanding: 28, workers: 8, slots: 32 }));
        planner.plan(at(second), NOON, &hosts, Manual::default());
    }
    assert_eq!(planner.latest().unwrap().desired, 4);
}

#[test]
fn a_schedule_lifts_the_least_number_over_midnight() {
    let night = Window {
        from: "22:00".parse().unwrap(),
        to: "06:00".parse().unwrap(),
        min: Some(8),
        max: None,
    };
    let mut cluster = cluster(2, |raw| raw.schedule = vec![night]);
    let mut by_time = Vec::new();
    for minutes in (0..24 * 60).map(|minute| (12 * 60 + minute) % (24 * 60)) {
        cluster.time = TimeOfDay::from_minutes(minutes);
        cluster.seconds(60, 2);
        by_time.push((cluster.time.to_string(), cluster.last().desired));
    }
    by_time.dedup_by_key(|(_, count)| *count);
    let by_time: Vec<_> = by_time.iter().map(|(time, count)| (time.as_str(), *count)).collect();
    // In the morning the demand of the last minutes decides, as ever.
    assert_eq!(by_time, [("12:00", 2), ("12:05", 1), ("22:00", 8), ("06:00", 1)]);
    let reasons: Vec<_> = cluster.plans.iter().map(|(_, plan)| plan.reason.to_string()).collect();
    assert!(reasons.contains(&"min is 8 from 22:00 to 06:00".to_owned()), "{reasons:?}");
}

#[test]
fn settings_that_contradict_each_other_are_refused_with_both() {
    let error = |edit: &dyn Fn(&mut RawSettings)| {
        let mut raw = RawSettings::default();
        edit(&mut raw);
        Settings::parse(raw).unwrap_err().to_string()
    };
    let window = |from: &str, to: &str, min, max| Window {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        min,
        max,
    };
    assert_eq!(
        error(&|raw| (raw.min, raw.max) = (5, 3)),
        "min is 5 and max is 3: expected min to be at most max"
    );
    assert_eq!(
        error(&|raw| {
            raw.max = 6;
            raw.schedule = vec![window("08:00", "18:00", Some(8), None)];
        }),
        "schedule 08:00 to 18:00: min is 8 and max is 6: expected min to be at most max"
    );
    assert_eq!(
        error(&|raw| {
            raw.schedule = vec![
                window("08:00", "18:00", Some(8), None),
                window("17:59", "20:00", None, Some(4)),
            ];
        }),
        "schedule 17:59 to 20:00: min is 8 and max is 4: expected min to be at most max"
    );
    assert_eq!(
        error(&|raw| raw.schedule = vec![window("08:00", "08:00", Some(8), None)]),
        "schedule is 08:00 to 08:00: expected two different times"
    );
    assert_eq!(error(&|raw| raw.min = 0), "min is 0: expected 1 to 10000");
    assert_eq!(
        error(&|raw| raw.target = f64::NAN),
        "target is NaN: expected a number from 0.05 to 10"
    );
    assert_eq!(error(&|raw| raw.sync = Duration::ZERO), "sync is 0 s: expected 1 to 600 s");
}

#[test]
fn somebody_sets_the_number_pauses_and_resumes() {
    let mut cluster = cluster(10, |raw| (raw.min, raw.max) = (4, 20));
    cluster.seconds(10, 28);
    for (manual, reason, count) in [
        (Mode::Set(2), "set to 2 by hand", 2),
        (Mode::Set(15), "set to 15 by hand", 15),
        (Mode::Set(99), "set to 99 by hand, max is 20", 20),
        (Mode::Paused, "paused by hand", 20),
    ] {
        cluster.manual = cluster.manual.changed(manual);
        cluster.seconds(1, 28);
        assert_eq!(
            (cluster.last().reason.to_string().as_str(), cluster.last().desired),
            (reason, count)
        );
    }
    let plans = cluster.plans.len();
    cluster.seconds(1_000, 200);
    assert_eq!(cluster.plans.len(), plans, "paused");
    cluster.seconds(400, 28);
    cluster.manual = cluster.manual.changed(Mode::Auto);
    cluster.seconds(1, 28);
    assert!(matches!(cluster.last().reason, Reason::Resumed | Reason::LessDemand { .. }));
    cluster.seconds(400, 28);
    assert_eq!(cluster.last().desired, 10);
}
