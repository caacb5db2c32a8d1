//! Announcing a service: register, wait until the network has heard it, withdraw with goodbyes.

use std::{collections::BTreeSet, time::Duration};

use mdns_sd::{DaemonEvent, Receiver, ServiceInfo};
use tokio::time::{sleep, timeout};
use tracing::info;

use crate::{Announcement, Discovery, DiscoveryError, discovery::GOODBYE_GRACE};

/// How long an announcement may take. Probing takes 0.75 s and starts after up to 0.25 s; each
/// conflict of names costs as much again.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(5);

/// A service that is being announced. Dropping it withdraws it too, but does not wait: use
/// [`Advertisement::withdraw`] before the process ends.
#[derive(Debug)]
#[must_use = "dropping it withdraws the announcement"]
pub struct Advertisement {
    discovery: Discovery,
    instance: String,
}

impl Advertisement {
    /// Full name of the instance as it was asked for; a conflict may have renamed it.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Takes the announcement back, and resolves when both goodbyes are on the wire.
    pub async fn withdraw(self) {
        if self.discovery.inner.state().announced.remove(&self.instance) {
            self.discovery.unregister(&self.instance).await;
            sleep(GOODBYE_GRACE).await;
        }
    }
}

impl Drop for Advertisement {
    fn drop(&mut self) {
        if self.discovery.inner.state().announced.remove(&self.instance) {
            // Nobody waits for the answer; a full queue or a stopped thread needs no goodbye.
            drop(self.discovery.inner.daemon.unregister(&self.instance));
        }
    }
}

/// Registers and waits for the announcement. Dropping the future withdraws.
pub(crate) async fn advertise(
    discovery: &Discovery,
    announcement: &Announcement,
) -> Result<Advertisement, DiscoveryError> {
    let service = announcement.service_info(discovery.inner.scope)?;
    let instance = service.get_fullname().to_owned();
    if !discovery.inner.state().announced.insert(instance.clone()) {
        return Err(DiscoveryError::AlreadyAnnounced { instance });
    }
    let advertisement = Advertisement { discovery: discovery.clone(), instance };
    let waited = timeout(ANNOUNCE_LIMIT, announce(discovery, service)).await;
    match waited {
        Ok(result) => result.map(|()| advertisement),
        Err(_elapsed) => Err(DiscoveryError::NotAnnounced {
            instance: advertisement.instance.clone(),
            waited: ANNOUNCE_LIMIT,
            addresses: describe(announcement),
        }),
    }
}

/// Resolves when the multicast DNS thread says that the service was announced somewhere.
async fn announce(discovery: &Discovery, service: ServiceInfo) -> Result<(), DiscoveryError> {
    let instance = service.get_fullname().to_owned();
    let events = discovery
        .offer(mdns_sd::ServiceDaemon::monitor)
        .await
        .map_err(|error| DiscoveryError::daemon("watch the announcement", error))?;
    discovery
        .offer(|daemon| daemon.register(service.clone()))
        .await
        .map_err(|error| DiscoveryError::daemon("announce", error))?;
    announced(&instance, &events).await
}

async fn announced(instance: &str, events: &Receiver<DaemonEvent>) -> Result<(), DiscoveryError> {
    let mut names = BTreeSet::from([instance.to_owned()]);
    loop {
        match events.recv_async().await {
            Ok(DaemonEvent::Announce(name, interface)) if names.contains(&name) => {
                info!(instance = name, interface, "announced");
                return Ok(());
            }
            Ok(DaemonEvent::NameChange(change)) if names.contains(&change.original) => {
                info!(instance, renamed = change.new_name, "the name was taken");
                names.insert(change.new_name);
            }
            Ok(DaemonEvent::Error(error)) => return Err(DiscoveryError::daemon("announce", error)),
            Ok(_) => {}
            Err(_closed) => return Err(DiscoveryError::Closed),
        }
    }
}

fn describe(announcement: &Announcement) -> String {
    if announcement.addresses.is_empty() {
        return "all of this host's".to_owned();
    }
    let addresses: Vec<String> = announcement.addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}
