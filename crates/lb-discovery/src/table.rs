//! Everybody known of one role: a pure table, fed with events, read as a [`View`].
//!
//! It is keyed by instance name, because that is what a goodbye carries, and read by identity: an
//! instance that was renamed after a conflict, or one that answers under two names, is one peer.
//!
//! Events come in two ways. The subscription hears everything in the end: what it says replaces
//! what was known, and its goodbyes count. An inquiry is quick, but each of its answers tells only
//! of the addresses on one interface, and nothing tells when it stops being true: it adds to what
//! is known until the subscription has spoken, and what it alone knows has to be asked for again
//! and again ([`Table::sweep`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tracing::{debug, warn};

use crate::{Peer, Scope, instance::Instance, peer::NotAPeer};

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
    /// Those among them that no inquiry has found since the last sweep either.
    unheard: BTreeSet<String>,
    warned_full: bool,
}

impl Table {
    pub(crate) fn new(scope: Scope) -> Self {
        Self {
            scope,
            instances: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            unheard: BTreeSet::new(),
            warned_full: false,
        }
    }

    /// Takes in an instance, new or known, from the subscription. Returns whether anything changed.
    pub(crate) fn resolved(&mut self, instance: &Instance) -> bool {
        let name = instance.name.as_str();
        self.confirm(name);
        match Peer::parse(instance, self.scope) {
            Ok(peer) => self.put(name, peer),
            // Addresses arrive one family at a time, and in any order: what is known stays.
            Err(NotAPeer::NoAddress) => false,
            Err(reason) => {
                debug!(instance = name, %reason, "ignoring what is not a peer of ours");
                self.instances.remove(name).is_some()
            }
        }
    }

    /// Takes in an instance that an inquiry found. Returns whether anything changed.
    pub(crate) fn found(&mut self, instance: &Instance) -> bool {
        let name = instance.name.as_str();
        let known = self.instances.get(name);
        if known.is_some() && !self.unconfirmed.contains(name) {
            return false;
        }
        let mut peer = match Peer::parse(instance, self.scope) {
            Ok(peer) => peer,
            Err(reason) => {
                debug!(instance = name, %reason, "ignoring what is not a peer of ours");
                return false;
            }
        };
        if let Some(known) = known.filter(|known| known.agrees_with(&peer)) {
            peer.absorb(known);
        }
        let changed = self.put(name, peer);
        if self.instances.contains_key(name) {
            self.unconfirmed.insert(name.to_owned());
            self.unheard.remove(name);
        }
        changed
    }

    /// Forgets an instance that said goodbye or expired. Returns whether it was known.
    pub(crate) fn removed(&mut self, name: &str) -> bool {
        self.confirm(name);
        self.instances.remove(name).is_some()
    }

    /// A new subscription begins. It starts with everything the multicast DNS cache still holds,
    /// so whatever it leaves out was lost while the earlier one was closed.
    pub(crate) fn subscribed(&mut self) {
        self.unconfirmed = self.instances.keys().cloned().collect();
        self.unheard = self.unconfirmed.clone();
    }

    /// Forgets what neither the running subscription has mentioned nor an inquiry has found since
    /// the last sweep, or since the subscription began. Returns whether there was anything.
    pub(crate) fn sweep(&mut self) -> bool {
        let lost = std::mem::take(&mut self.unheard);
        for name in &lost {
            debug!(instance = name, "its goodbye was missed");
            self.removed(name);
        }
        self.unheard = self.unconfirmed.clone();
        !lost.is_empty()
    }

    /// Whether there is anything that another inquiry has to find, or it is swept.
    pub(crate) fn needs_inquiry(&self) -> bool {
        !self.unheard.is_empty()
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

    fn confirm(&mut self, name: &str) {
        self.unconfirmed.remove(name);
        self.unheard.remove(name);
    }

    /// Returns whether anything changed.
    fn put(&mut self, name: &str, peer: Peer) -> bool {
        match self.instances.get(name) {
            Some(known) if **known == peer => return false,
            None if self.instances.len() >= INSTANCES_LIMIT => {
                self.warn_full();
                return false;
            }
            _ => {}
        }
        self.instances.insert(name.to_owned(), Arc::new(peer));
        true
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

    fn sound(instance: &str, id: &str, address: &str) -> Instance {
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
    fn the_subscription_repeating_an_inquiry_is_no_change() {
        let mut table = Table::new(Scope::Lan);
        table.subscribed();
        assert!(table.found(&sound("a", "a", "10.0.0.1")));
        assert!(!table.found(&sound("a", "a", "10.0.0.1")));
        assert!(!table.resolved(&sound("a", "a", "10.0.0.1")));
        assert!(!table.needs_inquiry());
        assert!(!table.sweep());
        assert!(!table.needs_inquiry());
        assert!(table.removed("a._lb-worker._tcp.local."));
        assert!(table.view().is_empty());
    }

    #[test]
    fn an_inquiry_adds_to_what_is_known_until_the_subscription_has_spoken() {
        let mut table = Table::new(Scope::Lan);
        table.subscribed();
        assert!(table.found(&sound("a", "a", "10.0.0.1")));
        assert!(table.found(&sound("a", "a", "10.1.0.1")));
        assert_eq!(shown(&table), ["a 10.0.0.1:80 10.1.0.1:80"]);
        assert!(table.found(&sound("a", "b", "10.2.0.1")));
        assert_eq!(shown(&table), ["b 10.2.0.1:80"]);
        assert!(table.resolved(&sound("a", "a", "10.0.0.1")));
        assert!(!table.found(&sound("a", "a", "10.1.0.1")));
        assert_eq!(shown(&table), ["a 10.0.0.1:80"]);
        assert!(!table.found(&resolved("a", &["10.0.0.1"], 80, &[("txtvers", "9")])));
        assert!(!table.found(&resolved("b", &["10.0.0.1"], 80, &[("txtvers", "9")])));
        assert_eq!(shown(&table), ["a 10.0.0.1:80"]);
    }

    #[test]
    fn what_only_inquiries_know_stays_as_long_as_they_find_it() {
        let mut table = Table::new(Scope::Lan);
        table.subscribed();
        assert!(table.found(&sound("a", "a", "10.0.0.1")));
        assert!(!table.sweep());
        assert!(table.needs_inquiry());
        assert!(!table.found(&sound("a", "a", "10.0.0.1")));
        assert!(!table.sweep());
        assert_eq!(shown(&table), ["a 10.0.0.1:80"]);
        assert!(table.sweep());
        assert!(table.view().is_empty());
        assert!(!table.needs_inquiry());
    }

    #[test]
    fn an_inquiry_saves_what_a_new_subscription_leaves_out() {
        let mut table = Table::new(Scope::Lan);
        table.subscribed();
        assert!(table.resolved(&sound("a", "a", "10.0.0.1")));
        assert!(table.resolved(&sound("b", "b", "10.0.0.2")));
        table.subscribed();
        assert!(!table.found(&sound("a", "a", "10.0.0.1")));
        assert!(table.sweep());
        assert_eq!(shown(&table), ["a 10.0.0.1:80"]);
        assert!(table.removed("a._lb-worker._tcp.local."));
        assert!(!table.needs_inquiry());
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = Table::new(Scope::Lan);
        for number in 0..INSTANCES_LIMIT {
            assert!(table.resolved(&sound(&format!("w{number}"), "w", "10.0.0.1")));
        }
        assert!(!table.resolved(&sound("late", "late", "10.0.0.1")));
        assert!(!table.found(&sound("late", "late", "10.0.0.1")));
        assert!(!table.needs_inquiry());
        assert!(table.resolved(&sound("w0", "w", "10.0.0.3")));
    }
}
