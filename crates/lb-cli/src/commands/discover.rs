//! `lbctl discover`: who announces itself by DNS-SD.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use lb_client::ConnectError;
use lb_discovery::{Browse, Change, Discovery, Peer, Role};

use crate::{context::Common, failure::Failure, output::table};

/// How long to listen.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How long to listen for answers; running daemons answer within 0.1 s
    #[arg(long = "for", value_name = "TIME", default_value = "500ms", value_parser = humantime::parse_duration)]
    listen: Duration,
}

pub(crate) async fn run(common: &Common, arguments: &Arguments) -> Result<(), Failure> {
    let discovery = Discovery::new(common.scope()).map_err(ConnectError::Discovery)?;
    let end = Instant::now() + arguments.listen;
    let browse = |role| discovery.browse(role, &common.cluster);
    let (balancers, workers) =
        tokio::join!(listen(browse(Role::Balancer), end), listen(browse(Role::Worker), end));
    let all: Vec<(&str, &Peer)> = balancers
        .values()
        .map(|peer| ("balancer", peer))
        .chain(workers.values().map(|peer| ("worker", peer)))
        .collect();
    let rows = all.iter().map(|(role, peer)| {
        vec![(*role).to_owned(), peer.id.clone(), addresses(peer).join(" "), extras(peer)]
    });
    let text = if all.is_empty() {
        format!("nobody in cluster {} answered within {:?}", common.cluster, arguments.listen)
    } else {
        table(&["ROLE", "ID", "ADDRESS", "TXT"], rows.collect())
    };
    let entry = |(role, peer): &(&str, &Peer)| json!({ "role": role, "id": peer.id, "addresses": addresses(peer), "txt": peer.txt });
    let json =
        json!({ "cluster": common.cluster, "found": all.iter().map(entry).collect::<Vec<_>>() });
    Ok(common.printer().print(&text, &json)?)
}

async fn listen(mut browse: Browse, end: Instant) -> BTreeMap<String, Peer> {
    let mut known = BTreeMap::new();
    while let Ok(change) = timeout_at(end, browse.next()).await {
        match change {
            Change::Up(peer) => drop(known.insert(peer.id.clone(), peer)),
            Change::Down { id } => drop(known.remove(&id)),
        }
    }
    known
}

fn addresses(peer: &Peer) -> Vec<String> {
    peer.addresses.iter().map(ToString::to_string).collect()
}

fn extras(peer: &Peer) -> String {
    let pairs: Vec<_> = peer.txt.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}
