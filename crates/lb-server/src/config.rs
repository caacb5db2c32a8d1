//! From raw configuration to settings that hold.

use serde::Deserialize;

use lb_core::{
    id::{ClusterName, NameError},
    policy::{PolicyKind, UnknownPolicy},
};
use lb_discovery::Scope;
use lb_runtime::net::{self, BindError};

/// The documented defaults, also installed as `/etc/lb/lb-server.toml`.
pub(crate) const DEFAULTS: &str = include_str!("../../../packaging/lb-server.toml");

/// Highest value of a limit: more streams than this one process cannot hold.
const LIMIT_CEILING: usize = 1_000_000;

/// The configuration as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    pub(crate) listen: String,
    pub(crate) cluster: String,
    pub(crate) policy: String,
    pub(crate) local: bool,
    pub(crate) log: String,
    pub(crate) limits: Limits,
}

/// How much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Client sessions; 1 to 1,000,000.
    pub sessions: usize,
    /// Watchers of workers, and watchers of events; 1 to 1,000,000.
    pub watchers: usize,
}

/// What a balancer runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen, see [`lb_runtime::net::bind`].
    pub listen: String,
    /// The cluster it serves.
    pub cluster: ClusterName,
    /// The policy it starts with.
    pub policy: PolicyKind,
    /// Where it is announced.
    pub scope: Scope,
    /// How much at once.
    pub limits: Limits,
}

/// A value that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("cluster: {0}")]
    Cluster(#[source] NameError),
    #[error("policy: {0}")]
    Policy(#[source] UnknownPolicy),
    #[error("{key} is {found}: expected 1 to {LIMIT_CEILING}")]
    Limit { key: &'static str, found: usize },
    #[error("listen: {0}")]
    Listen(#[source] BindError),
}

impl Raw {
    pub(crate) fn resolve(self) -> Result<Settings, SettingsError> {
        let Limits { sessions, watchers } = self.limits;
        for (key, found) in [("limits.sessions", sessions), ("limits.watchers", watchers)] {
            if !(1..=LIMIT_CEILING).contains(&found) {
                return Err(SettingsError::Limit { key, found });
            }
        }
        let listen = if self.local { net::confine(&self.listen) } else { Ok(self.listen) };
        let listen = listen.map_err(SettingsError::Listen)?;
        net::check(&listen).map_err(SettingsError::Listen)?;
        Ok(Settings {
            listen,
            cluster: self.cluster.parse().map_err(SettingsError::Cluster)?,
            policy: self.policy.parse().map_err(SettingsError::Policy)?,
            scope: if self.local { Scope::Loopback } else { Scope::Lan },
            limits: self.limits,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> Raw {
        toml::from_str(DEFAULTS).unwrap()
    }

    #[test]
    fn the_defaults_hold() {
        let settings = raw().resolve().unwrap();
        assert_eq!(settings.policy, PolicyKind::LeastLoad);
        assert_eq!(settings.scope, Scope::Lan);
    }

    #[test]
    fn each_bad_value_is_named() {
        let policy = Raw { policy: "best".into(), ..raw() }.resolve().unwrap_err();
        assert!(policy.to_string().starts_with("policy: unknown policy \"best\""), "{policy}");
        let cluster = Raw { cluster: "A B".into(), ..raw() }.resolve().unwrap_err();
        assert!(cluster.to_string().starts_with("cluster: cluster name \"A B\""), "{cluster}");
        let listen = Raw { listen: "here".into(), ..raw() }.resolve().unwrap_err();
        assert!(listen.to_string().starts_with("listen: cannot listen on \"here\""), "{listen}");
        let open = Raw { listen: "0.0.0.0:1".into(), local: true, ..raw() }.resolve().unwrap_err();
        assert!(open.to_string().contains("confined to this machine"), "{open}");
        let limits = Limits { sessions: 0, watchers: 1 };
        let limit = Raw { limits, ..raw() }.resolve().unwrap_err();
        assert_eq!(limit.to_string(), "limits.sessions is 0: expected 1 to 1000000");
    }
}
