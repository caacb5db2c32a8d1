//! What workers, clients and operators do to a balancer, in any order and at any time: a history from bytes, without network
//! or clock. The registry checks itself after each step.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use arbitrary::{Result, Unstructured};
use fastrand::Rng;
use futures_channel::mpsc;
use tokio::sync::oneshot;

use lb_core::{
    health::{CallEnd, Failure},
    id::{ClientKey, WorkerNumber},
    load::{Hello, LoadReport},
    policy::PolicyKind,
    registry::{Departure, HEARTBEAT, SILENT_HEARTBEATS, Standing, TICK},
    snapshot::Wish,
    time::Timestamp,
    token::TokenClass,
};
use lb_proto::{
    parse,
    v1::{self, TokenCounts, WorkerMessage, worker_message::Kind as Said},
};

use super::{Event, Handle, ORDER_QUEUE, Order, Outcomes, Owner};
use crate::ScaleSettings;

/// Streams at a time: enough for two workers that claim one id beside others.
const STREAMS: u8 = 6;

/// All ends that a call can have.
const ENDS: [CallEnd; 6] = [
    CallEnd::Answered,
    CallEnd::Unsent,
    CallEnd::Abandoned,
    CallEnd::Failed(Failure::Unreachable),
    CallEnd::Failed(Failure::Unavailable),
    CallEnd::Failed(Failure::Overdue),
];

/// Steps of one history. More find nothing that several histories do not.
const STEPS: usize = 400;

impl Owner {
    /// A worker registers and reports.
    pub(crate) fn join(&mut self, hello: Hello, report: LoadReport, now: Timestamp) {
        let number = self.registry.hello(hello, now).expect("there is room");
        self.registry.report(number, report, now).expect("nothing was reported before");
        self.settle(now);
    }

    /// Handles what waits, and carries out what follows.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        while let Ok(event) = self.events.try_recv() {
            self.handle(event, now);
        }
        self.publish();
        self.carry_out();
    }
}

fn is_in_rotation(standing: Standing) -> bool {
    match standing {
        Standing::Serving | Standing::Stale | Standing::Spared | Standing::Trial => true,
        Standing::Waiting | Standing::Draining | Standing::Ejected => false,
    }
}

/// Plays a history.
pub fn register(data: &[u8]) {
    let mut input = Unstructured::new(data);
    // The end of the bytes is the end of the history.
    let Ok(mut history) = History::new(&mut input) else { return };
    for _ in 0..STEPS {
        if input.is_empty() || history.step(&mut input).is_err() {
            break;
        }
        history.settle();
        history.check();
    }
    history.end();
}

/// A worker's stream as the balancer's side of it stands.
struct Stream {
    number: WorkerNumber,
    orders: mpsc::Receiver<Order>,
    /// The last report that was taken: the next one mostly goes on from there.
    last: v1::LoadReport,
}

struct History {
    owner: Owner,
    handle: Handle,
    now: Timestamp,
    ticked_at: Timestamp,
    streams: BTreeMap<u8, Stream>,
    rng: Rng,
}

impl History {
    fn new(input: &mut Unstructured<'_>) -> Result<Self> {
        let (policy, id) = (*input.choose(&PolicyKind::ALL)?, "lb-1".parse().expect("a label"));
        let (owner, handle) = Owner::new(policy, id, &ScaleSettings::default());
        let now = Timestamp::at(Duration::from_secs(1000));
        let rng = Rng::with_seed(input.arbitrary::<u8>()?.into());
        Ok(Self { owner, handle, now, ticked_at: now, streams: BTreeMap::new(), rng })
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=15)? {
            0..=2 => self.hello(input),
            3..=6 => self.report(input),
            7 => self.close(input),
            8 => self.wait(input),
            9..=10 => self.pick(input),
            11 => self.outcomes(input),
            12 => self.abandoned(input),
            13 => self.order(input),
            14 => self.message(input),
            _ => self.set_policy(input),
        }
    }

    /// As a stream's first message, by way of the parser.
    fn hello(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let place = input.int_in_range(0..=STREAMS - 1)?;
        let service =
            |input: &mut Unstructured<'_>| Ok(format!("a.S{}", input.int_in_range(0..=2)?));
        let message = v1::Hello {
            worker_id: format!("w{}", input.int_in_range(0..=3)?),
            instance: input.int_in_range(0..=3)?,
            cluster: "default".to_owned(),
            address: format!(":{}", input.int_in_range(1..=4)?),
            services: (0..input.int_in_range(1..=3)?)
                .map(|_| service(input))
                .collect::<Result<_>>()?,
            slots: number(input)?.try_into().unwrap_or(1),
            zone: String::new(),
            labels: BTreeMap::new(),
            version: String::new(),
        };
        self.said(place, Said::Hello(message));
        Ok(())
    }

    /// A report that mostly follows from the one before; what it says may still be absurd.
    fn report(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let Some((place, stream)) = chosen(&self.streams, input)? else { return Ok(()) };
        let last = stream.last;
        let mut counts = |before: Option<TokenCounts>| {
            let before = before.unwrap_or_default();
            let seen = before.seen.saturating_add(number(input)?);
            let done = before.done.saturating_add(number(input)?);
            Ok(Some(TokenCounts { seen, done }))
        };
        let (picked, session) = (counts(last.picked)?, counts(last.session)?);
        let message = v1::LoadReport {
            state: input.int_in_range(0..=5)?.clamp(1, 2),
            in_flight: number(input)?.try_into().unwrap_or(u32::MAX),
            queued: number(input)?.try_into().unwrap_or(0),
            slots: number(input)?.try_into().unwrap_or(1),
            picked,
            session,
            completed_total: last.completed_total.saturating_add(number(input)?),
            errors_total: last.errors_total.saturating_add(number(input)? / 2),
            faults_total: last.faults_total.saturating_add(number(input)? / 4),
            in_flight_integral: last.in_flight_integral + amount(input)?,
            busy_seconds: last.busy_seconds + amount(input)?,
            cpu: 0.5,
            memory: 0.5,
            measured: input.ratio(1, 8)?,
        };
        self.said(place, Said::Report(message));
        Ok(())
    }

    /// Any message at all, on any stream.
    fn message(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let place = input.int_in_range(0..=STREAMS - 1)?;
        let length = input.int_in_range(0..=255)?;
        let bytes =
            input.bytes(usize::from(u8::min(length, input.len().try_into().unwrap_or(255))))?;
        let message = <WorkerMessage as prost::Message>::decode(bytes);
        if let Some(kind) = message.ok().and_then(|message| message.kind) {
            self.said(place, kind);
        }
        Ok(())
    }

    /// What a stream does with a message: its first one is a hello, and no other is.
    fn said(&mut self, place: u8, kind: Said) {
        match (kind, self.streams.get_mut(&place)) {
            (Said::Hello(message), None) => {
                let peer = Ipv4Addr::new(10, 0, 0, 7).into();
                let Ok(parsed) = parse::hello(message, peer) else { return };
                let (sender, orders) = mpsc::channel(ORDER_QUEUE);
                let (reply, mut answer) = oneshot::channel();
                let hello = Box::new(parsed.hello);
                self.owner.handle(Event::Hello { hello, orders: sender, reply }, self.now);
                if let Ok(number) = answer.try_recv().expect("a hello is answered") {
                    let last = v1::LoadReport::default();
                    self.streams.insert(place, Stream { number, orders, last });
                }
            }
            (Said::Report(message), Some(stream)) => match parse::load_report(&message) {
                Ok(report) => {
                    stream.last = message;
                    let worker = stream.number;
                    self.owner.handle(Event::Report { worker, report }, self.now);
                }
                Err(_) => self.gone(place, Departure::Broken),
            },
            (Said::Goodbye(_), Some(_)) => self.gone(place, Departure::Goodbye),
            (Said::Hello(_), Some(_)) => self.gone(place, Departure::Broken),
            (Said::Report(_) | Said::Goodbye(_), None) => {}
        }
    }

    fn gone(&mut self, place: u8, cause: Departure) {
        let Some(stream) = self.streams.remove(&place) else { return };
        self.owner.handle(Event::Closed { worker: stream.number, cause }, self.now);
    }

    fn close(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let Some((place, _)) = chosen(&self.streams, input)? else { return Ok(()) };
        self.gone(place, Departure::Broken);
        Ok(())
    }

    /// Time passes, in ticks as the owner has them or in one leap.
    fn wait(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let pause = Duration::from_millis(number(input)?.min(1 << 40));
        if pause < 20 * TICK {
            let end = self.now + pause;
            while self.ticked_at + TICK < end {
                self.ticked_at = self.ticked_at + TICK;
                self.now = self.now.max(self.ticked_at);
                self.owner.registry.handle_timeout(self.now);
            }
            self.now = end;
        } else {
            self.now = self.now + pause;
            self.ticked_at = self.now;
            self.owner.registry.handle_timeout(self.now);
        }
        Ok(())
    }

    /// Nobody is picked who does not take calls.
    fn pick(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let service = format!("a.S{}", input.int_in_range(0..=2)?);
        let class = *input.choose(&[TokenClass::Picked, TokenClass::Session])?;
        let snapshot = self.handle.snapshot();
        let Ok(view) = snapshot.service(&service) else { return Ok(()) };
        let serving: Vec<WorkerNumber> = self
            .owner
            .registry
            .workers(self.now)
            .filter(|worker| is_in_rotation(worker.standing))
            .map(|worker| worker.number)
            .collect();
        for _ in 0..=input.int_in_range(0..=20)? {
            let wish = Wish { now: self.now, ..Wish::default() };
            let Ok(pick) = view.pick(wish, class, &mut self.rng) else { break };
            assert!(serving.contains(&pick.worker.number), "picked, but not in rotation");
            if let Some(second) = view.second(&pick, wish, &mut self.rng) {
                assert_ne!(second.number, pick.worker.number, "a second choice is another");
            }
        }
        Ok(())
    }

    fn outcomes(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let worker = self.any_worker(input)?;
        let end = *input.choose(&ENDS)?;
        let client = ClientKey(input.int_in_range(0..=3)?);
        let all = vec![Outcomes { worker, end, count: number(input)? }];
        self.owner.handle(Event::Outcomes { client, all }, self.now);
        Ok(())
    }

    fn abandoned(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let open = vec![(self.any_worker(input)?, number(input)?)];
        self.owner.handle(Event::Abandoned(open), self.now);
        Ok(())
    }

    /// One that is in, that was, or that never was.
    fn any_worker(&self, input: &mut Unstructured<'_>) -> Result<WorkerNumber> {
        let known = chosen(&self.streams, input)?.map(|(_, stream)| stream.number);
        let any = WorkerNumber(input.int_in_range(0..=50)?);
        Ok(known.filter(|_| any.0 > 5).unwrap_or(any))
    }

    fn order(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let worker = format!("w{}", input.int_in_range(0..=4)?).parse().expect("a label");
        let event = if input.arbitrary()? {
            Event::Drain { worker, reply: oneshot::channel().0 }
        } else {
            Event::Undrain { worker, reply: oneshot::channel().0 }
        };
        self.owner.handle(event, self.now);
        Ok(())
    }

    fn set_policy(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let policy = *input.choose(&PolicyKind::ALL)?;
        self.owner.handle(Event::SetPolicy { policy, reply: oneshot::channel().0 }, self.now);
        Ok(())
    }

    /// What follows from the last step; streams that are told to end do.
    fn settle(&mut self) {
        self.owner.settle(self.now);
        let mut ended = Vec::new();
        for (place, stream) in &mut self.streams {
            while let Ok(order) = stream.orders.try_recv() {
                match order {
                    Order::End(_) | Order::Reject(_) => ended.push(*place),
                    Order::State(_) | Order::DrainAck(_) => {}
                }
            }
        }
        for place in ended {
            self.gone(place, Departure::Broken);
        }
        self.owner.settle(self.now);
    }

    fn check(&self) {
        let registry = &self.owner.registry;
        registry.check_invariants();
        let streams: Vec<_> = self.owner.streams.keys().copied().collect();
        let mut numbers: Vec<_> = registry.workers(self.now).map(|worker| worker.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, streams, "each worker has a stream, and each stream a worker");
        let silence = HEARTBEAT.mul_f64(SILENT_HEARTBEATS);
        for worker in registry.workers(self.ticked_at) {
            assert!(
                worker.silent_for <= silence,
                "silent for {:?}, and still in",
                worker.silent_for
            );
        }
        for (_, view) in self.handle.snapshot().services() {
            for worker in view.workers() {
                let expected = worker.expected_calls(self.now);
                assert!(
                    (0.0..=f64::from(worker.estimate())).contains(&expected),
                    "{expected} calls"
                );
            }
        }
    }

    /// All leave, and nothing is left of them.
    fn end(mut self) {
        for place in 0..STREAMS {
            self.gone(place, Departure::Goodbye);
        }
        self.settle();
        self.check();
        assert_eq!(self.owner.registry.workers(self.now).count(), 0);
        assert_eq!(self.handle.snapshot().services().count(), 0, "services nobody offers");
    }
}

fn chosen<'a>(
    streams: &'a BTreeMap<u8, Stream>,
    input: &mut Unstructured<'_>,
) -> Result<Option<(u8, &'a Stream)>> {
    let index = input.int_in_range(0..=STREAMS - 1)?;
    let count = streams.len().max(1);
    Ok(streams.iter().nth(usize::from(index) % count).map(|(place, stream)| (*place, stream)))
}

/// Small ones mostly, large ones at times, and the largest.
fn number(input: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match input.int_in_range(0..=7)? {
        0 => 0,
        1..=4 => input.int_in_range(0..=8)?,
        5 => input.arbitrary::<u16>()?.into(),
        6 => input.arbitrary::<u32>()?.into(),
        _ => input.arbitrary()?,
    })
}

/// A time, in seconds, that a report adds.
fn amount(input: &mut Unstructured<'_>) -> Result<f64> {
    Ok(match input.int_in_range(0..=7)? {
        0 => 0.0,
        1..=6 => input.arbitrary::<u16>()?.into(),
        _ => input.arbitrary()?,
    })
}
