//! One task for all streams: it makes the lists, while somebody reads them.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep},
};

use lb_xds::{Builder, Lists, SAMPLE};

use crate::owner::Handle;

/// Least time between two lists: when many workers come at once, clients get a few lists, not one each. A worker that drains is off
/// the list of every client well within a twentieth of a second.
const SPACING: Duration = Duration::from_millis(10);

/// Makes lists until the owner stops. `wanted`: somebody new reads.
pub(super) async fn run(
    owner: Handle,
    lists: watch::Sender<Option<Arc<Lists>>>,
    wanted: Arc<Notify>,
) {
    let mut changes = owner.changes();
    let mut builder = Builder::default();
    let mut samples = interval(SAMPLE);
    samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            more = changes.changed() => if more.is_err() { return },
            () = wanted.notified() => {}
            _ = samples.tick() => {}
        }
        let snapshot = Arc::clone(&changes.borrow_and_update());
        if lists.receiver_count() == 0 {
            // What nobody reads grows old: whoever comes waits for new ones.
            if lists.send_replace(None).is_some() {
                builder = Builder::default();
            }
            continue;
        }
        if let Some(new) = builder.update(&snapshot, owner.now()) {
            drop(lists.send_replace(Some(new)));
            sleep(SPACING).await;
        }
    }
}
