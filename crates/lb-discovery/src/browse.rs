//! Looking for peers: a stream of changes that never ends.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    sync::Arc,
};

use tokio::sync::watch;

use crate::{Discovery, Peer, table::View};

/// Something about a peer that was not known before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A peer that is new, or known and now different in an address or a TXT value.
    Up(Peer),
    /// A peer that said goodbye, or was not heard of until its records expired.
    Down {
        /// Who it was.
        id: String,
    },
}

/// The peers of one role in one cluster, as a stream of changes.
///
/// It starts with everybody known already. Reading slowly loses nothing but intermediate states:
/// what changes back and forth between two calls of [`Browse::next`] is not reported.
#[derive(Debug)]
pub struct Browse {
    cluster: String,
    views: watch::Receiver<Arc<View>>,
    reported: BTreeMap<String, Arc<Peer>>,
    waiting: VecDeque<Change>,
    /// Keeps the multicast DNS thread running as long as somebody looks.
    _discovery: Discovery,
}

impl Browse {
    pub(crate) fn new(
        discovery: Discovery,
        cluster: &str,
        mut views: watch::Receiver<Arc<View>>,
    ) -> Self {
        views.mark_changed();
        Self {
            cluster: cluster.to_owned(),
            views,
            reported: BTreeMap::new(),
            waiting: VecDeque::new(),
            _discovery: discovery,
        }
    }

    /// Awaits the next change. Never ends: after [`Discovery::shutdown`] it waits for ever.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return change;
            }
            if self.views.changed().await.is_err() {
                pending::<()>().await;
            }
            self.compare();
        }
    }

    /// Queues what differs between the view reported last and the one of now.
    fn compare(&mut self) {
        let view = Arc::clone(&self.views.borrow_and_update());
        let current: BTreeMap<String, Arc<Peer>> = view
            .iter()
            .filter(|((cluster, _), _)| *cluster == self.cluster)
            .map(|((_, id), peer)| (id.clone(), Arc::clone(peer)))
            .collect();
        let gone = self.reported.keys().filter(|id| !current.contains_key(*id));
        self.waiting.extend(gone.map(|id| Change::Down { id: id.clone() }));
        let differs = |(id, peer): &(&String, &Arc<Peer>)| self.reported.get(*id) != Some(*peer);
        let fresh = current.iter().filter(differs);
        self.waiting.extend(fresh.map(|(_, peer)| Change::Up(Peer::clone(peer))));
        self.reported = current;
    }
}
