//! The kinds of attacks.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use prost::Message as _;

use lb_proto::v1::{
    Hello, PickRequest, SessionOpen, SessionRequest, WorkerMessage, worker_message::Kind as Said,
};

use super::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
    call, frame, headers, hello, message, prefixed,
};
use crate::{echo::SERVICE, roles::CLUSTER};

const PICK: &str = "/lb.v1.LoadBalancer/Pick";
const SESSION: &str = "/lb.v1.LoadBalancer/Session";
const REGISTER: &str = "/lb.v1.Registry/Register";

/// Between two steps of those that are slow.
const SLOW: Duration = Duration::from_secs(1);
/// What those that are fast send at once, in frames: as much as fits into a read.
const TOGETHER: u32 = 64;
/// Calls that are begun on one connection and not gone on with.
const HALF_CALLS: u32 = 64;
/// Picks at a time of which no answer is read.
const UNREAD: u32 = 2;
/// Largest payload of a frame.
const FRAME: usize = 16_384;

/// How they attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Connect, and say nothing
    Idle,
    /// Half of the preface, and then a byte a second
    HalfPreface,
    /// Headers that come a byte a second and do not end
    SlowHeaders,
    /// Answer PINGs, and make no call
    Answering,
    /// A session every second, that never says what it is for
    SilentSession,
    /// A session that was opened and then picks nothing
    IdleSession,
    /// A registration every second, that never says hello
    HalfRegistration,
    /// 64 picks whose message never comes
    HalfPick,
    /// A session's message of 64 KB, but for its last bytes
    HalfMessage,
    /// Registrations whose message says that it has a gigabyte
    HugeMessage,
    /// Picks that are given up at once (CVE-2023-44487)
    RapidReset,
    /// PINGs
    Pings,
    /// SETTINGS
    Settings,
    /// Headers that go on without end, in large frames
    Continuation,
    /// Calls with 64 KB of headers
    HeaderList,
    /// Random bytes
    Garbage,
    /// Workers that register and are gone at once
    Churn,
    /// Two picks every second, whose answers are never read
    Unread,
}

type Again = Box<dyn FnMut(u32) -> Vec<u8> + Send>;

/// What one connection does.
pub(super) struct Plan {
    pub(super) opening: Vec<u8>,
    /// And then again and again, by how many times it was done, from 1.
    pub(super) again: Option<Again>,
    /// Before each time; `None`: as fast as it is taken.
    pub(super) pause: Option<Duration>,
    /// Whether it reads what it is told.
    pub(super) reads: bool,
    /// Whether it answers SETTINGS and PING.
    pub(super) answers: bool,
}

impl fmt::Debug for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Plan").field("pause", &self.pause).finish_non_exhaustive()
    }
}

impl Plan {
    /// Says this, and then nothing more.
    fn once(opening: Vec<u8>) -> Self {
        Self { opening, again: None, pause: None, reads: true, answers: false }
    }

    /// A flood of this, after what a client says first.
    fn flood(again: impl FnMut(u32) -> Vec<u8> + Send + 'static) -> Self {
        Self { again: Some(Box::new(again)), ..Self::once(hello()) }
    }

    /// This after what a client says first, and then it looks alive.
    fn alive(opening: Vec<u8>) -> Self {
        Self { answers: true, ..Self::once([hello(), opening].concat()) }
    }

    fn slowly(self, again: impl FnMut(u32) -> Vec<u8> + Send + 'static) -> Self {
        Self { again: Some(Box::new(again)), pause: Some(SLOW), ..self }
    }
}

/// The client's stream of this number, from 0.
fn stream(number: u32) -> u32 {
    2 * number + 1
}

impl Kind {
    pub(super) fn reads(self) -> bool {
        self != Self::Unread
    }

    /// What the attacker of this number does.
    pub(super) fn plan(self, attacker: u32) -> Plan {
        match self {
            Self::Idle => Plan::once(vec![]),
            Self::HalfPreface => {
                let (half, rest) = PREFACE.split_at(12);
                let byte = |time: u32| vec![rest[time as usize % rest.len()]];
                Plan::once(half.to_vec()).slowly(byte)
            }
            Self::SlowHeaders => {
                let begun = frame(HEADERS, 0, 1, &headers(PICK)[..4]);
                // An answer would have to wait for their end.
                Plan::once([hello(), begun].concat()).slowly(|_| frame(CONTINUATION, 0, 1, b"\x00"))
            }
            Self::Answering => Plan::alive(vec![]),
            Self::SilentSession => {
                Plan::alive(call(1, SESSION)).slowly(|time| call(stream(time), SESSION))
            }
            Self::IdleSession => {
                let open = SessionOpen { service: SERVICE.into(), ..SessionOpen::default() };
                let open = SessionRequest { open: Some(open), ..SessionRequest::default() };
                let open = message(1, 0, &open.encode_to_vec());
                Plan::alive([call(1, SESSION), open].concat())
            }
            Self::HalfRegistration => {
                Plan::alive(call(1, REGISTER)).slowly(|time| call(stream(time), REGISTER))
            }
            Self::HalfPick => {
                Plan::alive((0..HALF_CALLS).flat_map(|call_| call(stream(call_), PICK)).collect())
            }
            Self::HalfMessage => Plan::alive(half_message()),
            Self::HugeMessage => Plan::flood(|time| {
                let begun = prefixed(1 << 30, &[0; 1000]);
                [call(stream(time), REGISTER), frame(DATA, 0, stream(time), &begun)].concat()
            }),
            Self::RapidReset => Plan::flood(|time| {
                let numbers = time * TOGETHER..(time + 1) * TOGETHER;
                let given_up = |number| {
                    let reset = frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes());
                    [call(stream(number), PICK), reset].concat()
                };
                numbers.flat_map(given_up).collect()
            }),
            Self::Pings => Plan::flood(|_| frame(PING, 0, 0, &[1; 8]).repeat(TOGETHER as usize)),
            Self::Settings => Plan::flood(|_| frame(SETTINGS, 0, 0, &[]).repeat(TOGETHER as usize)),
            Self::Continuation => {
                let begun = frame(HEADERS, 0, 1, &headers(PICK));
                let more = frame(CONTINUATION, 0, 1, &fields(FRAME));
                let opening = [hello(), begun].concat();
                Plan { opening, ..Plan::flood(move |_| more.clone()) }
            }
            Self::HeaderList => Plan::flood(large_headers),
            Self::Garbage => Plan {
                opening: vec![],
                ..Plan::flood(|_| std::iter::repeat_with(|| fastrand::u8(..)).take(1024).collect())
            },
            Self::Churn => Plan::flood(move |time| come_and_go(attacker, time)),
            Self::Unread => Plan { reads: false, ..Plan::once(hello()).slowly(picks) },
        }
    }
}

/// Within the first window of a stream.
fn half_message() -> Vec<u8> {
    let bytes = prefixed(64_000, &[0x0a].repeat(60_000));
    let frames = bytes.chunks(FRAME).flat_map(|part| frame(DATA, 0, 1, part));
    call(1, SESSION).into_iter().chain(frames).collect()
}

/// Header fields of so many bytes, none of which is kept.
fn fields(bytes: usize) -> Vec<u8> {
    b"\x00\x01a\x3c".iter().copied().chain([b'b'; 60]).cycle().take(bytes / 64 * 64).collect()
}

fn large_headers(time: u32) -> Vec<u8> {
    let number = stream(time);
    let first = [headers(PICK), fields(FRAME - 128)].concat();
    let more = fields(FRAME);
    [
        frame(HEADERS, END_STREAM, number, &first),
        frame(CONTINUATION, 0, number, &more),
        frame(CONTINUATION, 0, number, &more),
        frame(CONTINUATION, END_HEADERS, number, &more),
    ]
    .concat()
}

fn come_and_go(attacker: u32, time: u32) -> Vec<u8> {
    let hello = Hello {
        worker_id: format!("h-{attacker}-{time}"),
        instance: time.into(),
        cluster: CLUSTER.into(),
        address: ":4000".into(),
        services: vec!["hostile.Service".into()],
        slots: 1,
        ..Hello::default()
    };
    let hello = WorkerMessage { kind: Some(Said::Hello(hello)) };
    let number = stream(time);
    // The end of its half is the end of the worker.
    [call(number, REGISTER), message(number, END_STREAM, &hello.encode_to_vec())].concat()
}

fn picks(time: u32) -> Vec<u8> {
    let wanted = PickRequest { service: SERVICE.into(), ..PickRequest::default() }.encode_to_vec();
    let pick = |number| [call(number, PICK), message(number, END_STREAM, &wanted)].concat();
    (time * UNREAD..(time + 1) * UNREAD).map(stream).flat_map(pick).collect()
}
