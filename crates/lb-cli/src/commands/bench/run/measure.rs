//! Runs a scenario: the same start for every run, then calls, and events while they go on.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use lb_client::Balanced;
use lb_core::policy::PolicyKind;
use lb_proto::v1::{GetPolicyRequest, SetPolicyRequest, admin_client::AdminClient};

use crate::{
    context::Common,
    failure::Failure,
    fleet::{self, Fleet, WorkerPlan},
    load::{self, NoProbe, RunResult},
    output::note,
    progress::Bar,
    workload::{self, AdminProbe, Tasks},
};

use super::{
    calls::Calls,
    scenario::{Event, Happening, Scenario},
};

/// What runs are made on.
pub(super) struct Bench {
    workers: Workers,
    /// The workers in a sentence.
    described: String,
    channel: Balanced,
    admin: AdminClient<Channel>,
}

/// Whose workers they are.
enum Workers {
    /// Ours.
    Started(Fleet),
    /// Somebody's, whose policy is put in force again afterwards.
    Found { policy: String },
}

impl Bench {
    /// Starts the workers of the scenario, or finds those that are there.
    pub(super) async fn start(
        common: &Common,
        scenario: &Scenario,
        found: bool,
        stop: &CancellationToken,
    ) -> Result<Self, Failure> {
        if found {
            return Self::find(common).await;
        }
        let described = describe(&scenario.workers);
        note(&format!("starting lb-server and {described} on the loopback …"));
        let started = stop.run_until_cancelled(Fleet::start(&scenario.workers)).await;
        let fleet = started.ok_or(Failure::Interrupted)??;
        let channel =
            Balanced::builder(workload::SERVICE).search(fleet.search().clone()).connect().await?;
        let admin = AdminClient::new(fleet.balancer().await?);
        let described = format!(
            "One balancer and {described}, all on one machine: real processes that found one another \
             by DNS-SD."
        );
        Ok(Self { workers: Workers::Started(fleet), described, channel, admin })
    }

    async fn find(common: &Common) -> Result<Self, Failure> {
        let mut admin = AdminClient::new(common.balancer().await?);
        let listed = fleet::list(&mut admin).await?;
        let plans: Vec<WorkerPlan> = listed
            .into_iter()
            .filter(|worker| worker.services.iter().any(|name| name == workload::SERVICE))
            .map(|worker| WorkerPlan {
                id: worker.worker_id,
                slots: worker.slots,
                queue: 0,
                slowdown: 1.0,
            })
            .collect();
        if plans.is_empty() {
            let message = format!("no worker offers {}", workload::SERVICE);
            return Err(tonic::Status::unavailable(message).into());
        }
        let policy = admin.get_policy(GetPolicyRequest {}).await?.into_inner().policy;
        let channel = common.balanced(workload::SERVICE).await?;
        let described = format!("Called were {}, found by discovery.", describe(&plans));
        Ok(Self { workers: Workers::Found { policy }, described, channel, admin })
    }

    pub(super) fn workers(&self) -> &str {
        &self.described
    }

    /// All runs, until the end or until `stop`.
    pub(super) async fn measure(
        &mut self,
        scenario: &Scenario,
        calls: &Calls,
        stop: &CancellationToken,
    ) -> Result<Vec<RunResult>, Failure> {
        let mut runs = Vec::new();
        for repeat in 0..scenario.repeats {
            for policy in &scenario.policies {
                let one = self.one(scenario, *policy, repeat, calls, stop);
                match one.await? {
                    Some(run) => runs.push(run),
                    None => return Ok(runs),
                }
            }
        }
        Ok(runs)
    }

    /// One run. `None` when it was stopped before it began.
    async fn one(
        &mut self,
        scenario: &Scenario,
        policy: PolicyKind,
        repeat: u64,
        calls: &Calls,
        stop: &CancellationToken,
    ) -> Result<Option<RunResult>, Failure> {
        let prepared = stop.run_until_cancelled(self.prepare(scenario, policy)).await;
        let Some(()) = prepared.transpose()? else { return Ok(None) };
        let plan = scenario.plan(policy, repeat).map_err(refused)?;
        let seed = scenario.seed_of(repeat);
        let target = Tasks::new(self.channel.clone(), scenario.task, scenario.distribution, seed);
        let name = match scenario.repeats {
            1 => policy.name().to_owned(),
            repeats => format!("{policy} {}/{repeats}", repeat + 1),
        };
        let target = calls.listing(policy.name(), target);
        let bar = Bar::new(&name);
        let probe = AdminProbe::new(self.admin.clone());
        let run = load::run(&plan, target, probe, stop, |progress| bar.show(progress));
        tokio::pin!(run);
        let run = tokio::select! {
            run = &mut run => {
                Self::missed(scenario, &run);
                run
            }
            played = play(&mut self.workers, &scenario.events) => {
                played?;
                run.await
            }
        };
        bar.finish();
        Ok((run.requests > 0 || !run.cancelled).then_some(run))
    }

    /// The same start for every run: all workers there, the policy in force, connections open, nobody busy.
    async fn prepare(&mut self, scenario: &Scenario, policy: PolicyKind) -> Result<(), Failure> {
        if let Workers::Started(fleet) = &mut self.workers {
            fleet.restore(&scenario.workers).await?;
        }
        self.put_in_force(policy.name()).await?;
        fleet::until_quiet(&mut self.admin).await?;
        if let Some(plan) = scenario.warm_up_plan().map_err(refused)? {
            // Other tasks than those that count: nobody may know them beforehand.
            let seed = scenario.seed.wrapping_sub(1);
            let target =
                Tasks::new(self.channel.clone(), scenario.task, scenario.distribution, seed);
            load::run(&plan, target, NoProbe, &CancellationToken::new(), |_| ()).await;
            fleet::until_quiet(&mut self.admin).await?;
        }
        wait_for(scenario.start_at).await
    }

    /// Sets the policy unless it is in force: to set it takes an administrator, to look at it a client.
    async fn put_in_force(&mut self, policy: &str) -> Result<(), tonic::Status> {
        let now = self.admin.get_policy(GetPolicyRequest {}).await?.into_inner().policy;
        if now != policy {
            self.admin.set_policy(SetPolicyRequest { policy: policy.to_owned() }).await?;
        }
        Ok(())
    }

    /// Says which events a run was too short for.
    fn missed(scenario: &Scenario, run: &RunResult) {
        let elapsed = Duration::try_from_secs_f64(run.elapsed_seconds).unwrap_or_default();
        for event in scenario.events.iter().filter(|event| event.at > elapsed && !run.cancelled) {
            note(&format!(
                "{}: the run ended after {elapsed:.1?}, before {} at {:?}",
                run.name,
                event.what.describe(),
                event.at
            ));
        }
    }

    /// Stops what was started; puts back what was changed.
    pub(super) async fn end(mut self) {
        let policy = match self.workers {
            Workers::Started(fleet) => return fleet.stop().await,
            Workers::Found { ref policy } => policy.clone(),
        };
        if let Err(status) = self.put_in_force(&policy).await {
            note(&format!("the policy {policy} is not in force again: {status}"));
        }
    }
}

/// Waits for the moment at which other machines begin too.
async fn wait_for(start: Option<SystemTime>) -> Result<(), Failure> {
    let Some(start) = start else { return Ok(()) };
    let Ok(time) = start.duration_since(SystemTime::now()) else {
        return Err(Failure::Refused(
            "--start-at has passed: expected a later time, or clocks that agree".to_owned(),
        ));
    };
    sleep(time).await;
    Ok(())
}

fn refused(error: load::PlanError) -> Failure {
    Failure::Refused(error.to_string())
}

/// Lets each event happen at its time.
async fn play(workers: &mut Workers, events: &[Event]) -> anyhow::Result<()> {
    let begun = Instant::now();
    for event in events {
        sleep_until(begun + event.at).await;
        let Workers::Started(fleet) = workers else {
            anyhow::bail!("workers that others started are not touched");
        };
        match &event.what {
            Happening::Kill(id) => fleet.kill(id).await,
            Happening::Stop(id) => fleet.tell_to_stop(id),
            Happening::Add(worker) => fleet.add(worker),
        }
        .with_context(|| format!("at {:?}: {}", event.at, event.what.describe()))?;
    }
    Ok(())
}

/// `"10 workers of 4 slots"`, or how many of each kind.
fn describe(workers: &[WorkerPlan]) -> String {
    let kind = |worker: &WorkerPlan| {
        let slots = match worker.slots {
            1 => "1 slot".to_owned(),
            slots => format!("{slots} slots"),
        };
        let as_fast = (worker.slowdown - 1.0).abs() < f64::EPSILON;
        if as_fast { slots } else { format!("{slots} that take {} times as long", worker.slowdown) }
    };
    let mut kinds: Vec<(String, u32)> = Vec::new();
    for kind in workers.iter().map(kind) {
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let number = match workers.len() {
        1 => "1 worker".to_owned(),
        number => format!("{number} workers"),
    };
    if let [(kind, _)] = kinds.as_slice() {
        return format!("{number} of {kind}");
    }
    let kinds = kinds.iter().map(|(kind, count)| format!("{count} of {kind}"));
    format!("{number} ({})", kinds.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_described_in_short() {
        let plan = |slots, slowdown| WorkerPlan { id: "w".into(), slots, queue: 0, slowdown };
        assert_eq!(describe(&[plan(4, 1.0), plan(4, 1.0)]), "2 workers of 4 slots");
        let unequal = describe(&[plan(1, 1.0), plan(4, 3.0), plan(1, 1.0)]);
        assert_eq!(unequal, "3 workers (2 of 1 slot; 1 of 4 slots that take 3 times as long)");
        assert_eq!(describe(&[plan(1, 1.0)]), "1 worker of 1 slot");
    }
}
