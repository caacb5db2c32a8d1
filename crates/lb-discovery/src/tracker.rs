//! One task per role that keeps the table of that role current and publishes it.
//!
//! The multicast DNS thread knows one subscription per service type: a second one silently takes
//! the events of the first. So the subscription is held once, here, and every [`crate::Browse`]
//! reads the published view. A thread with its own sockets for each browse would work too, at the
//! price of every packet being parsed once per browse and every query being sent once per browse.
//!
//! Each subscription begins with an [`Inquiry`], which finds in milliseconds what the subscription
//! may have to wait a second for. What the subscription has still not heard of is asked for again
//! at every sweep, so it lasts as long as it answers. A goodbye that comes before the subscription
//! knows what it is about may be lost on it: such a peer goes two sweeps later at the latest.

use std::{sync::Arc, time::Duration};

use mdns_sd::{Receiver, ServiceDaemon, ServiceEvent};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use crate::{
    Role, Scope,
    inquiry::Inquiry,
    table::{Table, View},
};

/// How often the network is asked anew. Left alone, the queries double their distance up to an
/// hour, and a service that was cut off silently stays unknown as long.
const REBROWSE_INTERVAL: Duration = Duration::from_secs(45);
/// When, after a subscription or an inquiry began, what neither has mentioned counts as gone. The
/// cache is replayed within milliseconds, an inquiry takes a second; the rest is for a busy machine.
const SWEEP_DELAY: Duration = Duration::from_secs(3);
/// Pause before a subscription that was closed, or refused, is opened again: it keeps a reader that
/// cannot follow from spinning.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Why reading a subscription ended.
enum End {
    /// Time to ask anew.
    Due,
    /// Closed from the other side: the reader lagged, or the thread stopped.
    Closed,
}

/// Keeps `publisher` current until the multicast DNS thread has stopped.
pub(crate) async fn track(
    daemon: ServiceDaemon,
    role: Role,
    scope: Scope,
    publisher: watch::Sender<Arc<View>>,
) {
    let mut tracker = Tracker { role, scope, table: Table::new(scope), publisher };
    loop {
        match daemon.browse(role.service_type()) {
            Ok(events) => {
                if matches!(tracker.follow(&events).await, End::Closed) {
                    debug!(%role, "the subscription was closed, opening another");
                    sleep(RETRY_PAUSE).await;
                }
            }
            Err(mdns_sd::Error::DaemonShutdown) => return,
            Err(error) => {
                debug!(%role, %error, "cannot browse yet");
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// The table of one role and its readers.
struct Tracker {
    role: Role,
    scope: Scope,
    table: Table,
    publisher: watch::Sender<Arc<View>>,
}

impl Tracker {
    /// Feeds the events of one subscription, and what is found by asking, to the table until the
    /// subscription is due for renewal or closed.
    async fn follow(&mut self, events: &Receiver<ServiceEvent>) -> End {
        let due = Instant::now() + REBROWSE_INTERVAL;
        let mut sweep = Instant::now() + SWEEP_DELAY;
        let mut inquiry = Inquiry::start(self.role, self.scope);
        self.table.subscribed();
        loop {
            let changed = tokio::select! {
                event = events.recv_async() => match event {
                    Ok(event) => take_in(event, events, &mut self.table),
                    Err(_closed) => return End::Closed,
                },
                Some(found) = inquiry.next() => {
                    found.iter().fold(false, |changed, one| changed | self.table.found(one))
                }
                () = sleep_until(due) => return End::Due,
                () = sleep_until(sweep) => {
                    let lost = self.table.sweep();
                    sweep = due;
                    if self.table.needs_inquiry() {
                        sweep = Instant::now() + SWEEP_DELAY;
                        inquiry = Inquiry::start(self.role, self.scope);
                    }
                    lost
                }
            };
            if changed {
                self.publisher.send_replace(Arc::new(self.table.view()));
            }
        }
    }
}

/// Takes in `first` and whatever else waits, so that a burst is published once.
fn take_in(first: ServiceEvent, events: &Receiver<ServiceEvent>, table: &mut Table) -> bool {
    /// Events per publication, so that a flood cannot keep the view from its readers.
    const BURST_LIMIT: usize = 256;
    let waiting = events.try_iter().take(BURST_LIMIT);
    std::iter::once(first).chain(waiting).fold(false, |changed, event| {
        changed
            | match event {
                ServiceEvent::ServiceResolved(service) => table.resolved(&(&*service).into()),
                ServiceEvent::ServiceRemoved(_, instance) => table.removed(&instance),
                _ => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;
    use crate::{Announcement, Change, Discovery};

    fn announcement(id: &str, cluster: &str) -> Announcement {
        Announcement {
            role: Role::Worker,
            id: id.to_owned(),
            cluster: cluster.to_owned(),
            port: 7201,
            addresses: Vec::new(),
            txt: Vec::new(),
        }
    }

    /// A subscription that never says anything, as the real one may for its first second.
    #[tokio::test]
    async fn a_running_service_is_known_before_the_subscription_speaks() {
        let (id, cluster) = (format!("early-{}", process::id()), "earliness".to_owned());
        let discovery = Discovery::new(Scope::Loopback).unwrap();
        let _advertisement = discovery.advertise(announcement(&id, &cluster)).await.unwrap();
        let silence = discovery.inner.daemon.browse("_lb-nobody._tcp.local.").unwrap();
        for _ in 0..10 {
            let (publisher, mut views) = watch::channel(Arc::default());
            let table = Table::new(Scope::Loopback);
            let mut tracker =
                Tracker { role: Role::Worker, scope: Scope::Loopback, table, publisher };
            let identity = (cluster.clone(), id.clone());
            tokio::select! {
                _ended = tracker.follow(&silence) => panic!("not found by asking"),
                view = views.wait_for(|view| view.contains_key(&identity)) => {
                    assert_eq!(view.unwrap()[&identity].addresses[0].port(), 7201);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_subscription_that_was_closed_is_opened_again() {
        let name = |prefix: &str| format!("{prefix}-{}", process::id());
        let (id, cluster) = (name("reopened"), name("reopening"));
        let discovery = Discovery::new(Scope::Loopback).unwrap();
        let mut browse = discovery.browse(Role::Worker, &cluster);
        let _first = discovery.advertise(announcement(&id, &cluster)).await.unwrap();
        let Change::Up(peer) = browse.next().await else { panic!("expected a peer") };
        assert_eq!(peer.id, id);

        // A second subscription takes the place of the tracker's, which is closed by that.
        drop(discovery.inner.daemon.browse(Role::Worker.service_type()).unwrap());

        let late = name("late");
        let _second = discovery.advertise(announcement(&late, &cluster)).await.unwrap();
        let Change::Up(peer) = browse.next().await else { panic!("expected the other peer") };
        assert_eq!(peer.id, late);
    }
}
