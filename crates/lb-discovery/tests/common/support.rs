//! What the tests share: names that no other run on this machine uses, and waits with an end.

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use lb_discovery::{Announcement, Browse, Change, Discovery, Peer, Role, Scope};

/// Far above what anything here takes, so that only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A name for an id or a cluster that is used nowhere else: multicast DNS on the loopback is
/// common to all tests and programs of the machine.
pub fn unique(prefix: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{number}", process::id())
}

pub fn discovery() -> Discovery {
    Discovery::new(Scope::Loopback).expect("multicast DNS on the loopback")
}

pub fn announcement(id: &str, cluster: &str, port: u16) -> Announcement {
    Announcement {
        role: Role::Worker,
        id: id.to_owned(),
        cluster: cluster.to_owned(),
        port,
        addresses: Vec::new(),
        txt: vec![("zone".to_owned(), "a".to_owned())],
    }
}

pub async fn next(browse: &mut Browse) -> Change {
    tokio::time::timeout(PATIENCE, browse.next()).await.expect("a change in time")
}

/// Reads on until `wanted` accepts a peer.
pub async fn up(browse: &mut Browse, wanted: impl Fn(&Peer) -> bool) -> Peer {
    loop {
        match next(browse).await {
            Change::Up(peer) if wanted(&peer) => return peer,
            _ => {}
        }
    }
}

/// Reads on until `id` is gone.
pub async fn down(browse: &mut Browse, id: &str) {
    while next(browse).await != (Change::Down { id: id.to_owned() }) {}
}

pub fn shown(peer: &Peer) -> Vec<String> {
    peer.addresses.iter().map(ToString::to_string).collect()
}
