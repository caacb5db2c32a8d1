//! Against a systemd that is played at the other end of a connection.
#![expect(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "methods and properties have the shape that D-Bus gives them"
)]

use std::sync::{Arc, Mutex};

use tokio::net::UnixStream;
use zbus::{Guid, fdo, interface};

use super::*;

/// A unit that is loaded.
#[derive(Debug, Clone)]
struct Unit {
    active: &'static str,
    status: String,
    restarts: u32,
}

type Units = Arc<Mutex<BTreeMap<String, Unit>>>;
type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// Why units are not managed, as the name of a D-Bus error.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop")]
enum Refused {
    #[zbus(error)]
    Zbus(zbus::Error),
    #[zbus(name = "systemd1.NoSuchUnit")]
    NoSuchUnit(String),
    #[zbus(name = "DBus.Error.InteractiveAuthorizationRequired")]
    NotPermitted(String),
}

struct Played {
    units: Units,
    permits: bool,
}

fn path(text: &str) -> OwnedObjectPath {
    OwnedObjectPath::try_from(text.to_owned()).unwrap()
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Played {
    fn start_unit(&self, name: String, mode: String) -> Result<OwnedObjectPath, Refused> {
        assert_eq!(mode, "replace");
        if !self.permits {
            return Err(Refused::NotPermitted("Interactive authentication required.".into()));
        }
        let mut units = self.units.lock().unwrap();
        if !name.starts_with("lb-worker@") {
            return Err(Refused::NoSuchUnit(format!("Unit {name} not found.")));
        }
        let unit = Unit { active: "activating", status: String::new(), restarts: 0 };
        units.insert(name, unit);
        Ok(path("/org/freedesktop/systemd1/job/1"))
    }

    fn stop_unit(&self, name: String, mode: String) -> Result<OwnedObjectPath, Refused> {
        assert_eq!(mode, "replace");
        if let Some(unit) = self.units.lock().unwrap().get_mut(&name) {
            unit.active = "deactivating";
        }
        Ok(path("/org/freedesktop/systemd1/job/2"))
    }

    fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<Listed> {
        assert!(states.is_empty());
        let [pattern] = &patterns[..] else { panic!("one pattern") };
        let (begin, end) = pattern.split_once('*').unwrap();
        let units = self.units.lock().unwrap();
        let matching =
            units.iter().filter(|(name, _)| name.starts_with(begin) && name.ends_with(end));
        let listed = matching.map(|(name, unit)| {
            let text = |text: &str| text.to_owned();
            let place = path("/org/freedesktop/systemd1/unit/one");
            let (active, job) = (text(unit.active), path("/"));
            (
                name.clone(),
                text(""),
                text("loaded"),
                active,
                text(""),
                text(""),
                place,
                0,
                text(""),
                job,
            )
        });
        listed.collect()
    }
}

/// The only unit's properties.
struct Service(Units);

impl Service {
    fn unit(&self) -> fdo::Result<Unit> {
        let units = self.0.lock().unwrap();
        units.values().next().cloned().ok_or_else(|| fdo::Error::UnknownObject("no unit".into()))
    }
}

#[interface(name = "org.freedesktop.systemd1.Service")]
impl Service {
    #[zbus(property)]
    fn status_text(&self) -> fdo::Result<String> {
        match self.unit()?.status.as_str() {
            "too busy" => Err(fdo::Error::LimitsExceeded("too many questions".into())),
            status => Ok(status.to_owned()),
        }
    }

    #[zbus(property, name = "NRestarts")]
    fn n_restarts(&self) -> fdo::Result<u32> {
        Ok(self.unit()?.restarts)
    }

    #[zbus(property)]
    fn result(&self) -> &'static str {
        "exit-code"
    }

    #[zbus(property)]
    fn exec_main_status(&self) -> i32 {
        70
    }
}

/// What is played, held by the connection of its end.
async fn systemd(template: &str, permits: bool) -> (Systemd, Units, Connection) {
    let units = Units::default();
    let (one, other) = UnixStream::pair().unwrap();
    let guid = Guid::generate();
    let played = Played { units: Arc::clone(&units), permits };
    let serving = async {
        Builder::unix_stream(one)
            .server(guid)?
            .p2p()
            .serve_at("/org/freedesktop/systemd1", played)?
            .serve_at("/org/freedesktop/systemd1/unit/one", Service(Arc::clone(&units)))?
            .build()
            .await
    };
    let asking = Builder::unix_stream(other).p2p().method_timeout(METHOD_LIMIT).build();
    let (serving, asking): (zbus::Result<Connection>, zbus::Result<Connection>) =
        tokio::join!(serving, asking);
    (Systemd::over(template, asking.unwrap()), units, serving.unwrap())
}

fn change(units: &Units, change: impl FnOnce(&mut Unit)) {
    change(units.lock().unwrap().values_mut().next().unwrap());
}

#[tokio::test]
async fn a_unit_is_started_watched_and_stopped() {
    let (mut systemd, units, _serving) = systemd("lb-worker@.service", true).await;
    assert_eq!(systemd.list().await.unwrap(), BTreeMap::new());
    systemd.start(7).await.unwrap();
    assert_eq!(units.lock().unwrap().keys().collect::<Vec<_>>(), ["lb-worker@7.service"]);
    let starting = Found { state: FoundState::Starting, worker: None, restarts: 0 };
    assert_eq!(systemd.list().await.unwrap(), BTreeMap::from([(7, starting)]));

    change(&units, |unit| {
        (unit.active, unit.restarts) = ("active", 2);
        unit.status = "worker box-1-0af3 on 192.168.1.5:4711; a restart is needed for id".into();
    });
    let worker = Some("box-1-0af3".parse().unwrap());
    let running = Found { state: FoundState::Running, worker, restarts: 2 };
    assert_eq!(systemd.list().await.unwrap()[&7], running);

    systemd.stop(7).await.unwrap();
    assert_eq!(systemd.list().await.unwrap()[&7].state, FoundState::Stopping);
    change(&units, |unit| unit.active = "failed");
    let cause = "exit-code, exit status 70".to_owned();
    assert_eq!(systemd.list().await.unwrap()[&7].state, FoundState::Dead { cause });
    change(&units, |unit| unit.active = "inactive");
    assert_eq!(systemd.list().await.unwrap(), BTreeMap::new());
}

#[tokio::test]
async fn instances_that_are_not_numbered_are_left_alone() {
    let (mut systemd, units, _serving) = systemd("lb-worker@.service", true).await;
    for instance in ["blue", "07", "0", "65536", "20261122"] {
        let name = format!("lb-worker@{instance}.service");
        let unit = Unit { active: "active", status: String::new(), restarts: 0 };
        units.lock().unwrap().insert(name, unit);
    }
    assert_eq!(systemd.list().await.unwrap(), BTreeMap::new());
}

#[tokio::test]
async fn what_systemd_refuses_is_told_in_words() {
    let (mut systemd, _units, _serving) = self::systemd("other@.service", true).await;
    let missing = systemd.start(1).await.unwrap_err();
    assert_eq!(
        missing,
        ExecutorError::Hopeless(
            "there is no unit other@1.service: install the package lb-worker, or set `unit`".into()
        )
    );
    let (mut systemd, _units, _serving) = self::systemd("lb-worker@.service", false).await;
    let ExecutorError::Hopeless(text) = systemd.start(1).await.unwrap_err() else {
        panic!("trying again does not help")
    };
    assert!(text.starts_with("systemd does not permit to manage lb-worker@1.service"), "{text}");
}

#[tokio::test]
async fn a_bus_that_is_gone_is_told_and_asked_for_anew() {
    let (mut systemd, _units, serving) = systemd("lb-worker@.service", true).await;
    systemd.start(1).await.unwrap();
    serving.close().await.unwrap();
    let ExecutorError::Unavailable(text) = systemd.list().await.unwrap_err() else {
        panic!("it may come back")
    };
    assert!(text.starts_with("systemd does not answer over D-Bus"), "{text}");
    assert!(systemd.connection.is_none());
}

#[tokio::test]
async fn a_unit_that_cannot_be_looked_at_has_not_ended() {
    let (mut systemd, units, _serving) = systemd("lb-worker@.service", true).await;
    systemd.start(1).await.unwrap();
    change(&units, |unit| (unit.active, unit.status) = ("active", "too busy".into()));
    assert!(matches!(systemd.list().await, Err(ExecutorError::Unavailable(_))));
}

#[tokio::test]
async fn a_unit_in_a_state_of_newer_versions_runs() {
    let (mut systemd, units, _serving) = systemd("lb-worker@.service", true).await;
    systemd.start(1).await.unwrap();
    change(&units, |unit| unit.active = "refreshing");
    assert_eq!(systemd.list().await.unwrap()[&1].state, FoundState::Running);
}

#[test]
fn a_unit_that_ended_between_two_questions_is_gone() {
    assert!(is_gone(&fdo::Error::UnknownObject(String::new()).into()));
    assert!(!is_gone(&fdo::Error::LimitsExceeded(String::new()).into()));
}

/// The kernel takes connections for a bus that hangs.
#[tokio::test(start_paused = true)]
async fn a_bus_that_hangs_is_told() {
    let (one, _silent) = UnixStream::pair().unwrap();
    let error = open(Ok(Builder::unix_stream(one))).await.unwrap_err();
    let text = "cannot reach systemd over D-Bus: deadline has elapsed";
    assert_eq!(error, ExecutorError::Unavailable(text.into()));
}

#[test]
fn the_worker_is_in_the_status_line() {
    let id = |text: &str| worker(text).map(|id| id.to_string());
    assert_eq!(id("worker w-1 on 127.0.0.1:1"), Some("w-1".into()));
    assert_eq!(id("worker W on 127.0.0.1:1"), None);
    assert_eq!(id("serving on 127.0.0.1:1"), None);
    assert_eq!(id(""), None);
}
