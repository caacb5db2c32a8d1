//! The loop that makes what runs equal to what should run, and says how the host is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use lb_proto::parse::scaler::Report;
use lb_runtime::service::Watchdog;

use crate::{
    daemon::Capacity,
    executor::{Executor, ExecutorError, Found, FoundState},
    instances::{Action, Instances, Notice},
    plans::{Orders, Plans},
    room::Meter,
};

/// Between two looks at what runs, while nothing is under way.
const CALM: Duration = Duration::from_secs(1);
/// While something is: a worker is ready within some hundred milliseconds.
const BUSY: Duration = Duration::from_millis(100);

/// What the loop needs from outside.
pub(crate) struct Surroundings {
    /// What each balancer wants.
    pub(crate) orders: watch::Receiver<Orders>,
    /// How the host is, for each balancer.
    pub(crate) reports: watch::Sender<Report>,
    /// What this machine offers.
    pub(crate) capacity: watch::Receiver<Capacity>,
    /// The daemon shall stop.
    pub(crate) stop: CancellationToken,
    /// How long instances may take to end when the daemon stops, if they do not outlive it.
    pub(crate) stop_limit: Duration,
}

/// Runs instances until the daemon shall stop, and until those are gone that end with it.
pub(crate) async fn run<E: Executor>(executor: E, surroundings: Surroundings) {
    let manager = Manager {
        executor,
        surroundings,
        plans: Plans::default(),
        instances: Instances::default(),
        meter: Meter::new(),
        found: BTreeMap::new(),
        problem: String::new(),
    };
    manager.run(Watchdog::from_environment()).await;
}

struct Manager<E> {
    executor: E,
    surroundings: Surroundings,
    plans: Plans,
    instances: Instances,
    meter: Meter,
    /// By the last look that succeeded.
    found: BTreeMap<u32, Found>,
    /// What was last told to be wrong.
    problem: String,
}

impl<E: Executor> Manager<E> {
    async fn run(mut self, mut watchdog: Watchdog) {
        let stop = self.surroundings.stop.clone();
        loop {
            self.turn(&mut watchdog).await;
            watchdog.feed();
            let pause = if self.is_moving() { BUSY } else { CALM };
            tokio::select! {
                () = stop.cancelled() => break,
                changed = self.surroundings.orders.changed() => if changed.is_err() { break },
                () = self.executor.news() => {}
                () = sleep(pause) => {}
            }
        }
        if !self.executor.outlives() {
            self.end_all(watchdog).await;
        }
    }

    /// Looks, and does what follows.
    async fn turn(&mut self, watchdog: &mut Watchdog) {
        let orders = self.surroundings.orders.borrow_and_update().clone();
        if let Some(order) = self.plans.take(&orders, Instant::now()) {
            info!(
                event = "plan_obeyed",
                generation = order.generation.number(),
                desired = order.desired,
                here = order.instances.len(),
                reason = order.reason,
                "obeying a plan"
            );
        }
        let looked = self.executor.list().await;
        let problem = looked.as_ref().err().map(ToString::to_string).unwrap_or_default();
        self.tell(problem);
        if let Ok(found) = looked {
            self.found = found;
        }
        // Before the first plan nobody knows what should not run.
        let wanted: Option<BTreeSet<u32>> =
            self.plans.wanted().map(|wanted| wanted.keys().copied().collect());
        let now = Instant::now();
        if let Some(wanted) = &wanted {
            let actions = self.instances.reconcile(wanted, &self.found, now);
            for action in actions {
                let obeys = self.carry_out(action).await;
                watchdog.feed();
                if !obeys {
                    // Whatever answers nothing now would let each of the others wait for as long.
                    break;
                }
            }
        }
        self.log();
        self.report(&wanted.unwrap_or_else(|| self.found.keys().copied().collect()));
    }

    /// False if what starts and stops instances is out of order.
    async fn carry_out(&mut self, action: Action) -> bool {
        let done = match action {
            Action::Start(number) => match self.room_for_one() {
                Ok(()) => {
                    debug!(number, "starting an instance");
                    self.executor.start(number).await
                }
                Err(error) => Err(error),
            },
            Action::Stop(number) => {
                debug!(number, "stopping an instance");
                self.executor.stop(number).await
            }
        };
        match done {
            Ok(()) => match action {
                Action::Start(number) => {
                    info!(event = "instance_started", number, "instance started");
                }
                Action::Stop(number) => {
                    info!(event = "instance_stopped", number, "instance told to stop");
                }
            },
            Err(error) => {
                self.instances.failed(action, &error, Instant::now());
                debug!(?action, %error, "an instance does not obey");
                return matches!(error, ExecutorError::Hopeless(_));
            }
        }
        true
    }

    /// Whether the machine has the memory for another instance.
    fn room_for_one(&mut self) -> Result<(), ExecutorError> {
        const MIB: u64 = 1 << 20;
        let (needed, free) =
            (self.surroundings.capacity.borrow().needs.memory, self.meter.room().memory);
        if free >= needed {
            return Ok(());
        }
        let (needed, free) = (needed / MIB, free / MIB);
        Err(ExecutorError::Hopeless(format!(
            "the host is out of memory: {free} MiB are free, and an instance takes {needed} MiB (memory_mb)"
        )))
    }

    fn report(&mut self, wanted: &BTreeSet<u32>) {
        let room = self.meter.room();
        let report = Report {
            instances: self.instances.report(wanted, &self.found, Instant::now()),
            free_millicores: room.millicores,
            free_memory: room.memory,
            obeyed: self.plans.obeyed(),
            manual: self.plans.manual(),
            problem: self.problem.clone(),
        };
        self.surroundings.reports.send_if_modified(|latest| {
            let is_news = differs(latest, &report);
            *latest = report;
            is_news
        });
    }

    /// Tells of what is wrong with the host, once.
    fn tell(&mut self, problem: String) {
        if problem == self.problem {
            return;
        }
        if problem.is_empty() {
            info!(event = "executor_back", "instances can be started and stopped again");
        } else {
            error!(event = "executor_gone", problem, "instances cannot be started or stopped");
        }
        self.problem = problem;
    }

    fn log(&mut self) {
        while let Some(notice) = self.instances.notice() {
            match notice {
                Notice::Died { number, cause } => {
                    warn!(
                        event = "instance_died",
                        number, cause, "instance died, it is started again"
                    );
                }
                Notice::GivenUp { number, cause } => {
                    error!(event = "instance_given_up", number, cause, "instance given up");
                }
            }
        }
    }

    fn is_moving(&self) -> bool {
        let Some(wanted) = self.plans.wanted() else { return false };
        self.instances.is_moving(&wanted.keys().copied().collect(), &self.found)
    }

    /// Stops everything and waits until it is gone, for as long as that may take.
    async fn end_all(&mut self, mut watchdog: Watchdog) {
        let until = Instant::now() + self.surroundings.stop_limit;
        while Instant::now() < until {
            self.found = self.executor.list().await.unwrap_or_default();
            self.found.retain(|_, found| !matches!(found.state, FoundState::Dead { .. }));
            if self.found.is_empty() {
                return;
            }
            for number in self.found.keys().copied().collect::<Vec<_>>() {
                // What does not obey ends with this process.
                drop(self.executor.stop(number).await);
            }
            self.report(&BTreeSet::new());
            watchdog.feed();
            tokio::select! {
                () = self.executor.news() => {}
                () = sleep(BUSY) => {}
            }
        }
        warn!("instances did not end in time and were cut");
    }
}

/// Whether balancers should hear of it at once: what is free changes all the time, and goes with the next heartbeat.
fn differs(latest: &Report, next: &Report) -> bool {
    let still = |report: &Report| Report { free_millicores: 0, free_memory: 0, ..report.clone() };
    still(latest) != still(next)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lb_core::scale::{Bounds, Generation, Needs};
    use lb_proto::parse::scaler::HostOrder;

    use super::*;

    /// It lists what there is, and answers no order.
    #[derive(Default)]
    struct Hanging {
        asked: Vec<u32>,
    }

    impl Executor for Hanging {
        async fn list(&mut self) -> Result<BTreeMap<u32, Found>, ExecutorError> {
            Ok(BTreeMap::new())
        }

        async fn start(&mut self, number: u32) -> Result<(), ExecutorError> {
            self.asked.push(number);
            Err(ExecutorError::Unavailable("no reply".into()))
        }

        async fn stop(&mut self, _: u32) -> Result<(), ExecutorError> {
            unreachable!("nothing runs")
        }

        async fn news(&mut self) {
            std::future::pending::<()>().await;
        }

        fn outlives(&self) -> bool {
            true
        }
    }

    /// Each order may take seconds then: all of them in one turn would outlast the watchdog.
    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_asked_once_a_turn() {
        let order = HostOrder {
            generation: Generation::new(1).unwrap(),
            instances: (1..=64).map(|number| (number, String::new())).collect(),
            ..HostOrder::default()
        };
        let orders = Orders::from([("b".parse().unwrap(), Some(Arc::new(order)))]);
        let needs = Needs { millicores: 0, memory: 0 };
        let capacity = Capacity { bounds: Bounds::new(0, 64).unwrap(), needs };
        let mut manager = Manager {
            executor: Hanging::default(),
            surroundings: Surroundings {
                orders: watch::channel(orders).1,
                reports: watch::channel(Report::default()).0,
                capacity: watch::channel(capacity).1,
                stop: CancellationToken::new(),
                stop_limit: Duration::ZERO,
            },
            plans: Plans::default(),
            instances: Instances::default(),
            meter: Meter::new(),
            found: BTreeMap::new(),
            problem: String::new(),
        };
        let mut watchdog = Watchdog::from_environment();
        manager.turn(&mut watchdog).await;
        sleep(CALM).await;
        manager.turn(&mut watchdog).await;
        assert_eq!(manager.executor.asked, [1]);
    }
}
