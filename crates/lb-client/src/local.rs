//! Picking from the Watch list, without a balancer: two choices at random, the better one wins.
//!
//! A client alone only knows what it has outstanding itself. Set against the weight the balancer
//! gave each worker, two random choices on that number spread the calls of many independent clients
//! well, while a strict minimum would send all of them to the same worker.

use std::sync::Arc;

use crate::worker::Worker;

/// How often chance may hit a worker that takes no calls before the list is searched.
const DRAWS: usize = 4;

/// One worker of the list.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) worker: Arc<Worker>,
    /// Relative capacity, above 0.
    pub(crate) weight: f64,
}

/// A worker to call, `None` when `is_allowed` leaves none. Workers that failed a moment ago are
/// taken only when there is nobody else.
pub(crate) fn choose<'a>(
    endpoints: &'a [Endpoint],
    is_allowed: impl Fn(&Worker) -> bool,
    now_ms: u64,
    rng: &mut fastrand::Rng,
) -> Option<&'a Arc<Worker>> {
    let healthy =
        |endpoint: &&Endpoint| is_allowed(&endpoint.worker) && !endpoint.worker.is_ejected(now_ms);
    let allowed = |endpoint: &&Endpoint| is_allowed(&endpoint.worker);
    better_of_two(endpoints, healthy, rng).or_else(|| better_of_two(endpoints, allowed, rng))
}

fn better_of_two<'a>(
    endpoints: &'a [Endpoint],
    eligible: impl Fn(&&'a Endpoint) -> bool,
    rng: &mut fastrand::Rng,
) -> Option<&'a Arc<Worker>> {
    let one = draw(endpoints, &eligible, rng)?;
    let other = draw(endpoints, |other| !std::ptr::eq(*other, one) && eligible(other), rng);
    let best = other.filter(|other| delay(other) < delay(one)).unwrap_or(one);
    Some(&best.worker)
}

/// What one more call would have to wait, in calls per unit of capacity.
fn delay(endpoint: &Endpoint) -> f64 {
    f64::from(endpoint.worker.outstanding().saturating_add(1)) / endpoint.weight
}

fn draw<'a>(
    endpoints: &'a [Endpoint],
    eligible: impl Fn(&&'a Endpoint) -> bool,
    rng: &mut fastrand::Rng,
) -> Option<&'a Endpoint> {
    if endpoints.is_empty() {
        return None;
    }
    for _ in 0..DRAWS {
        let drawn = &endpoints[rng.usize(..endpoints.len())];
        if eligible(&drawn) {
            return Some(drawn);
        }
    }
    let (before, after) = endpoints.split_at(rng.usize(..endpoints.len()));
    after.iter().chain(before).find(eligible)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::worker::InFlight;

    fn fleet(weights: &[f64]) -> Vec<Endpoint> {
        let endpoint = |(index, weight): (usize, &f64)| {
            let id = format!("w{index}").parse().unwrap();
            Endpoint {
                worker: Arc::new(Worker::new(id, "127.0.0.1:1", lb_tls::Tls::open())),
                weight: *weight,
            }
        };
        weights.iter().enumerate().map(endpoint).collect()
    }

    #[test]
    fn calls_spread_by_weight() {
        let fleet = fleet(&[1.0, 2.0, 4.0, 1.0]);
        let mut rng = fastrand::Rng::with_seed(7);
        let calls: Vec<InFlight> = (0..800)
            .filter_map(|_| choose(&fleet, |_| true, 0, &mut rng).cloned())
            .map(InFlight::new)
            .collect();
        assert_eq!(calls.len(), 800);
        let counts: Vec<u32> = fleet.iter().map(|e| e.worker.outstanding()).collect();
        for (count, fair) in counts.iter().zip([100_u32, 200, 400, 100]) {
            assert!(count.abs_diff(fair) <= fair / 5, "{counts:?}");
        }
    }

    #[test]
    fn the_ejected_are_the_last_resort() {
        let fleet = fleet(&[1.0, 1.0]);
        let mut rng = fastrand::Rng::with_seed(7);
        fleet[0].worker.eject(0);
        for _ in 0..50 {
            assert_eq!(choose(&fleet, |_| true, 10, &mut rng).unwrap().id.as_str(), "w1");
        }
        fleet[1].worker.eject(0);
        assert!(choose(&fleet, |_| true, 10, &mut rng).is_some());
        assert!(choose(&[], |_| true, 10, &mut rng).is_none());
    }

    proptest! {
        #[test]
        fn an_allowed_worker_is_found_when_there_is_one(
            allowed in proptest::collection::vec(any::<bool>(), 0..40),
            seed: u64,
        ) {
            let fleet = fleet(&vec![1.0; allowed.len()]);
            let is_allowed = |worker: &Worker| {
                let index: usize = worker.id.as_str()[1..].parse().unwrap();
                allowed[index]
            };
            let mut rng = fastrand::Rng::with_seed(seed);
            match choose(&fleet, is_allowed, 0, &mut rng) {
                Some(worker) => prop_assert!(is_allowed(worker)),
                None => prop_assert!(!allowed.contains(&true)),
            }
        }
    }
}
