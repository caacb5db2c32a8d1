//! How many instances there should be.
//!
//! `desired = ceil(n · metric / target)`, where the metric is calls per slot, running and queued, over all workers of the service, and a
//! metric within the tolerance of its target changes nothing. Up is decided on the latest average, down on the highest of a long time.
//! Beyond that formula: up needs the end of the average to agree, and the average before as well if the excess is small. Without the
//! first, a queue that has been served would be served again by workers that come too late; without the second, noise of a fifth
//! (calls of 50 ms on ten workers) adds workers within twenty minutes on 10 of 10 seeds, with it on 1 of 10.
//!
//! Source: the algorithm of Kubernetes' Horizontal Pod Autoscaler, with its tolerance, its stabilization window of 300 s for
//! scaling down, and its default policy for scaling up (twice as many or four more, whatever is more, in 15 s).

use std::time::Duration;

use super::{
    demand::Demand,
    reason::{Held, Limit, Reason, Seen},
    settings::{Bounds, Settings},
};

/// What there is, as far as it matters for how many there should be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    /// Instances that are wanted already, running or not.
    pub(super) wanted: u32,
    /// Of those, instances that have a host.
    pub(super) placed: u32,
    /// Workers of the service that no scaler has started.
    pub(super) unmanaged: u32,
    pub(super) demand: Demand,
    /// How many instances there may be.
    pub(super) bounds: Bounds,
}

impl Current {
    /// Workers that `outstanding` calls need, in all.
    fn needs(&self, outstanding: f64, settings: &Settings) -> f64 {
        let Demand { workers, slots, .. } = self.demand;
        outstanding * f64::from(workers) / (f64::from(slots) * settings.target)
    }

    /// Instances that `outstanding` calls need beside the workers that no scaler has started; `None` within the tolerance.
    fn desired(&self, outstanding: f64, settings: &Settings) -> Option<u32> {
        let needs = self.needs(outstanding, settings);
        let planned = f64::from(self.wanted) + f64::from(self.unmanaged);
        let is_off = (needs - planned).abs() > settings.tolerance * planned;
        is_off.then(|| whole(needs).saturating_sub(self.unmanaged))
    }

    /// Whether there is more to do by twice the tolerance: noise of a fifth does not do that to an average.
    pub(super) fn is_far_below(&self, outstanding: f64, settings: &Settings) -> bool {
        let planned = f64::from(self.wanted) + f64::from(self.unmanaged);
        self.needs(outstanding, settings) > (1.0 + 2.0 * settings.tolerance) * planned
    }

    pub(super) fn seen(&self, outstanding: f64, over: Duration, settings: &Settings) -> Seen {
        let per_slot = outstanding / f64::from(self.demand.slots);
        Seen { per_slot, target: settings.target, over }
    }

    /// More instances, if `outstanding` calls need them.
    pub(super) fn up(
        &self,
        outstanding: f64,
        over: Duration,
        saturated: bool,
        settings: &Settings,
    ) -> Option<(u32, Reason)> {
        let desired = self.desired(outstanding, settings)?;
        let share = whole(f64::from(self.placed) * settings.step_share);
        let most = self.placed.saturating_add(share.max(settings.step_count));
        let max = self.bounds.max();
        let limit = match desired {
            _ if desired > max && max <= most => Some(Limit::Max),
            _ if desired > most => Some(Limit::Step),
            _ => None,
        };
        let seen = self.seen(outstanding, over, settings);
        let next = desired.min(most).min(max);
        let reason = Reason::MoreDemand { seen, saturated, limit };
        (next > self.wanted).then_some((next, reason))
    }

    /// Fewer instances, if `highest` calls need no more.
    pub(super) fn down(&self, highest: f64, settings: &Settings) -> Option<(u32, Reason)> {
        let desired = self.desired(highest, settings)?.max(self.bounds.min());
        let seen = self.seen(highest, settings.stabilization, settings);
        (desired < self.wanted).then_some((desired, Reason::LessDemand { seen }))
    }

    /// Why nothing is to be changed with so many calls.
    pub(super) fn held(&self, outstanding: f64, over: Duration, settings: &Settings) -> Held {
        let seen = self.seen(outstanding, over, settings);
        match self.desired(outstanding, settings) {
            Some(desired) if desired > self.wanted => Held::AtLimit(seen),
            Some(desired) if desired < self.wanted => {
                let at_min = self.wanted <= self.bounds.min();
                if at_min { Held::AtLimit(seen) } else { Held::Stabilizing(seen) }
            }
            _ => Held::OnTarget(seen),
        }
    }
}

/// The next whole number; what is only above one by rounding is that one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 on, and what is too large becomes the largest"
)]
fn whole(number: f64) -> u32 {
    (number - 1e-9).ceil() as u32
}
