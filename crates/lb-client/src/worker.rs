//! The workers this client knows, each with its connection and the calls it has there.
//!
//! A worker is one id at one address. The session names it by number, the Watch list by id; both
//! end at the same record, so that a client thrown back on its own list knows at once what it has
//! outstanding, and finds its connections open.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::uri::Authority;
use lb_core::id::WorkerId;
use lb_tls::{Expected, Tls};

use crate::connection::Connection;

/// How long a worker that could not be reached is avoided: long enough that a burst of calls does
/// not dial it once each, short enough that a restarted one is soon back.
pub(crate) const EJECTION: Duration = Duration::from_secs(1);
/// A connection that nobody used for this long, to a worker that left the list, is closed.
pub(crate) const IDLE_CLOSE: Duration = Duration::from_secs(30);
/// Most connections kept open while idle: far above a fleet of any lab, far below the usual limit
/// of 1024 open files.
pub(crate) const CONNECTION_LIMIT: usize = 512;

/// Milliseconds since the first use of the clock in this process.
pub(crate) fn now_ms() -> u64 {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    millis(EPOCH.elapsed())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One worker at one address.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) address: Arc<str>,
    /// The address as it stands in requests; `None` when it is none, which dialling finds out too.
    pub(crate) authority: Option<Authority>,
    pub(crate) connection: Connection,
    outstanding: AtomicU32,
    ejected_until_ms: AtomicU64,
    last_used_ms: AtomicU64,
}

impl Worker {
    pub(crate) fn new(id: WorkerId, address: &str, tls: Tls) -> Self {
        let address: Arc<str> = address.into();
        let expected = Expected::Worker(id.clone());
        Self {
            id,
            connection: Connection::new(Arc::clone(&address), tls, expected),
            authority: address.parse().ok(),
            address,
            outstanding: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            last_used_ms: AtomicU64::new(0),
        }
    }

    /// Calls of this client that are in the worker or on their way.
    pub(crate) fn outstanding(&self) -> u32 {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Avoids the worker for [`EJECTION`].
    pub(crate) fn eject(&self, now_ms: u64) {
        self.ejected_until_ms.store(now_ms + millis(EJECTION), Ordering::Relaxed);
    }

    /// Ends the avoidance: the worker answered.
    pub(crate) fn reinstate(&self) {
        if self.ejected_until_ms.load(Ordering::Relaxed) != 0 {
            self.ejected_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the worker failed a moment ago.
    pub(crate) fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_until_ms.load(Ordering::Relaxed) > now_ms
    }
}

/// One call counted at its worker; dropping it takes the count back, however the call ended.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Worker>);

impl InFlight {
    pub(crate) fn new(worker: Arc<Worker>) -> Self {
        worker.outstanding.fetch_add(1, Ordering::Relaxed);
        Self(worker)
    }

    pub(crate) fn worker(&self) -> &Arc<Worker> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.last_used_ms.store(now_ms(), Ordering::Relaxed);
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

type Key = (WorkerId, Arc<str>);

/// All workers named to this client so far and not yet forgotten.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    table: Mutex<HashMap<Key, Arc<Worker>>>,
    /// How to speak with them.
    tls: Tls,
}

impl Workers {
    pub(crate) fn new(tls: Tls) -> Self {
        Self { table: Mutex::default(), tls }
    }

    /// The record of a worker, made when it is named for the first time.
    pub(crate) fn intern(&self, id: &WorkerId, address: &str) -> Arc<Worker> {
        let mut table = self.table();
        let key = (id.clone(), Arc::from(address));
        Arc::clone(table.entry(key).or_insert_with(|| {
            let worker = Worker::new(id.clone(), address, self.tls.clone());
            worker.last_used_ms.store(now_ms(), Ordering::Relaxed);
            Arc::new(worker)
        }))
    }

    /// Calls of this client that have not ended yet.
    pub(crate) fn outstanding(&self) -> u32 {
        self.table().values().map(|worker| worker.outstanding()).sum()
    }

    /// Forgets workers that left the list and are idle, and closes the longest idle connections
    /// above [`CONNECTION_LIMIT`].
    pub(crate) fn sweep(&self, is_listed: impl Fn(&Arc<Worker>) -> bool, now_ms: u64) {
        let mut table = self.table();
        table.retain(|_, worker| {
            let idle_ms = now_ms.saturating_sub(worker.last_used_ms.load(Ordering::Relaxed));
            let forget =
                worker.outstanding() == 0 && idle_ms >= millis(IDLE_CLOSE) && !is_listed(worker);
            if forget {
                worker.connection.close();
            }
            !forget
        });
        close_above(table.values(), CONNECTION_LIMIT);
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Worker>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes idle connections, the longest idle first, until at most `limit` are open.
fn close_above<'a>(workers: impl Iterator<Item = &'a Arc<Worker>>, limit: usize) {
    let mut open: Vec<&Arc<Worker>> =
        workers.filter(|worker| worker.connection.is_open()).collect();
    let surplus = open.len().saturating_sub(limit);
    if surplus == 0 {
        return;
    }
    open.sort_by_key(|worker| worker.last_used_ms.load(Ordering::Relaxed));
    open.iter()
        .filter(|worker| worker.outstanding() == 0)
        .take(surplus)
        .for_each(|worker| worker.connection.close());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> WorkerId {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_worker_is_one_record() {
        let workers = Workers::default();
        let one = workers.intern(&id("a"), "127.0.0.1:1");
        assert!(Arc::ptr_eq(&one, &workers.intern(&id("a"), "127.0.0.1:1")));
        assert!(!Arc::ptr_eq(&one, &workers.intern(&id("a"), "127.0.0.1:2")));
    }

    #[test]
    fn ejection_passes() {
        let worker = Worker::new(id("a"), "127.0.0.1:1", Tls::open());
        worker.eject(5_000);
        assert!(worker.is_ejected(5_999));
        assert!(!worker.is_ejected(6_000));
        worker.eject(5_000);
        worker.reinstate();
        assert!(!worker.is_ejected(5_000));
    }

    #[test]
    fn only_idle_workers_off_the_list_are_forgotten() {
        let workers = Workers::default();
        let busy = InFlight::new(workers.intern(&id("busy"), "127.0.0.1:1"));
        workers.intern(&id("listed"), "127.0.0.1:2");
        workers.intern(&id("gone"), "127.0.0.1:3");
        let later = now_ms() + millis(IDLE_CLOSE);
        workers.sweep(|worker| worker.id.as_str() == "listed", later);
        let mut left: Vec<String> = workers.table().keys().map(|(id, _)| id.to_string()).collect();
        left.sort();
        assert_eq!(left, ["busy", "listed"]);
        assert_eq!(workers.outstanding(), 1);
        drop(busy);
        assert_eq!(workers.outstanding(), 0);
    }
}
