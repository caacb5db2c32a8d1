//! Instances as units of systemd, over D-Bus: `lb-worker@7.service`.
//!
//! The service has a user of its own, and a polkit rule lets it manage these units and no others. systemd itself starts a worker
//! that has died again (`Restart=always`), sooner than anybody else could; here its restarts are counted.
//!
//! Which worker an instance is stands in the unit's status line, which the worker has told systemd when it was ready: "worker ID on
//! ADDRESS". So nothing needs to be configured twice, and it holds under certificates as well.

use std::{collections::BTreeMap, fmt, future::pending, time::Duration};

use tokio::time::timeout;
use tracing::debug;
use zbus_systemd::{
    systemd1::{ManagerProxy, ServiceProxy},
    zbus::{self, Connection, connection::Builder, proxy::CacheProperties},
    zvariant::OwnedObjectPath,
};

use lb_core::id::WorkerId;
use lb_proto::parse::scaler::NUMBER_LIMIT;
use lb_runtime::exit;

use super::{Executor, ExecutorError, Found, FoundState};

/// systemd answers within milliseconds; with this much silence something is wrong with the bus.
const METHOD_LIMIT: Duration = Duration::from_secs(5);
/// What takes the place of an older job for the same unit.
const MODE: &str = "replace";

/// Units `PREFIX@NUMBER.service`.
#[derive(Debug)]
pub(crate) struct Systemd {
    /// What stands before the number, with the `@`.
    prefix: String,
    /// Opened when it is needed, and again when it has broken.
    connection: Option<Connection>,
}

impl Systemd {
    /// For instances of `template`, such as `lb-worker@.service`.
    pub(crate) fn new(template: &str) -> Self {
        let prefix = template.strip_suffix(".service").unwrap_or(template);
        Self { prefix: prefix.to_owned(), connection: None }
    }

    #[cfg(test)]
    fn over(template: &str, connection: Connection) -> Self {
        Self { connection: Some(connection), ..Self::new(template) }
    }

    fn unit(&self, number: u32) -> String {
        format!("{}{number}.service", self.prefix)
    }

    fn number(&self, unit: &str) -> Option<u32> {
        let text = unit.strip_prefix(&self.prefix)?.strip_suffix(".service")?;
        // An instance of another name, "07", or a number that nobody plans, is somebody else's.
        let is_ours =
            |number: &u32| (1..=NUMBER_LIMIT).contains(number) && number.to_string() == text;
        text.parse().ok().filter(is_ours)
    }

    async fn manager(&mut self) -> Result<ManagerProxy<'static>, ExecutorError> {
        let connection = if let Some(connection) = &self.connection {
            connection.clone()
        } else {
            self.connection.insert(open(Builder::system()).await?).clone()
        };
        let proxy =
            ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await;
        proxy.map_err(|error| self.lost(&error))
    }

    /// The connection may be of no more use.
    fn lost(&mut self, error: &zbus::Error) -> ExecutorError {
        self.connection = None;
        ExecutorError::Unavailable(format!("systemd does not answer over D-Bus: {error}"))
    }

    /// What systemd has against it.
    fn refused(&mut self, unit: &str, error: &zbus::Error) -> ExecutorError {
        let zbus::Error::MethodError(name, detail, _) = error else { return self.lost(error) };
        let detail = detail.as_deref().unwrap_or("no details");
        match name.as_str() {
            "org.freedesktop.systemd1.NoSuchUnit" | "org.freedesktop.systemd1.LoadFailed" => {
                ExecutorError::Hopeless(format!(
                    "there is no unit {unit}: install the package lb-worker, or set `unit`"
                ))
            }
            "org.freedesktop.systemd1.UnitMasked" => {
                ExecutorError::Hopeless(format!("unit {unit} is masked: systemctl unmask it"))
            }
            "org.freedesktop.DBus.Error.AccessDenied"
            | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
            | "org.freedesktop.PolicyKit1.Error.NotAuthorized" => ExecutorError::Hopeless(format!(
                "systemd does not permit to manage {unit}: is polkitd running, with the rule lb-scaler.rules?"
            )),
            "org.freedesktop.DBus.Error.NoReply"
            | "org.freedesktop.DBus.Error.ServiceUnknown"
            | "org.freedesktop.DBus.Error.NameHasNoOwner"
            | "org.freedesktop.DBus.Error.Disconnected"
            | "org.freedesktop.DBus.Error.Timeout" => self.lost(error),
            other => ExecutorError::Unavailable(format!("{unit}: {other}: {detail}")),
        }
    }

    async fn look(
        &self,
        connection: &Connection,
        path: OwnedObjectPath,
        (active, sub): (&str, &str),
    ) -> zbus::Result<Option<Found>> {
        let service = ServiceProxy::builder(connection)
            .path(path)?
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let state = match active {
            // Newer systemd knows more states than these, all of something that is there.
            "active" | "reloading" | "refreshing" | "maintenance" => FoundState::Running,
            "activating" => FoundState::Starting,
            "deactivating" => FoundState::Stopping,
            "failed" => {
                let (result, status) = (service.result().await?, service.exec_main_status().await?);
                FoundState::Dead { cause: cause(&result, status) }
            }
            // Ended as it was told to.
            _ => return Ok(None),
        };
        debug!(active, sub, "looked at a unit");
        Ok(Some(Found {
            state,
            worker: worker(&service.status_text().await?),
            restarts: service.n_restarts().await?,
        }))
    }
}

async fn open(to: zbus::Result<Builder<'_>>) -> Result<Connection, ExecutorError> {
    let unreachable = |error: &dyn fmt::Display| {
        ExecutorError::Unavailable(format!("cannot reach systemd over D-Bus: {error}"))
    };
    let opened = async { to?.method_timeout(METHOD_LIMIT).build().await };
    // A bus that hangs takes the connection, and says nothing.
    let opened = timeout(METHOD_LIMIT, opened).await.map_err(|error| unreachable(&error))?;
    opened.map_err(|error| unreachable(&error))
}

/// Whether a unit is not there any more. Every other error says nothing of the unit.
fn is_gone(error: &zbus::Error) -> bool {
    const GONE: [&str; 5] = [
        "org.freedesktop.systemd1.NoSuchUnit",
        "org.freedesktop.DBus.Error.UnknownObject",
        "org.freedesktop.DBus.Error.UnknownMethod",
        "org.freedesktop.DBus.Error.UnknownInterface",
        "org.freedesktop.DBus.Error.UnknownProperty",
    ];
    match error {
        zbus::Error::MethodError(name, ..) => GONE.contains(&name.as_str()),
        zbus::Error::FDO(error) => matches!(
            **error,
            zbus::fdo::Error::UnknownObject(_)
                | zbus::fdo::Error::UnknownMethod(_)
                | zbus::fdo::Error::UnknownInterface(_)
                | zbus::fdo::Error::UnknownProperty(_)
        ),
        _ => false,
    }
}

/// What systemd says of an end, in words.
fn cause(result: &str, status: i32) -> String {
    if status == i32::from(exit::CONFIG) {
        // Which key, only the worker itself knows.
        return format!("its configuration is wrong, exit status {status}; its journal says more");
    }
    format!("{result}, exit status {status}")
}

/// The id in a worker's status line.
fn worker(status: &str) -> Option<WorkerId> {
    status.strip_prefix("worker ")?.split(' ').next()?.parse().ok()
}

impl Executor for Systemd {
    async fn list(&mut self) -> Result<BTreeMap<u32, Found>, ExecutorError> {
        let manager = self.manager().await?;
        let pattern = format!("{}*.service", self.prefix);
        let units = manager.list_units_by_patterns(Vec::new(), vec![pattern]).await;
        let units = units.map_err(|error| self.lost(&error))?;
        let connection = manager.inner().connection().clone();
        let mut found = BTreeMap::new();
        for (name, _, load, active, sub, _, path, ..) in units {
            // What runs goes on when its unit's file is gone.
            let is_there = load == "loaded" || !matches!(active.as_str(), "inactive" | "failed");
            let Some(number) = self.number(&name).filter(|_| is_there) else { continue };
            match self.look(&connection, path, (&active, &sub)).await {
                Ok(instance) => found.extend(instance.map(|instance| (number, instance))),
                Err(error) if is_gone(&error) => {
                    // Units come and go between two questions.
                    debug!(unit = name, %error, "a unit cannot be looked at");
                }
                Err(error) => return Err(self.lost(&error)),
            }
        }
        Ok(found)
    }

    async fn start(&mut self, number: u32) -> Result<(), ExecutorError> {
        let (manager, unit) = (self.manager().await?, self.unit(number));
        let started = manager.start_unit(unit.clone(), MODE.into()).await;
        started.map(drop).map_err(|error| self.refused(&unit, &error))
    }

    async fn stop(&mut self, number: u32) -> Result<(), ExecutorError> {
        let (manager, unit) = (self.manager().await?, self.unit(number));
        let stopped = manager.stop_unit(unit.clone(), MODE.into()).await;
        stopped.map(drop).map_err(|error| self.refused(&unit, &error))
    }

    /// Looking once in a while is enough: what is in a hurry, the balancer sees by the workers' own streams.
    async fn news(&mut self) {
        pending::<()>().await;
    }

    fn outlives(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
