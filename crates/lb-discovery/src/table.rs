//! Everybody known of one role: a pure table, fed with events, read as a [`View`].
//!
//! It is keyed by instance name, because that is what a goodbye carries, and read by identity: an
//! instance that was renamed after a conflict, or one that answers under two names, is one peer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mdns_sd::ResolvedService;
use tracing::{debug, warn};

use crate::{Peer, Scope, peer::NotAPeer};

/// Most instances of one role that are kept. A network segment with more than this is flooded, or
/// has outgrown multicast DNS; what comes later is ignored with a warning.
pub(crate) const INSTANCES_LIMIT: usize = 1024;

/// Who is known, by cluster and id. Shared by every browse of the role.
pub(crate) type View = BTreeMap<(String, String), Arc<Peer>>;

/// The instances of one role in one scope.
#[derive(Debug)]
pub(crate) struct Table {
    scope: Scope,
    instances: BTreeMap<String, Arc<Peer>>,
    /// Instances that the running subscription has not mentioned yet.
    unconfirmed: BTreeSet<String>,
    warned_full: bool,
}

impl Table {
    pub(crate) fn new(scope: Scope) -> Self {
        Self { scope, instances: BTreeMap::new(), unconfirmed: BTreeSet::new(), warned_full: false }
    }

    /// Takes in an instance, new or known. Returns whether anything changed.
    pub(crate) fn resolved(&mut self, service: &ResolvedService) -> bool {
        let instance = service.fullname.as_str();
        self.unconfirmed.remove(instance);
        let peer = match Peer::parse(service, self.scope) {
            Ok(peer) => peer,
            // Addresses arrive one family at a time, and in any order: what is known stays.
            Err(NotAPeer::NoAddress) => return false,
            Err(reason) => {
                debug!(instance, %reason, "ignoring what is not a peer of ours");
                return self.instances.remove(instance).is_some();
            }
        };
        if self.instances.get(instance).is_some_and(|known| **known == peer) {
            return false;
        }
        if self.instances.len() >= INSTANCES_LIMIT && !self.instances.contains_key(instance) {
            self.warn_full();
            return false;
        }
        self.instances.insert(instance.to_owned(), Arc::new(peer));
        true
    }

    /// Forgets an instance that said goodbye or expired. Returns whether it was known.
    pub(crate) fn removed(&mut self, instance: &str) -> bool {
        self.unconfirmed.remove(instance);
        self.instances.remove(instance).is_some()
    }

    /// A new subscription begins. It starts with everything the multicast DNS cache still holds,
    /// so whatever it leaves out was lost while the earlier one was closed.
    pub(crate) fn subscribed(&mut self) {
        self.unconfirmed = self.instances.keys().cloned().collect();
    }

    /// Forgets what the running subscription has left out. Returns whether there was anything.
    pub(crate) fn sweep(&mut self) -> bool {
        let lost = std::mem::take(&mut self.unconfirmed);
        for instance in &lost {
            debug!(instance, "its goodbye was missed");
            self.instances.remove(instance);
        }
        !lost.is_empty()
    }

    /// Who is known now.
    pub(crate) fn view(&self) -> View {
        let mut view = View::new();
        for peer in self.instances.values() {
            let identity = (peer.cluster.clone(), peer.id.clone());
            view.entry(identity)
                .and_modify(|known| Arc::make_mut(known).absorb(peer))
                .or_insert_with(|| Arc::clone(peer));
        }
        view
    }

    fn warn_full(&mut self) {
        if !self.warned_full {
            self.warned_full = true;
            warn!(limit = INSTANCES_LIMIT, "too many announced instances: ignoring further ones");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::resolved;

    fn sound(instance: &str, id: &str, address: &str) -> ResolvedService {
        let txt = [("txtvers", "1"), ("id", id), ("cluster", "lab")];
        resolved(instance, &[address], 80, &txt)
    }

    fn shown(table: &Table) -> Vec<String> {
        let show = |peer: &Arc<Peer>| {
            let addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
            format!("{} {}", peer.id, addresses.join(" "))
        };
        table.view().values().map(show).collect()
    }

    #[test]
    fn repetition_is_no_change() {
        let mut table = Table::new(Scope::Lan);
        assert!(table.resolved(&sound("a", "a", "10.0.0.1")));
        assert!(!table.resolved(&sound("a", "a", "10.0.0.1")));
        assert!(table.resolved(&sound("a", "a", "10.0.0.2")));
        assert_eq!(shown(&table), ["a 10.0.0.2:80"]);
        assert!(table.removed("a._lb-worker._tcp.local."));
        assert!(!table.removed("a._lb-worker._tcp.local."));
        assert!(table.view().is_empty());
    }

    #[test]
    fn no_address_yet_is_held_back_and_forgets_nothing() {
        let mut table = Table::new(Scope::Lan);
        assert!(!table.resolved(&sound("a", "a", "fe80::1")));
        assert!(table.view().is_empty());
        assert!(table.resolved(&sound("a", "a", "10.0.0.1")));
        assert!(!table.resolved(&sound("a", "a", "fe80::1")));
        assert_eq!(shown(&table), ["a 10.0.0.1:80"]);
    }

    #[test]
    fn two_names_of_one_identity_are_one_peer() {
        let mut table = Table::new(Scope::Lan);
        assert!(table.resolved(&sound("a", "a", "10.0.0.2")));
        assert!(table.resolved(&sound("a (2)", "a", "10.0.0.1")));
        assert_eq!(shown(&table), ["a 10.0.0.1:80 10.0.0.2:80"]);
        assert!(table.removed("a._lb-worker._tcp.local."));
        assert_eq!(shown(&table), ["a 10.0.0.1:80"]);
    }

    #[test]
    fn a_name_that_changes_hands_is_another_peer() {
        let mut table = Table::new(Scope::Lan);
        assert!(table.resolved(&sound("a", "old", "10.0.0.1")));
        assert!(table.resolved(&sound("a", "new", "10.0.0.1")));
        assert_eq!(shown(&table), ["new 10.0.0.1:80"]);
        assert!(table.resolved(&resolved("a", &["10.0.0.1"], 80, &[("txtvers", "9")])));
        assert!(table.view().is_empty());
    }

    #[test]
    fn what_a_new_subscription_leaves_out_is_forgotten() {
        let mut table = Table::new(Scope::Lan);
        table.subscribed();
        assert!(table.resolved(&sound("a", "a", "10.0.0.1")));
        assert!(table.resolved(&sound("b", "b", "10.0.0.2")));
        assert!(!table.sweep());
        table.subscribed();
        assert!(!table.resolved(&sound("b", "b", "10.0.0.2")));
        assert!(table.sweep());
        assert_eq!(shown(&table), ["b 10.0.0.2:80"]);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = Table::new(Scope::Lan);
        for number in 0..INSTANCES_LIMIT {
            assert!(table.resolved(&sound(&format!("w{number}"), "w", "10.0.0.1")));
        }
        assert!(!table.resolved(&sound("late", "late", "10.0.0.1")));
        assert!(table.resolved(&sound("w0", "w", "10.0.0.3")));
    }
}
