use super::*;

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::at(Duration::from_millis(milliseconds))
}

const CALLER: ClientKey = ClientKey(1);
const UNAVAILABLE: CallEnd = CallEnd::Failed(Failure::Unavailable);

/// A worker among three others, and what all are compared with.
fn worker() -> (Health, Baselines) {
    let mut baselines = Baselines::default();
    for _ in 0..3 {
        // Its own part stays counted, as if it were there.
        Health::new(None, &mut baselines, at(0));
    }
    (Health::new(None, &mut baselines, at(0)), baselines)
}

fn fail(
    health: &mut Health,
    baselines: &mut Baselines,
    count: u64,
    now: Timestamp,
) -> Option<Duration> {
    health.told(UNAVAILABLE, count, CALLER, &mut baselines.told, now);
    health.accusation(now).map(|cause| health.eject(cause, baselines, now))
}

#[test]
fn each_ejection_is_twice_as_long_up_to_a_minute_and_good_conduct_is_rewarded() {
    let (mut health, mut baselines) = worker();
    assert_eq!(fail(&mut health, &mut baselines, 2, at(0)), None);
    let mut now = at(0);
    let mut lasted = Vec::new();
    for _ in 0..8 {
        let lasts = fail(&mut health, &mut baselines, 1, now).expect("one failure is enough");
        lasted.push(lasts.as_secs());
        assert_eq!(health.handle_timeout(&mut baselines, now), None);
        now = now + lasts;
        assert_eq!(health.handle_timeout(&mut baselines, now), Some(Change::OnTrial));
    }
    assert_eq!(lasted, [1, 2, 4, 8, 16, 32, 60, 60]);
    health.told(CallEnd::Answered, 13, CALLER, &mut baselines.told, now);
    assert_eq!(health.handle_timeout(&mut baselines, now), Some(Change::Acquitted));
    for _ in 0..7 {
        now = now + FORGIVE;
        assert_eq!(health.handle_timeout(&mut baselines, now), None);
    }
    assert_eq!(fail(&mut health, &mut baselines, 3, now), Some(FIRST_EJECTION * 2));
    assert_eq!(health.ejections(), 9);
}

#[test]
fn whoever_is_not_called_on_trial_passes_it_by_time() {
    let (mut health, mut baselines) = worker();
    let lasts = fail(&mut health, &mut baselines, 3, at(0)).unwrap();
    let cause = health.out().unwrap().1;
    assert_eq!(
        cause.to_string(),
        "3 of 3 calls failed, the only client says, the last: UNAVAILABLE"
    );
    let back = at(0) + lasts;
    assert_eq!(health.handle_timeout(&mut baselines, back), Some(Change::OnTrial));
    assert_eq!(health.trial(), Some(cause));
    assert_eq!(health.handle_timeout(&mut baselines, back), None);
    assert_eq!(health.handle_timeout(&mut baselines, back + TRIAL), Some(Change::Acquitted));
}

#[test]
fn its_own_reports_convict_unless_a_client_is_content() {
    let (mut health, mut baselines) = worker();
    health.reported(0, 10, &mut baselines.own);
    let cause = health.accusation(at(0)).unwrap();
    assert_eq!(cause.to_string(), "10 of 10 calls failed, as it reports itself");
    health.told(CallEnd::Answered, 1, CALLER, &mut baselines.told, at(0));
    assert_eq!(health.accusation(at(0)), None);
}

#[test]
fn cancelled_calls_and_those_that_were_never_sent_say_nothing() {
    let (mut health, mut baselines) = worker();
    for end in [CallEnd::Unsent, CallEnd::Abandoned] {
        health.told(end, 1_000, CALLER, &mut baselines.told, at(0));
        assert_eq!(health.accusation(at(0)), None);
    }
}

#[test]
fn a_worker_that_is_lost_again_and_again_is_out_longer_and_longer() {
    let (_, mut baselines) = worker();
    let (mut past, mut now, mut waits) = (None, at(0), Vec::new());
    for _ in 0..5 {
        let health = Health::new(past, &mut baselines, now);
        waits.push(health.out().map_or(0, |(until, _)| until.since(now).as_secs()));
        past = health.lost(Duration::from_secs(2), now);
    }
    assert_eq!(waits, [0, 0, 1, 2, 4]);
    assert!(!past.unwrap().is_over(now));
    now = now + Duration::from_secs(3_600);
    assert!(past.unwrap().is_over(now));
    let long_lived = Health::new(None, &mut baselines, now);
    assert!(long_lived.lost(SHORT_LIVED, now).is_none(), "an accident is forgotten at once");
}
