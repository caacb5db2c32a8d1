//! Which of several plans counts.
//!
//! Every balancer plans; a scaler obeys the one with the lowest id of those that it is registered with, so that all scalers of a network
//! obey the same without anybody having been elected. Generations grow over all balancers, and one that is not above the one that is
//! obeyed is old: a balancer that was cut off must not undo what another one has planned meanwhile.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use lb_core::{
    id::BalancerId,
    scale::{Generation, Manual},
};
use lb_proto::parse::scaler::{HostOrder, TakenPlan};

/// A scaler that has just started hears of all balancers within this. It does not obey anybody before: the first that answers need not
/// be the one that the others obey.
const ALL_HEARD: Duration = Duration::from_secs(1);

/// What each balancer wants that this host is registered with. `None`: it has not said anything yet.
pub(crate) type Orders = BTreeMap<BalancerId, Option<Arc<HostOrder>>>;

/// The plan that is obeyed, and what was set by hand.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    obeyed: Option<(BalancerId, Arc<HostOrder>)>,
    manual: Manual,
    /// When the first balancer was there.
    heard: Option<Instant>,
}

impl Plans {
    /// Takes in what balancers want now. Returns the plan if another one is obeyed from now on.
    pub(crate) fn take(&mut self, orders: &Orders, now: Instant) -> Option<&HostOrder> {
        for order in orders.values().flatten() {
            self.manual = self.manual.newer(order.manual);
        }
        // The leader may not have planned yet; until it has, the plan that there is holds.
        let (leader, order) = orders.first_key_value()?;
        let heard = *self.heard.get_or_insert(now);
        if now.duration_since(heard) < ALL_HEARD {
            return None;
        }
        let order = order.as_ref().filter(|order| order.generation > Generation::FIRST)?;
        let is_news = match &self.obeyed {
            None => true,
            Some((balancer, obeyed)) if balancer == leader => {
                order.generation > obeyed.generation
                    // The same plan may get other words, and a host its place in it.
                    || order.generation == obeyed.generation && **order != **obeyed
            }
            // The highest number says nothing any more.
            Some((_, obeyed)) => {
                order.generation > obeyed.generation
                    || order.generation.number() == Generation::LIMIT
            }
        };
        if !is_news {
            return None;
        }
        let (_, order) = self.obeyed.insert((leader.clone(), Arc::clone(order)));
        Some(order)
    }

    /// What should run here; `None` before the first plan: then nothing is touched.
    pub(crate) fn wanted(&self) -> Option<&BTreeMap<u32, String>> {
        self.obeyed.as_ref().map(|(_, order)| &order.instances)
    }

    /// For the report.
    pub(crate) fn obeyed(&self) -> Option<TakenPlan> {
        let (balancer, order) = self.obeyed.as_ref()?;
        Some(TakenPlan { balancer: balancer.clone(), generation: order.generation })
    }

    /// The newest setting by hand.
    pub(crate) fn manual(&self) -> Manual {
        self.manual
    }
}

#[cfg(test)]
mod tests {
    use lb_core::scale::Mode;

    use super::*;

    type Order = Option<Arc<HostOrder>>;

    impl Plans {
        fn take_now(&mut self, orders: &Orders) -> Option<&HostOrder> {
            self.take(orders, Instant::now())
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as it stands among the orders")]
    fn order(generation: u64, numbers: &[u32]) -> Order {
        Some(Arc::new(HostOrder {
            generation: Generation::new(generation).unwrap(),
            instances: numbers.iter().map(|&number| (number, String::new())).collect(),
            ..HostOrder::default()
        }))
    }

    fn orders(of: &[(&str, Order)]) -> Orders {
        of.iter().map(|(id, order)| (id.parse().unwrap(), order.clone())).collect()
    }

    /// A scaler that has heard of everybody.
    fn settled() -> Plans {
        Plans { heard: Some(Instant::now() - ALL_HEARD), ..Plans::default() }
    }

    fn numbers(plans: &Plans) -> Vec<u32> {
        plans.wanted().into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    #[test]
    fn the_lowest_id_is_obeyed() {
        let mut plans = settled();
        assert!(plans.take_now(&orders(&[("b-1", None), ("b-2", order(5, &[1]))])).is_none());
        assert!(plans.wanted().is_none(), "the leader has not said anything");
        plans.take_now(&orders(&[("b-1", order(1, &[1, 2])), ("b-2", order(5, &[1]))])).unwrap();
        assert_eq!(numbers(&plans), [1, 2]);
        assert_eq!(plans.obeyed().unwrap().balancer.as_str(), "b-1");
    }

    #[test]
    fn a_plan_that_is_not_newer_is_ignored() {
        let mut plans = settled();
        plans.take_now(&orders(&[("b-1", order(4, &[1]))])).unwrap();
        for old in [3, 4] {
            assert!(plans.take_now(&orders(&[("b-0", order(old, &[7]))])).is_none());
        }
        assert_eq!(numbers(&plans), [1]);
        assert!(plans.take_now(&orders(&[("b-1", order(3, &[8]))])).is_none(), "nor of the same");
        // The new leader has heard what is obeyed, and goes on above it.
        plans.take_now(&orders(&[("b-0", order(5, &[7]))])).unwrap();
        assert_eq!(numbers(&plans), [7]);
    }

    #[test]
    fn a_plan_outlives_its_balancer() {
        let mut plans = settled();
        plans.take_now(&orders(&[("b-1", order(4, &[1])), ("b-2", order(4, &[2]))])).unwrap();
        assert!(plans.take_now(&orders(&[])).is_none());
        assert_eq!(numbers(&plans), [1]);
        assert!(plans.take_now(&orders(&[("b-2", order(4, &[2]))])).is_none());
        plans.take_now(&orders(&[("b-2", order(5, &[2]))])).unwrap();
        assert_eq!(numbers(&plans), [2]);
    }

    #[test]
    fn the_newest_setting_by_hand_counts_whoever_tells_it() {
        let mut plans = settled();
        let set = |generation, count| {
            let generation = Generation::new(generation).unwrap();
            let manual = Manual { mode: Mode::Set(count), generation };
            Some(Arc::new(HostOrder { manual, ..HostOrder::default() }))
        };
        plans.take_now(&orders(&[("b-1", set(1, 3)), ("b-2", set(2, 4))]));
        plans.take_now(&orders(&[("b-1", set(1, 3))]));
        assert_eq!(plans.manual().mode, Mode::Set(4));
        assert!(plans.wanted().is_none());
    }

    #[test]
    fn nobody_is_obeyed_before_all_are_heard() {
        let (mut plans, begun) = (Plans::default(), Instant::now());
        let first = orders(&[("b-2", order(5, &[1]))]);
        assert!(plans.take(&first, begun).is_none());
        let both = orders(&[("b-1", order(4, &[1, 2])), ("b-2", order(5, &[1]))]);
        assert!(plans.take(&both, begun + ALL_HEARD / 2).is_none());
        plans.take(&both, begun + ALL_HEARD).unwrap();
        assert_eq!(numbers(&plans), [1, 2]);
    }

    /// Somebody has said that it obeys the last plan of all: the leader is obeyed nevertheless.
    #[test]
    fn the_leader_is_obeyed_at_the_highest_generation() {
        let (mut plans, last) = (settled(), Generation::LIMIT);
        plans.take_now(&orders(&[("b-2", order(last, &[1]))])).unwrap();
        plans.take_now(&orders(&[("b-1", order(last, &[2]))])).unwrap();
        plans.take_now(&orders(&[("b-1", order(last, &[3]))])).unwrap();
        assert_eq!(numbers(&plans), [3]);
    }
}
