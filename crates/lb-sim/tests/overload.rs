//! Twice as many calls as the fleet can answer, for half a minute.

use std::time::Duration;

use lb_core::policy::PolicyKind;
use lb_sim::{Calls, Phase, Rule, Scenario, Tally, run_once};

/// 20 s at just what ten workers of four slots can answer (800 calls a second), 30 s at twice that, 20 s at half.
fn run(calls: Calls, retries: bool) -> Tally {
    let mut scenario = Scenario {
        calls,
        retries,
        queue: Some(16),
        length: Duration::from_secs(70),
        ..Scenario::usual()
    };
    scenario.set_load(1.0);
    let capacity = scenario.capacity();
    scenario.phases = vec![
        Phase { at: Duration::from_secs(20), rate: 2.0 * capacity },
        Phase { at: Duration::from_secs(50), rate: 0.5 * capacity },
    ];
    run_once(&scenario, Rule::Core(PolicyKind::LeastLoad), 1)
}

fn mean(seconds: &[u64]) -> f64 {
    seconds.iter().sum::<u64>() as f64 / seconds.len() as f64
}

#[test]
fn goodput_stays_and_recovery_takes_two_seconds() {
    for (calls, retries) in
        [(Calls::Session, true), (Calls::OneShot, true), (Calls::Session, false)]
    {
        let tally = run(calls, retries);
        let peak = mean(&tally.answered[5..20]);
        let overloaded = mean(&tally.answered[21..50]) / peak;
        // 400 of 800 are wanted after the overload.
        let recovered = mean(&tally.answered[52..70]) / 400.0;
        let retried = tally.retried as f64 / tally.offered as f64;
        println!(
            "{calls:?}, retries {retries}: peak {peak:.0}/s, overloaded {overloaded:.3} of it, \
             recovered {recovered:.3}, {} turned away, {retried:.3} retried",
            tally.turned_away
        );
        assert!(overloaded >= 0.95, "goodput is {overloaded:.3} of peak");
        assert!((0.95..1.05).contains(&recovered), "{recovered:.3} of the calls after it");
        assert!(retried <= 0.101, "{retried:.3} of the calls were sent again");
        assert_eq!((tally.ejections, tally.failed), (0, 0), "to be full is no failure");
        // A queue of 16 on four slots is 200 ms of work, a call takes 50 ms, and a retry pauses twice at most.
        let mut latencies = tally.latencies;
        latencies.sort_unstable();
        let p99 = lb_sim::percentile(&latencies, 0.99);
        assert!(p99 < 800_000, "p99 is {p99} µs");
    }
}
