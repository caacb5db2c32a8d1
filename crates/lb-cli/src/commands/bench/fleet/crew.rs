//! Many workers played by one thread: a connection, a registration and a report a second for each, and nothing else.
//!
//! They all live on one single-threaded runtime of their own, so that ten thousand of them cost this process a part of one
//! core, and the timing of picks elsewhere in it does not wait for them.

use std::{
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::{JoinHandle, JoinSet, spawn_blocking},
    time::{Instant, Interval, interval, interval_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, transport::Endpoint};

use lb_proto::v1::{
    Goodbye, Hello, LoadReport, WorkerMessage, WorkerState, registry_client::RegistryClient,
    registry_message::Kind as Answer, worker_message::Kind as Said,
};

use super::probe::SERVICE;
use crate::{failure::Failure, output::note};

/// Between two reports of a worker.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Registrations under way at once; more would only wait in the balancer's queue of new connections.
const JOINING_AT_ONCE: usize = 64;

/// Slots of each worker.
const SLOTS: u32 = 8;

/// How often the way to the full number is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// HTTP/2's own initial window: what comes down to a worker is small.
const WINDOW: u32 = 65_535;

/// How a crew stands. Counters are only read for figures, so their order among each other does not matter.
#[derive(Debug, Default)]
struct Tally {
    registered: AtomicU32,
    lost: AtomicU32,
    reports: AtomicU64,
    trouble: OnceLock<String>,
    /// Told when a worker has registered or was lost.
    settled: Notify,
}

impl Tally {
    fn settled(&self) -> u32 {
        self.registered.load(Relaxed) + self.lost.load(Relaxed)
    }
}

/// Workers that join when it is made, and stay until they are told to leave.
#[derive(Debug)]
pub(super) struct Crew {
    count: u32,
    tally: Arc<Tally>,
    leave: DropGuard,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Crew {
    /// Lets the workers with these numbers join the balancer at `address`.
    pub(super) fn start(address: &str, cluster: &str, numbers: Range<u32>) -> Self {
        let (tally, leave) = (Arc::new(Tally::default()), CancellationToken::new());
        let member = Member {
            address: address.to_owned(),
            cluster: cluster.to_owned(),
            tally: Arc::clone(&tally),
            leave: leave.clone(),
        };
        let count = numbers.end - numbers.start;
        let thread = spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.context("cannot start a runtime")?.block_on(live(member, numbers));
            Ok(())
        });
        Self { count, tally, leave: leave.drop_guard(), thread }
    }

    /// Waits until each worker has registered or failed to, or until `stop`.
    pub(super) async fn gathered(&self, stop: &CancellationToken) {
        let mut progress = interval(PROGRESS_INTERVAL);
        progress.tick().await;
        while self.tally.settled() < self.count {
            tokio::select! {
                () = self.tally.settled.notified() => {}
                () = stop.cancelled() => return,
                _ = progress.tick() => note(&format!("{} of {} registered …", self.registered(), self.count)),
            }
        }
    }

    /// Workers that have registered and are still there.
    pub(super) fn registered(&self) -> u32 {
        self.tally.registered.load(Relaxed)
    }

    /// Workers that could not register or whose registration ended by itself.
    pub(super) fn lost(&self) -> u32 {
        self.tally.lost.load(Relaxed)
    }

    /// What the first lost worker met.
    pub(super) fn trouble(&self) -> Option<String> {
        self.tally.trouble.get().cloned()
    }

    /// Reports sent so far.
    pub(super) fn reports(&self) -> u64 {
        self.tally.reports.load(Relaxed)
    }

    /// All say goodbye; returns when they have gone.
    pub(super) async fn leave(self) -> Result<(), Failure> {
        drop(self.leave);
        Ok(self.thread.await.context("a crew panicked")??)
    }
}

async fn live(member: Member, numbers: Range<u32>) {
    let member = Arc::new(member);
    let joining = Arc::new(Semaphore::new(JOINING_AT_ONCE));
    let mut members = JoinSet::new();
    for number in numbers {
        let place = member.leave.run_until_cancelled(Arc::clone(&joining).acquire_owned()).await;
        let Some(Ok(place)) = place else { break };
        members.spawn(Arc::clone(&member).run(number, place));
    }
    members.join_all().await;
}

/// What a worker needs to know, the same for all.
#[derive(Debug)]
struct Member {
    address: String,
    cluster: String,
    tally: Arc<Tally>,
    leave: CancellationToken,
}

impl Member {
    async fn run(self: Arc<Self>, number: u32, place: OwnedSemaphorePermit) {
        let served = self.serve(number, place).await;
        let trouble = match served {
            Ok(()) if self.leave.is_cancelled() => return,
            Ok(()) => "the balancer ended the registration".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        self.tally.lost.fetch_add(1, Relaxed);
        // Only the first is kept.
        drop(self.tally.trouble.set(trouble));
        self.tally.settled.notify_one();
    }

    /// Registers and reports until the balancer ends the stream, which it does after a goodbye.
    async fn serve(&self, number: u32, place: OwnedSemaphorePermit) -> anyhow::Result<()> {
        let channel = Endpoint::from_shared(format!("http://{}", self.address))?
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect()
            .await?;
        let said = self.said(number);
        let mut answers = RegistryClient::new(channel).register(said).await?.into_inner();
        match answers.message().await?.and_then(|answer| answer.kind) {
            Some(Answer::Accepted(_)) => {}
            Some(Answer::Refused(refused)) => {
                return Err(Status::new(refused.code.into(), refused.reason).into());
            }
            _ => anyhow::bail!("the balancer did not answer the hello"),
        }
        self.tally.registered.fetch_add(1, Relaxed);
        self.tally.settled.notify_one();
        drop(place);
        // Orders are not obeyed: nobody gives any here.
        let followed = async {
            while answers.message().await?.is_some() {}
            anyhow::Ok(())
        }
        .await;
        self.tally.registered.fetch_sub(1, Relaxed);
        followed
    }

    /// A hello, a report at once, then one a second from a moment of its own, and a goodbye.
    fn said(&self, number: u32) -> impl Stream<Item = WorkerMessage> + Send + use<> {
        let hello = Said::Hello(self.hello(number));
        let phase = REPORT_INTERVAL.mul_f64(fastrand::f64());
        let load = LoadReport {
            state: WorkerState::Serving.into(),
            slots: SLOTS,
            ..LoadReport::default()
        };
        let reports = Reports {
            ticks: interval_at(Instant::now() + phase, REPORT_INTERVAL),
            tally: Arc::clone(&self.tally),
            leave: self.leave.clone(),
            load,
        };
        let reports = stream::unfold(Some(reports), async |reports| reports?.next().await);
        stream::iter([hello, Said::Report(load)])
            .chain(reports)
            .map(|said| WorkerMessage { kind: Some(said) })
    }

    fn hello(&self, number: u32) -> Hello {
        Hello {
            worker_id: format!("w{number}"),
            instance: fastrand::u64(..),
            cluster: self.cluster.clone(),
            // Nobody calls it; the port only makes the address its own.
            address: format!(":{}", number + 1),
            services: vec![SERVICE.into()],
            slots: SLOTS,
            ..Hello::default()
        }
    }
}

/// What a worker says after its first report: that the calls it had, each of [`REPORT_INTERVAL`], have ended, and that
/// it has others.
struct Reports {
    ticks: Interval,
    tally: Arc<Tally>,
    leave: CancellationToken,
    load: LoadReport,
}

impl Reports {
    async fn next(mut self) -> Option<(Said, Option<Self>)> {
        if self.leave.run_until_cancelled(self.ticks.tick()).await.is_none() {
            return Some((Said::Goodbye(Goodbye { reason: "measured".into() }), None));
        }
        self.tally.reports.fetch_add(1, Relaxed);
        let load = &mut self.load;
        let call_seconds = f64::from(load.in_flight) * REPORT_INTERVAL.as_secs_f64();
        load.completed_total += u64::from(load.in_flight);
        load.in_flight_integral += call_seconds;
        load.busy_seconds += call_seconds;
        load.in_flight = fastrand::u32(0..=SLOTS);
        Some((Said::Report(self.load), Some(self)))
    }
}
