//! Places for long-lived streams, counted. Their number can be changed while they are taken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tonic::Status;

use lb_proto::retry;

use crate::config::Limits;

/// When a client that found no place should ask again: places become free when others leave, which is seldom.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The places of a balancer.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(crate) sessions: Places,
    pub(crate) watchers: Places,
    pub(crate) event_watchers: Places,
}

impl Streams {
    pub(crate) fn new(limits: Limits) -> Self {
        let Limits { sessions, watchers } = limits;
        Self {
            sessions: Places::new("sessions", sessions),
            watchers: Places::new("watchers", watchers),
            event_watchers: Places::new("watchers", watchers),
        }
    }

    /// Sets new limits. Nobody is sent away: with more streams than places, new ones wait until enough have ended.
    pub(crate) fn resize(&self, limits: Limits) {
        let Limits { sessions, watchers } = limits;
        self.sessions.resize(sessions);
        self.watchers.resize(watchers);
        self.event_watchers.resize(watchers);
    }
}

/// A bounded number of places.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    count: Arc<Count>,
    what: &'static str,
}

#[derive(Debug)]
struct Count {
    taken: AtomicUsize,
    limit: AtomicUsize,
}

/// A place, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Count>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Places {
    fn new(what: &'static str, limit: usize) -> Self {
        let count = Count { taken: AtomicUsize::new(0), limit: AtomicUsize::new(limit) };
        Self { count: Arc::new(count), what }
    }

    fn resize(&self, limit: usize) {
        self.count.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes a place.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED, naming the limit, and when to try again.
    pub(crate) fn take(&self) -> Result<Place, Status> {
        let limit = self.count.limit.load(Ordering::Relaxed);
        let one_more = |taken| (taken < limit).then_some(taken + 1);
        let taken = self.count.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if taken.is_ok() {
            return Ok(Place(Arc::clone(&self.count)));
        }
        let what = self.what;
        let message =
            format!("this balancer already has {limit} {what}, its limit (limits.{what})");
        Err(retry::exhausted(message, RETRY_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_places_send_nobody_away() {
        let places = Places::new("sessions", 2);
        let (first, second) = (places.take().unwrap(), places.take().unwrap());
        let status = places.take().unwrap_err();
        assert!(status.message().contains("2 sessions, its limit (limits.sessions)"), "{status}");
        assert!(status.metadata().contains_key(retry::PUSHBACK_KEY));
        places.resize(1);
        drop(first);
        assert!(places.take().is_err());
        drop(second);
        let _one = places.take().unwrap();
        assert!(places.take().is_err());
        places.resize(2);
        assert!(places.take().is_ok());
    }
}
