//! `lbctl xds-bootstrap`: the file by which the gRPC library of any language finds the balancers.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, path::PathBuf, time::Duration};

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use lb_client::{FoundBalancer, FoundBalancers};
use lb_core::id::ServiceName;

use crate::{
    context::Common,
    failure::Failure,
    output::{line, note},
};

/// What to write, and where.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// gRPC service to call: says with which target
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// File to write, replaced as a whole; without it the standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Go on, and write the file anew whenever the balancers have changed
    #[arg(long, requires = "out")]
    watch: bool,
}

/// After the first balancer has answered, how long to wait for others; they answer as quickly.
const GATHER: Duration = Duration::from_millis(500);

/// Most balancers in the file. A client uses the first that it reaches.
const BALANCERS: usize = 4;

/// Anybody may read it: there is no secret in it.
const MODE: u32 = 0o644;

pub(crate) async fn run(common: &Common, arguments: &Arguments) -> Result<(), Failure> {
    let search = common.search()?;
    let mut found = search.start()?;
    if arguments.watch {
        found.changed().await;
    } else {
        found.first(&search).await?;
    }
    let balancers = gather(&mut found).await;
    if let Some(strict) = balancers.iter().find(|one| one.mode.as_deref().is_some_and(is_strict)) {
        note(&format!(
            "lbctl: note: balancer {} speaks TLS, which gRPC's own xDS clients cannot check; give the plain address that it \
             serves on its own machine (xds_plain in lb-server.toml) with --lb",
            strict.id
        ));
    }
    write(arguments, &bootstrap(&balancers))?;
    if let Some(service) = &arguments.service {
        let file = arguments.out.as_deref().unwrap_or(Path::new("FILE")).display();
        note(&format!("lbctl: target xds:///{service}, with GRPC_XDS_BOOTSTRAP={file}"));
    }
    if arguments.watch { follow(found, arguments, balancers).await } else { Ok(()) }
}

fn is_strict(mode: &str) -> bool {
    mode != "open"
}

async fn gather(found: &mut FoundBalancers) -> Vec<FoundBalancer> {
    let end = Instant::now() + GATHER;
    let mut known = Vec::new();
    while let Ok(now) = timeout_at(end, found.changed()).await {
        known = now.to_vec();
    }
    if known.is_empty() { found.known().to_vec() } else { known }
}

async fn follow(
    mut found: FoundBalancers,
    arguments: &Arguments,
    mut written: Vec<FoundBalancer>,
) -> Result<(), Failure> {
    loop {
        found.changed().await;
        let balancers = gather(&mut found).await;
        if bootstrap(&balancers) != bootstrap(&written) {
            write(arguments, &bootstrap(&balancers))?;
            written = balancers;
        }
    }
}

/// In the order of addresses, so that the file changes only when they do: ids are new at each start.
fn bootstrap(balancers: &[FoundBalancer]) -> Value {
    let mut addresses: Vec<&String> =
        balancers.iter().filter_map(|balancer| balancer.addresses.first()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let server = |address: &&String| {
        json!({
            "server_uri": address,
            "channel_creds": [{ "type": "insecure" }],
            "server_features": ["xds_v3", "ignore_resource_deletion"],
        })
    };
    let servers: Vec<_> = addresses.iter().take(BALANCERS).map(server).collect();
    json!({ "xds_servers": servers, "node": { "id": node(), "locality": {} } })
}

/// For people who read the balancer's log; nothing depends on it.
fn node() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("lb@{}", host.trim())
}

fn write(arguments: &Arguments, bootstrap: &Value) -> Result<(), Failure> {
    let text = format!("{bootstrap:#}");
    let Some(path) = &arguments.out else { return Ok(line(&text)?) };
    let refused = |source| Failure::write(path, source);
    let draft = path.with_extension("new");
    fs::write(&draft, text + "\n").map_err(refused)?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(MODE)).map_err(refused)?;
    // A program that starts at this moment reads the old one or the new one.
    fs::rename(&draft, path).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(id: &str, addresses: &[&str]) -> FoundBalancer {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        FoundBalancer { id: id.into(), addresses, mode: None }
    }

    #[test]
    fn all_balancers_are_named_in_the_order_of_addresses() {
        let found = [
            balancer("b-2", &["10.0.0.2:7460", "[fd00::2]:7460"]),
            balancer("b-1", &["10.0.0.1:7460"]),
        ];
        let file = bootstrap(&found);
        let servers: Vec<_> = file["xds_servers"].as_array().unwrap().iter().collect();
        assert_eq!(servers.len(), 2);
        assert_eq!(servers[0]["server_uri"], "10.0.0.1:7460");
        assert_eq!(servers[1]["server_uri"], "10.0.0.2:7460");
        assert_eq!(servers[0]["channel_creds"][0]["type"], "insecure");
        let restarted = [balancer("b-9", &["10.0.0.2:7460"]), balancer("b-1", &["10.0.0.1:7460"])];
        assert_eq!(bootstrap(&restarted), file, "a new id is no change");
    }
}
