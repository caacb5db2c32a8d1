//! What must hold. A bound is on the median, over the rounds, of a ratio inside one round.

use super::{
    plan::{
        CALL_LOCAL, CALL_PICK, CALL_SESSION, CALLS, CALLS_2000, DIRECT, ECHO, PICK, PICKS_1,
        PICKS_64, PICKS_64_CLIENTS, SESSION,
    },
    result::{Group, Judgement, Measured, Series, median},
};

/// A number of one measurement.
type Of = fn(&Measured) -> f64;

#[derive(Debug, Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

use Limit::{AtLeast, AtMost};

struct Bound {
    what: &'static str,
    group: &'static str,
    way: &'static str,
    /// `None` for a bound on the number itself.
    against: Option<&'static str>,
    of: Of,
    limit: Limit,
}

const SERVER_CPU: Of = |measured| measured.cpu_us_of("server");
const TOTAL_CPU: Of = Measured::cpu_us_total;
const RATE: Of = |measured| measured.per_second;
/// Time per call when nothing but calls is done: throughput, as a cost.
const TIME: Of = |measured| 1.0 / measured.per_second;
const P50: Of = |measured| measured.p50_us;
const P99: Of = |measured| measured.p99_us;

const fn bound(
    what: &'static str,
    (group, way, against): (&'static str, &'static str, Option<&'static str>),
    of: Of,
    limit: Limit,
) -> Bound {
    Bound { what, group, way, against, of, limit }
}

const BOUNDS: [Bound; 13] = [
    bound(
        "unary pick, one at a time: server CPU against an empty call's",
        (PICKS_1, PICK, Some(ECHO)),
        SERVER_CPU,
        AtMost(1.15),
    ),
    bound(
        "unary pick, 64 at a time: server CPU against an empty call's",
        (PICKS_64, PICK, Some(ECHO)),
        SERVER_CPU,
        AtMost(1.15),
    ),
    bound(
        "session pick, one at a time: p50 against a unary pick's",
        (PICKS_1, SESSION, Some(PICK)),
        P50,
        AtMost(0.55),
    ),
    bound(
        "session pick, 64 at a time: rate against unary picks",
        (PICKS_64, SESSION, Some(PICK)),
        RATE,
        AtLeast(8.0),
    ),
    bound(
        "session pick, 64 at a time: µs of server CPU",
        (PICKS_64, SESSION, None),
        SERVER_CPU,
        AtMost(2.0),
    ),
    bound(
        "session picks on 64 connections: rate against unary picks",
        (PICKS_64_CLIENTS, SESSION, Some(PICK)),
        RATE,
        AtLeast(2.5),
    ),
    bound(
        "call, local pick: CPU against direct",
        (CALLS, CALL_LOCAL, Some(DIRECT)),
        TOTAL_CPU,
        AtMost(1.08),
    ),
    bound(
        "call, local pick: time at full load against direct",
        (CALLS, CALL_LOCAL, Some(DIRECT)),
        TIME,
        AtMost(1.08),
    ),
    bound(
        "call, session pick: CPU against direct",
        (CALLS, CALL_SESSION, Some(DIRECT)),
        TOTAL_CPU,
        AtMost(1.25),
    ),
    bound(
        "call, session pick: time at full load against direct",
        (CALLS, CALL_SESSION, Some(DIRECT)),
        TIME,
        AtMost(1.25),
    ),
    bound(
        "call, unary pick: CPU against direct",
        (CALLS, CALL_PICK, Some(DIRECT)),
        TOTAL_CPU,
        AtMost(2.0),
    ),
    bound(
        "call, unary pick: time at full load against direct",
        (CALLS, CALL_PICK, Some(DIRECT)),
        TIME,
        AtMost(2.0),
    ),
    bound(
        "call, local pick, 2,000 a second: p99 against direct",
        (CALLS_2000, CALL_LOCAL, Some(DIRECT)),
        P99,
        AtMost(1.0),
    ),
];

/// Sets what was measured against the bounds; those of parts that were left out are left out.
pub(super) fn judge(groups: &[Group]) -> Vec<Judgement> {
    BOUNDS.iter().filter_map(|bound| bound.judge(groups)).collect()
}

impl Bound {
    fn judge(&self, groups: &[Group]) -> Option<Judgement> {
        let group = groups.iter().find(|group| group.title == self.group)?;
        let series = |name: &str| group.ways.iter().find(|series| series.name == name);
        let way = series(self.way)?;
        let values = match self.against {
            Some(name) => ratios(way, series(name)?, self.of),
            None => way.rounds.iter().map(self.of).collect(),
        };
        let median = median(values.iter().copied());
        let (limit, at_least, reached) = match self.limit {
            AtMost(limit) => (limit, false, median <= limit),
            AtLeast(limit) => (limit, true, median >= limit),
        };
        Some(Judgement { what: self.what.into(), limit, at_least, values, median, reached })
    }
}

/// One way against another, round by round.
pub(super) fn ratios(way: &Series, against: &Series, of: Of) -> Vec<f64> {
    way.rounds.iter().zip(&against.rounds).map(|(one, other)| of(one) / of(other)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn series(name: &str, server_cpu_us: &[f64]) -> Series {
        let measured = |cpu_us: &f64| Measured {
            count: 1,
            failed: 0,
            first_failure: None,
            per_second: 1.0,
            p50_us: 1.0,
            p99_us: 1.0,
            late_p99_us: None,
            cpu_us: BTreeMap::from([("server".to_owned(), *cpu_us)]),
        };
        Series { name: name.into(), rounds: server_cpu_us.iter().map(measured).collect() }
    }

    #[test]
    fn a_bound_is_on_the_median_of_the_ratios_inside_the_rounds() {
        // The machine is three times slower in the second round.
        let ways = vec![series(ECHO, &[10.0, 30.0, 10.0]), series(PICK, &[11.0, 33.0, 30.0])];
        let judged = judge(&[Group { title: PICKS_1.into(), ways }]);
        let first = &judged[0];
        assert_eq!(first.values, [1.1, 1.1, 3.0]);
        assert!(first.reached, "{first:?}");
        assert!(judged.iter().all(|judgement| !judgement.what.starts_with("call")));
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]).to_bits(), 2.5_f64.to_bits());
    }
}
