//! One task per role that keeps the table of that role current and publishes it.
//!
//! The multicast DNS thread knows one subscription per service type: a second one silently takes
//! the events of the first. So the subscription is held once, here, and every [`crate::Browse`]
//! reads the published view. A thread with its own sockets for each browse would work too, at the
//! price of every packet being parsed once per browse and every query being sent once per browse.

use std::{sync::Arc, time::Duration};

use mdns_sd::{Receiver, ServiceDaemon, ServiceEvent};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use crate::{
    Role, Scope,
    table::{Table, View},
};

/// How often the network is asked anew. Left alone, the queries double their distance up to an
/// hour, and a service that was cut off silently stays unknown as long.
const REBROWSE_INTERVAL: Duration = Duration::from_secs(45);
/// When, after a subscription began, what it has not mentioned counts as gone. The cache is replayed
/// within milliseconds; the rest is for a busy machine.
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
    let mut table = Table::new(scope);
    loop {
        match daemon.browse(role.service_type()) {
            Ok(events) => {
                table.subscribed();
                if matches!(follow(&events, &mut table, &publisher).await, End::Closed) {
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

/// Feeds the events of one subscription to the table until it is due for renewal or closed.
async fn follow(
    events: &Receiver<ServiceEvent>,
    table: &mut Table,
    publisher: &watch::Sender<Arc<View>>,
) -> End {
    let start = Instant::now();
    let mut swept = false;
    loop {
        let wake = start + if swept { REBROWSE_INTERVAL } else { SWEEP_DELAY };
        let changed = tokio::select! {
            event = events.recv_async() => match event {
                Ok(event) => take_in(event, events, table),
                Err(_closed) => return End::Closed,
            },
            () = sleep_until(wake) => {
                if swept {
                    return End::Due;
                }
                swept = true;
                table.sweep()
            }
        };
        if changed {
            publisher.send_replace(Arc::new(table.view()));
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
                ServiceEvent::ServiceResolved(service) => table.resolved(&service),
                ServiceEvent::ServiceRemoved(_, instance) => table.removed(&instance),
                _ => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use std::process;

    use crate::{Announcement, Change, Discovery, Role, Scope};

    #[tokio::test]
    async fn a_subscription_that_was_closed_is_opened_again() {
        let name = |prefix: &str| format!("{prefix}-{}", process::id());
        let (id, cluster) = (name("reopened"), name("reopening"));
        let discovery = Discovery::new(Scope::Loopback).unwrap();
        let mut browse = discovery.browse(Role::Worker, &cluster);
        let announcement = |id: &str| Announcement {
            role: Role::Worker,
            id: id.to_owned(),
            cluster: cluster.clone(),
            port: 7201,
            addresses: Vec::new(),
            txt: Vec::new(),
        };
        let _first = discovery.advertise(announcement(&id)).await.unwrap();
        let Change::Up(peer) = browse.next().await else { panic!("expected a peer") };
        assert_eq!(peer.id, id);

        // A second subscription takes the place of the tracker's, which is closed by that.
        drop(discovery.inner.daemon.browse(Role::Worker.service_type()).unwrap());

        let late = name("late");
        let _second = discovery.advertise(announcement(&late)).await.unwrap();
        let Change::Up(peer) = browse.next().await else { panic!("expected the other peer") };
        assert_eq!(peer.id, late);
    }
}
