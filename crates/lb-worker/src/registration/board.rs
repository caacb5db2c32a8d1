//! All live registrations, as everyone in this process may see them.
//!
//! A registration puts itself up when a balancer has accepted it and takes itself down when its
//! stream ends; in between it shows what the balancer has said about draining.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use lb_core::id::BalancerId;
use lb_proto::v1;

use crate::load::TallyId;

/// One task that keeps a registration.
pub(crate) type Key = u64;

#[derive(Debug)]
pub(crate) struct Board {
    entries: watch::Sender<BTreeMap<Key, Entry>>,
    keys: AtomicU64,
}

/// One live registration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) balancer: BalancerId,
    /// Where its tokens are counted.
    pub(crate) tally: TallyId,
    /// The balancer's answer to a report that said DRAINING.
    pub(crate) drain: Option<DrainAnswer>,
}

/// "I pick you no more; this much may still come."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DrainAnswer {
    pub(crate) picked_expected: u64,
    pub(crate) session_expected: u64,
    /// Nothing arrives later than this.
    pub(crate) lease_ends: Instant,
}

/// A lease longer than this is not believed; stopping must end.
const LEASE_MOST: Duration = Duration::from_secs(60);

impl DrainAnswer {
    pub(crate) fn new(ack: &v1::DrainAck, now: Instant) -> Self {
        let lease = Duration::from_millis(ack.lease_ms.into()).min(LEASE_MOST);
        Self {
            picked_expected: ack.picked_expected,
            session_expected: ack.session_expected,
            lease_ends: now + lease,
        }
    }
}

impl Board {
    pub(crate) fn new() -> Self {
        Self { entries: watch::Sender::new(BTreeMap::new()), keys: AtomicU64::new(0) }
    }

    pub(crate) fn new_key(&self) -> Key {
        self.keys.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<BTreeMap<Key, Entry>> {
        self.entries.subscribe()
    }

    /// Shows a registration until the returned value is dropped.
    pub(super) fn put_up(&self, key: Key, entry: Entry) -> Shown {
        self.entries.send_modify(|entries| {
            entries.insert(key, entry);
        });
        Shown { entries: self.entries.clone(), key }
    }

    /// Returns when nobody but `key` is registered with `balancer`.
    pub(super) async fn wait_until_free(&self, balancer: &BalancerId, key: Key) {
        let is_free = |entries: &BTreeMap<Key, Entry>| {
            !entries.iter().any(|(other, entry)| *other != key && entry.balancer == *balancer)
        };
        // The sender lives as long as `self`: waiting cannot fail.
        let _ = self.entries.subscribe().wait_for(is_free).await;
    }
}

#[derive(Debug)]
pub(super) struct Shown {
    entries: watch::Sender<BTreeMap<Key, Entry>>,
    key: Key,
}

impl Shown {
    pub(super) fn set_drain(&self, answer: Option<DrainAnswer>) {
        self.entries.send_if_modified(|entries| match entries.get_mut(&self.key) {
            Some(entry) if entry.drain != answer => {
                entry.drain = answer;
                true
            }
            _ => false,
        });
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.entries.send_modify(|entries| {
            entries.remove(&self.key);
        });
    }
}
