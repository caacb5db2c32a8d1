//! Whether one policy did better than another: what a sentence may claim.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::load::{ResponseTimes, RunResult};

/// Differences below this are not worth a word.
const MATERIAL: f64 = 0.03;

/// A figure of a run, by its name in templates.
type Figure = (&'static str, fn(&RunResult) -> Option<f64>);

const FIGURES: [Figure; 8] = [
    ("mean", |run| Some(times(run)?.mean_us)),
    ("p50", |run| Some(times(run)?.p50_us as f64)),
    ("p90", |run| Some(times(run)?.p90_us as f64)),
    ("p99", |run| Some(times(run)?.p99_us as f64)),
    ("p999", |run| Some(times(run)?.p999_us as f64)),
    ("max", |run| Some(times(run)?.max_us as f64)),
    ("rate", |run| Some(run.throughput_per_second)),
    ("failed", |run| Some(run.failed() as f64 / run.requests.max(1) as f64)),
];

fn times(run: &RunResult) -> Option<&ResponseTimes> {
    run.response.as_ref()
}

/// `compare.ONE.OTHER.FIGURE`, from all runs in the order in which they were made: `less` or `more` when it was so in
/// every repeat, and by more than 3 % in the median repeat; else `same`.
///
/// The policies of one repeat had the same calls at the same time of day, so they are compared with each other and not
/// with the medians of other repeats.
pub(super) fn comparisons(runs: &[RunResult]) -> Value {
    let mut repeats: BTreeMap<&str, Vec<&RunResult>> = BTreeMap::new();
    for run in runs.iter().filter(|run| !run.cancelled) {
        repeats.entry(&run.name).or_default().push(run);
    }
    let of_pair = |one: &[&RunResult], other: &[&RunResult]| -> Value {
        let word = |(name, read): &Figure| {
            let pairs = one.iter().zip(other).filter_map(|(one, other)| read(one).zip(read(other)));
            ((*name).to_owned(), Value::from(word(&pairs.collect::<Vec<_>>())))
        };
        FIGURES.iter().map(word).collect::<Map<_, _>>().into()
    };
    let of_one = |(name, one): (&&str, &Vec<&RunResult>)| {
        let others = repeats.iter().filter(|(other, _)| *other != name);
        let others = others.map(|(other, runs)| ((*other).to_owned(), of_pair(one, runs)));
        ((*name).to_owned(), Value::from(others.collect::<Map<_, _>>()))
    };
    repeats.iter().map(of_one).collect::<Map<_, _>>().into()
}

fn word(pairs: &[(f64, f64)]) -> &'static str {
    let mut ratios: Vec<f64> = pairs.iter().map(|(one, other)| ratio(*one, *other)).collect();
    ratios.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (ratios.first(), ratios.last()) else { return "same" };
    let median = ratios[ratios.len() / 2];
    if *most < 1.0 && median < 1.0 - MATERIAL {
        "less"
    } else if *least > 1.0 && median > 1.0 + MATERIAL {
        "more"
    } else {
        "same"
    }
}

/// Of two that are both nothing, one.
fn ratio(one: f64, other: f64) -> f64 {
    if one <= 0.0 && other <= 0.0 { 1.0 } else { one / other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_needs_every_repeat_and_more_than_noise() {
        assert_eq!(word(&[(1.0, 2.0), (1.0, 1.1), (3.0, 4.0)]), "less");
        assert_eq!(word(&[(1.0, 2.0), (1.2, 1.1), (3.0, 4.0)]), "same");
        assert_eq!(word(&[(2.0, 1.0), (1.2, 1.1)]), "more");
        assert_eq!(word(&[(1.00, 1.01), (1.00, 1.02)]), "same");
        assert_eq!(word(&[(0.0, 0.0), (0.0, 0.0)]), "same");
        assert_eq!(word(&[(0.2, 0.0), (0.1, 0.0)]), "more");
        assert_eq!(word(&[]), "same");
    }
}
