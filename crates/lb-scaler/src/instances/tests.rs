use super::*;

fn found(state: FoundState) -> Found {
    Found { state, worker: Some("box-1".parse().unwrap()), restarts: 0 }
}

fn dead() -> Found {
    found(FoundState::Dead { cause: "exit status: 1".into() })
}

fn running() -> Found {
    found(FoundState::Running)
}

/// A host whose instances do what they are told, and a clock.
struct Host {
    instances: Instances,
    found: BTreeMap<u32, Found>,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        Self { instances: Instances::default(), found: BTreeMap::new(), now: Instant::now() }
    }

    fn reconcile(&mut self, wanted: &[u32]) -> Vec<Action> {
        let wanted = wanted.iter().copied().collect();
        self.instances.reconcile(&wanted, &self.found, self.now)
    }

    fn reported(&self, wanted: &[u32], number: u32) -> Option<(Doing, String)> {
        let wanted = wanted.iter().copied().collect();
        let all = self.instances.report(&wanted, &self.found, self.now);
        all.get(&number).map(|reported| (reported.doing, reported.reason.clone()))
    }

    fn pass(&mut self, duration: Duration) {
        self.now += duration;
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_missing_is_started_and_what_is_too_much_is_stopped() {
    let mut host = Host::new();
    host.found.insert(7, running());
    assert_eq!(host.reconcile(&[1, 2]), [Action::Stop(7), Action::Start(1), Action::Start(2)]);
    assert_eq!(host.reported(&[1, 2], 1).unwrap().0, Doing::Starting);
    assert_eq!(host.reported(&[1, 2], 7).unwrap().0, Doing::Draining);
    // Nothing is said twice in a row; after a while it is said again.
    assert_eq!(host.reconcile(&[1, 2]), []);
    host.found = BTreeMap::from([(1, running()), (2, running()), (7, found(FoundState::Stopping))]);
    assert_eq!(host.reconcile(&[1, 2]), []);
    assert_eq!(host.reported(&[1, 2], 1).unwrap().0, Doing::Running);
    host.found.remove(&7);
    assert_eq!(host.reconcile(&[1, 2]), []);
    assert_eq!(host.reported(&[1, 2], 7), None);
    host.pass(AGAIN);
    assert_eq!(host.reconcile(&[1]), [Action::Stop(2)]);
    host.pass(AGAIN);
    assert_eq!(host.reconcile(&[1]), [Action::Stop(2)], "it came to nothing");
}

#[test]
fn an_order_that_came_to_nothing_is_given_again() {
    let mut host = Host::new();
    assert_eq!(host.reconcile(&[1]), [Action::Start(1)]);
    host.pass(AGAIN / 2);
    assert_eq!(host.reconcile(&[1]), []);
    host.pass(AGAIN / 2);
    assert_eq!(host.reconcile(&[1]), [Action::Start(1)]);
    assert_eq!(host.instances.notice(), None, "that is no death");
}

#[test]
fn the_dead_are_started_again_after_a_pause_that_grows() {
    let mut host = Host::new();
    host.reconcile(&[1]);
    for pause in [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4] {
        host.found.insert(1, running());
        assert_eq!(host.reconcile(&[1]), []);
        host.found.insert(1, dead());
        assert_eq!(host.reconcile(&[1]), []);
        let cause = "exit status: 1".to_owned();
        assert_eq!(host.instances.notice(), Some(Notice::Died { number: 1, cause }));
        let (doing, reason) = host.reported(&[1], 1).unwrap();
        assert_eq!(doing, Doing::Starting);
        assert!(reason.starts_with("it ended (exit status: 1); again in"), "{reason}");
        host.pass(pause * 9 / 10);
        assert_eq!(host.reconcile(&[1]), []);
        host.pass(pause / 10);
        assert_eq!(host.reconcile(&[1]), [Action::Start(1)]);
    }
}

#[test]
fn a_crash_loop_is_given_up_and_tried_again_much_later() {
    let mut host = Host::new();
    for _ in 0..DEATHS {
        // It dies at once, before anybody has seen it run.
        assert_eq!(host.reconcile(&[1]), [Action::Start(1)]);
        host.found.insert(1, dead());
        assert_eq!(host.reconcile(&[1]), []);
        host.pass(LONGEST_PAUSE / 4);
    }
    let (doing, reason) = host.reported(&[1], 1).unwrap();
    assert_eq!(doing, Doing::Failed);
    assert_eq!(reason, "it ended 5 times within 120 s: exit status: 1");
    assert_eq!(host.reconcile(&[1]), []);
    host.pass(GIVEN_UP_FOR);
    assert_eq!(host.reconcile(&[1]), [Action::Start(1)]);
    // Who is wanted no more is forgotten.
    host.reconcile(&[]);
    assert_eq!(host.reported(&[], 1), None);
}

#[test]
fn what_was_given_up_is_told_when_the_plan_goes_round_it() {
    let mut host = Host::new();
    let [action] = host.reconcile(&[1])[..] else { panic!("one action") };
    host.instances.failed(action, &ExecutorError::Hopeless("no unit".into()), host.now);
    // As systemd tells of one that has failed.
    host.found.insert(1, dead());
    assert_eq!(host.reconcile(&[2]), [Action::Start(2)]);
    let failed = Some((Doing::Failed, "no unit".to_owned()));
    assert_eq!(host.reported(&[2], 1), failed);
    host.found.remove(&1);
    host.pass(TOLD_FOR / 2);
    host.reconcile(&[2]);
    assert_eq!(host.reported(&[2], 1), failed);
    host.pass(TOLD_FOR / 2);
    host.reconcile(&[2]);
    assert_eq!(host.reported(&[2], 1), None);
    assert!(TOLD_FOR < FAILED_PAUSE && TOLD_FOR < GIVEN_UP_FOR);
}

#[test]
fn what_is_wanted_again_is_tried_again() {
    let mut host = Host::new();
    let [action] = host.reconcile(&[1])[..] else { panic!("one action") };
    host.instances.failed(action, &ExecutorError::Hopeless("no unit".into()), host.now);
    host.reconcile(&[]);
    assert_eq!(host.reconcile(&[1]), [Action::Start(1)]);
    assert_eq!(host.reported(&[1], 1).unwrap().0, Doing::Starting);
}

#[test]
fn few_deaths_in_a_long_time_are_no_crash_loop() {
    let mut host = Host::new();
    for _ in 0..3 * DEATHS {
        host.found.insert(1, running());
        host.reconcile(&[1]);
        host.found.insert(1, dead());
        host.reconcile(&[1]);
        host.pass(DEATHS_WITHIN / 2);
        assert_eq!(host.reconcile(&[1]), [Action::Start(1)]);
    }
}

#[test]
fn restarts_by_systemd_are_deaths() {
    let mut host = Host::new();
    let restarted = |restarts| Found { restarts, ..running() };
    // Those before it was wanted here do not count.
    host.found.insert(1, restarted(40));
    assert_eq!(host.reconcile(&[1]), []);
    for restarts in 41..40 + u32::try_from(DEATHS).unwrap() {
        host.found.insert(1, restarted(restarts));
        assert_eq!(host.reconcile(&[1]), []);
        host.pass(SECOND);
    }
    assert_eq!(host.reported(&[1], 1).unwrap().0, Doing::Running);
    host.found.insert(1, restarted(45));
    host.reconcile(&[1]);
    assert_eq!(host.reported(&[1], 1).unwrap().0, Doing::Failed);
    host.pass(SECOND);
    assert_eq!(host.reconcile(&[1]), [Action::Stop(1)], "it would go on for ever");
}

#[test]
fn what_cannot_be_started_is_told_at_once_or_after_some_attempts() {
    let mut host = Host::new();
    let [action] = host.reconcile(&[1])[..] else { panic!("one action") };
    let missing = ExecutorError::Hopeless("there is no unit".into());
    host.instances.failed(action, &missing, host.now);
    assert_eq!(host.reported(&[1], 1), Some((Doing::Failed, "there is no unit".into())));
    let gone = ExecutorError::Unavailable("no bus".into());
    for _ in 0..DEATHS {
        let [action] = host.reconcile(&[2])[..] else { panic!("one action") };
        host.instances.failed(action, &gone, host.now);
        host.pass(LONGEST_PAUSE / 4);
    }
    let (doing, reason) = host.reported(&[2], 2).unwrap();
    assert_eq!((doing, reason.ends_with(": no bus")), (Doing::Failed, true), "{reason}");
}

#[test]
fn an_end_from_before_is_no_death() {
    let mut host = Host::new();
    host.found.insert(1, dead());
    assert_eq!(host.reconcile(&[1]), [Action::Start(1)]);
    assert_eq!(host.instances.notice(), None);
}

#[test]
fn one_that_still_stops_is_started_when_it_has_ended() {
    let mut host = Host::new();
    host.found.insert(1, found(FoundState::Stopping));
    assert_eq!(host.reconcile(&[1]), []);
    assert_eq!(host.reported(&[1], 1).unwrap().0, Doing::Starting);
    host.found.remove(&1);
    assert_eq!(host.reconcile(&[1]), [Action::Start(1)]);
    let wanted = BTreeSet::from([1]);
    assert!(host.instances.is_moving(&wanted, &host.found));
    host.found.insert(1, running());
    assert!(!host.instances.is_moving(&wanted, &host.found));
}

/// One that an operator restarts is wanted as before; balancers are not to take it for one that is sent away.
#[test]
fn what_is_restarted_by_somebody_else_starts() {
    let mut host = Host::new();
    host.found.insert(1, running());
    host.reconcile(&[1]);
    host.found.insert(1, found(FoundState::Stopping));
    let (doing, reason) = host.reported(&[1], 1).unwrap();
    assert_eq!((doing, reason.as_str()), (Doing::Starting, "stops, and is started again"));
    assert_eq!(host.reported(&[], 1).unwrap().0, Doing::Draining);
}

#[test]
fn only_what_starts_is_looked_at_often() {
    let mut host = Host::new();
    let is_moving = |host: &Host, wanted: &[u32]| {
        host.instances.is_moving(&wanted.iter().copied().collect(), &host.found)
    };
    assert!(is_moving(&host, &[1]));
    host.found.insert(1, found(FoundState::Starting));
    assert!(is_moving(&host, &[1]));
    // A unit of one's own may not say who it is.
    host.found.insert(1, Found { worker: None, ..running() });
    assert!(!is_moving(&host, &[1]));
    host.found.insert(1, found(FoundState::Stopping));
    assert!(!is_moving(&host, &[]));
}

/// It was stopped as it should be, however it ended: that is no death when it is wanted again.
#[test]
fn what_failed_while_it_was_stopped_begins_anew() {
    let mut host = Host::new();
    host.found.insert(1, running());
    host.reconcile(&[1]);
    assert_eq!(host.reconcile(&[]), [Action::Stop(1)]);
    host.found.insert(1, dead());
    assert_eq!(host.reconcile(&[]), []);
    assert_eq!(host.reconcile(&[1]), [Action::Start(1)]);
    assert_eq!(host.instances.notice(), None);
}
