//! Frames of HTTP/2 that a peer sends, counted by what they cost it and us.
//!
//! PING, SETTINGS, `RST_STREAM`, PRIORITY, CONTINUATION and the like carry nothing, cost the one who gets them as much as the one
//! who sends them, and h2 answers them as fast as they come. An honest peer sends few: some for what it receives (windows,
//! measurements of the round trip), and one for a call that it gives up. Where requests are answered at once, many that come
//! before the first answers are the same.
//!
//! So a connection has an allowance, which grows with time and with what it is sent: an answer pays for its request and more. What
//! goes beyond is lent from another one that its address has for all its connections. When both are spent, nothing more is read
//! from the connection until there is something again, and TCP holds up the sender.
//!
//! Source: section 10.5 of RFC 9113 names the abuse; CVE-2019-9512 (PING), -9515 (SETTINGS), CVE-2023-44487 (`RST_STREAM`),
//! VU#421644 (CONTINUATION).

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What a client says first (RFC 9113, section 3.4), in bytes.
const PREFACE: usize = 24;
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;

/// Longest honest headers of a request as they are sent, in bytes: the daemons refuse longer ones. They have to be decoded all
/// the same, which takes as long as so many frames for each
const HEADER_LIMIT: usize = 16 << 10;
/// bytes beyond.
const BYTES_DECODED: usize = 16;

/// What a connection may send at once: more than any does in its first moments.
const OF_CONNECTION: Growth = Growth { burst: 8, per_second: 1 };
/// What all connections of an address may together, beyond that: a client that begins, or gives up, a thousand calls at once.
const OF_ADDRESS: Growth = Growth { burst: 1000, per_second: 100 };
/// Bytes that are read at a time from a connection on which requests count, until it has been sent
const FRESH_READ: usize = 512;
/// so many: whatever is read at once is acted upon as a whole, and 8 KiB of requests are eighty.
const FRESH_SENT: u64 = 16 << 10;
/// And one for so many bytes sent. The smallest answer has 36, and clients answer it with an update of a window or a PING.
const BYTES_FOR_ONE: i64 = 16;
/// But not those that h2 answers a PING or a SETTINGS with by itself, in bytes.
const PONG: i64 = 17;
const SETTINGS_ACK: i64 = 9;

#[derive(Debug, Clone, Copy)]
struct Growth {
    burst: u64,
    per_second: u64,
}

#[derive(Debug)]
struct Allowance {
    growth: Growth,
    spent: u64,
    counted_at: Instant,
}

impl Allowance {
    fn new(growth: Growth, now: Instant) -> Self {
        Self { growth, spent: 0, counted_at: now }
    }

    /// Adds what has grown by now.
    fn grow(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted_at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let grown = passed.saturating_mul(self.growth.per_second) / 1000;
        if grown > 0 {
            self.spent = self.spent.saturating_sub(grown);
            self.counted_at = now;
        }
    }

    fn over(&self) -> u64 {
        self.spent.saturating_sub(self.growth.burst)
    }
}

/// What an address may send beyond what its connections may.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<Allowance>);

impl Default for Shared {
    fn default() -> Self {
        Self(Mutex::new(Allowance::new(OF_ADDRESS, Instant::now())))
    }
}

impl Shared {
    /// Whether all has grown back.
    pub(crate) fn is_whole(&self, now: Instant) -> bool {
        self.with(now, |shared| shared.spent == 0)
    }

    /// Lends up to so many, and says how many.
    fn lend(&self, wanted: u64, now: Instant) -> u64 {
        self.with(now, |shared| {
            let lent = wanted.min(shared.growth.burst.saturating_sub(shared.spent));
            shared.spent += lent;
            lent
        })
    }

    fn give_back(&self, lent: u64, now: Instant) {
        self.with(now, |shared| shared.spent = shared.spent.saturating_sub(lent));
    }

    fn with<T>(&self, now: Instant, act: impl FnOnce(&mut Allowance) -> T) -> T {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.grow(now);
        act(&mut shared)
    }
}

/// Walks over what is read, from header to header.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Whether a request counts as well.
    requests_count: bool,
    /// Bytes to pass over before the next header; at first, those of the preface.
    skip: usize,
    begun: bool,
    header: [u8; HEADER],
    /// Of the header, so many are there.
    have: usize,
    /// Bytes of the headers of the request that came last.
    block: usize,
    own: Allowance,
    lent: u64,
    /// Bytes sent that have not been counted yet.
    earned: i64,
    sent: u64,
}

impl Frames {
    pub(crate) fn new(requests_count: bool, now: Instant) -> Self {
        Self {
            requests_count,
            skip: PREFACE,
            begun: false,
            header: [0; HEADER],
            have: 0,
            block: 0,
            own: Allowance::new(OF_CONNECTION, now),
            lent: 0,
            earned: 0,
            sent: 0,
        }
    }

    /// Whether the preface has come.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// What counts of the frames that begin in these bytes.
    pub(crate) fn count(&mut self, mut bytes: &[u8]) -> u32 {
        let mut count: u32 = 0;
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            self.begun |= self.skip == 0;
            bytes = &bytes[passed..];
            if bytes.is_empty() {
                return count;
            }
            let taken = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < HEADER {
                return count;
            }
            self.have = 0;
            count = count.saturating_add(self.frame());
        }
    }

    /// What the frame counts whose header is there.
    fn frame(&mut self) -> u32 {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            DATA => u32::from(self.skip == 0 && flags & END_STREAM == 0),
            HEADERS => {
                self.block = 0;
                u32::from(self.requests_count) + self.decoded()
            }
            CONTINUATION => 1 + self.decoded(),
            PING | SETTINGS if flags & ACK == 0 => {
                self.earned -= if kind == PING { PONG } else { SETTINGS_ACK };
                1
            }
            _ => 1,
        }
    }

    fn decoded(&mut self) -> u32 {
        let before = self.block.max(HEADER_LIMIT);
        self.block += self.skip;
        u32::try_from(self.block.saturating_sub(before) / BYTES_DECODED).unwrap_or(u32::MAX)
    }

    /// So many bytes were sent to the peer.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.earned = self.earned.saturating_add_unsigned(bytes as u64);
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// How much may be read at once; `None`: whatever there is.
    pub(crate) fn most(&self) -> Option<usize> {
        (self.requests_count && self.sent < FRESH_SENT).then_some(FRESH_READ)
    }

    /// Takes off the allowances, and says for how long nothing should be read unless something is sent meanwhile.
    pub(crate) fn spend(&mut self, count: u32, shared: &Shared, now: Instant) -> Option<Duration> {
        self.own.grow(now);
        self.own.spent += u64::from(count);
        self.settle(shared, now);
        let over = self.own.over();
        if over == 0 {
            return None;
        }
        let lent = shared.lend(over, now);
        self.lent += lent;
        self.own.spent -= lent;
        let over = over - lent;
        (over > 0).then(|| Duration::from_millis(over * 1000 / OF_CONNECTION.per_second))
    }

    /// Pays with what was earned: the connection's own first, and then what was lent.
    fn settle(&mut self, shared: &Shared, now: Instant) {
        let earned = u64::try_from(self.earned / BYTES_FOR_ONE).unwrap_or(0);
        if earned == 0 {
            return;
        }
        self.earned %= BYTES_FOR_ONE;
        let left = earned.saturating_sub(self.own.spent);
        self.own.spent = self.own.spent.saturating_sub(earned);
        let back = left.min(self.lent);
        if back > 0 {
            self.lent -= back;
            shared.give_back(back, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let bytes = u32::try_from(length).unwrap().to_be_bytes();
        let mut frame = vec![bytes[1], bytes[2], bytes[3], kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER + length, 7);
        frame
    }

    #[test]
    fn counts_what_carries_nothing_however_it_is_cut() {
        let mut stream = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let requests =
            [frame(HEADERS, 4, 16_384), frame(DATA, 0, 70_000), frame(DATA, END_STREAM, 0)];
        let empty = [frame(SETTINGS, 0, 12), frame(PING, 0, 8), frame(3, 0, 4), frame(DATA, 0, 0)];
        // 16 KiB, and 1,600 bytes that are too many.
        let large = [frame(HEADERS, 0, 10_000), frame(CONTINUATION, 4, 6384 + 1600)];
        for part in requests.iter().chain(&empty).chain(&large).chain(&requests) {
            stream.extend_from_slice(part);
        }
        for size in [1, 2, 8, 9, 10, 24, 1000, stream.len()] {
            for requests_count in [false, true] {
                let mut frames = Frames::new(requests_count, Instant::now());
                assert!(!frames.has_begun());
                let counted: u32 = stream.chunks(size).map(|bytes| frames.count(bytes)).sum();
                let expected = 4 + 1 + 100 + if requests_count { 3 } else { 0 };
                assert_eq!(counted, expected, "cut into {size}");
                assert!(frames.has_begun());
                assert_eq!((frames.skip, frames.have), (0, 0));
            }
        }
    }

    #[test]
    fn allowances_grow_with_time_and_with_what_is_sent() {
        let (now, shared) = (Instant::now(), Shared::default());
        let mut frames = Frames::new(false, now);
        assert_eq!(frames.spend(1008, &shared, now), None);
        assert_eq!(frames.spend(1, &shared, now), Some(Duration::from_secs(1)));
        let later = now + Duration::from_millis(1010);
        assert_eq!(frames.spend(100, &shared, later), None);
        frames.sent(1600);
        assert_eq!(frames.spend(100, &shared, later), None);
        assert!(frames.spend(20, &shared, later).is_some());
        assert_eq!(frames.spend(0, &shared, later + Duration::from_secs(60)), None);
    }

    #[test]
    fn what_was_lent_is_paid_back_by_answers() {
        let (now, shared) = (Instant::now(), Shared::default());
        let mut frames = Frames::new(true, now);
        for _ in 0..10_000 {
            assert_eq!(frames.spend(500, &shared, now), None);
            frames.sent(36 * 500);
        }
        assert_eq!(frames.spend(0, &shared, now), None);
        assert!(shared.is_whole(now));
    }

    #[test]
    fn connections_of_an_address_share_what_goes_beyond() {
        let (now, shared) = (Instant::now(), Shared::default());
        let mut flood = Frames::new(false, now);
        assert!(flood.spend(5000, &shared, now).is_some());
        let (mut second, mut elsewhere) = (Frames::new(false, now), Frames::new(false, now));
        assert_eq!(second.spend(8, &shared, now), None);
        assert!(second.spend(1, &shared, now).is_some());
        assert_eq!(elsewhere.spend(500, &Shared::default(), now), None);
    }

    #[test]
    fn answers_to_a_flood_do_not_pay_for_it() {
        for (kind, answer) in [(PING, 17), (SETTINGS, 9)] {
            let (now, shared) = (Instant::now(), Shared::default());
            let mut frames = Frames::new(false, now);
            let (one, mut answered) = (frame(kind, 0, 0), 0);
            frames.count(&[0; PREFACE]);
            while frames.count(&one) == 1 && frames.spend(1, &shared, now).is_none() {
                frames.sent(answer);
                answered += 1;
            }
            assert_eq!(answered, 1008);
        }
    }
}
