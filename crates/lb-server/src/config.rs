//! From raw configuration to settings that hold.

use serde::Deserialize;

use lb_core::{id::ClusterName, policy::PolicyKind};
use lb_discovery::Scope;
use lb_runtime::{
    config::{ConfigError, Loaded},
    logging, net,
};
use lb_tls::{Choice, Tls};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod scale;

use self::scale::RawScale;
pub use self::scale::ScaleSettings;

/// The documented defaults, also installed as `/etc/lb/lb-server.toml`.
pub(crate) const DEFAULTS: &str = include_str!("../../../packaging/lb-server.toml");

/// What the defaults do not have, since it depends on the files that are there.
pub(crate) const EXAMPLES: &str =
    "[tls]\nmode = \"mtls\"\nca = \"ca\"\ncertificate = \"crt\"\nkey = \"key\"\n";

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
    pub(crate) xds_plain: String,
    pub(crate) limits: Limits,
    scale: RawScale,
    #[serde(default)]
    pub(crate) tls: Choice,
}

/// How much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Client sessions; 1 to 1,000,000.
    pub sessions: usize,
    /// Watchers of workers, and watchers of events; 1 to 1,000,000.
    pub watchers: usize,
    /// Connections; 1 to 1,000,000.
    pub connections: usize,
    /// Of each of these, and of registrations, what one address may have; 1 to 1,000,000.
    pub per_peer: usize,
}

impl Default for Limits {
    /// Those of the default configuration.
    fn default() -> Self {
        Self { sessions: 10_000, watchers: 10_000, connections: 40_000, per_peer: 1024 }
    }
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
    /// How it speaks with everybody.
    pub tls: Tls,
    /// How workers are scaled, where scalers are.
    pub scale: ScaleSettings,
    /// Where on the loopback it also serves xDS in plain text, see [`lb_runtime::net::bind`].
    pub xds_plain: Option<String>,
}

impl Settings {
    /// What holds of a configuration.
    ///
    /// # Errors
    /// The first value that cannot be used, with its key and where it came from.
    pub(crate) fn resolve(loaded: &Loaded<Raw>) -> Result<Self, ConfigError> {
        let raw = &loaded.value;
        let Limits { sessions, watchers, connections, per_peer } = raw.limits;
        for (key, found) in [
            ("limits.sessions", sessions),
            ("limits.watchers", watchers),
            ("limits.connections", connections),
            ("limits.per_peer", per_peer),
        ] {
            if !(1..=LIMIT_CEILING).contains(&found) {
                let problem = format!("expected 1 to {LIMIT_CEILING}, found {found}");
                return Err(loaded.refuse(key, problem));
            }
        }
        logging::check(&raw.log).map_err(|error| loaded.refuse("log", error))?;
        if !raw.local && net::is_loopback(&raw.listen) {
            let problem = format!(
                "nobody on the network can reach {:?}: expected another address, or local = true",
                raw.listen
            );
            return Err(loaded.refuse("listen", problem));
        }
        let xds_plain = (!raw.xds_plain.is_empty()).then(|| raw.xds_plain.clone());
        if let Some(listen) = &xds_plain
            && !net::is_loopback(listen)
        {
            let problem = format!(
                "{listen:?} is not on the loopback: expected one such as \"127.0.0.1:7461\""
            );
            return Err(loaded.refuse("xds_plain", problem));
        }
        let listen = if raw.local { net::confine(&raw.listen) } else { Ok(raw.listen.clone()) };
        let listen = listen.and_then(|listen| net::check(&listen).map(|()| listen));
        let cluster = raw.cluster.parse().map_err(|error| loaded.refuse("cluster", error))?;
        let tls = Tls::of_server(&raw.tls, &cluster)
            .map_err(|error| loaded.refuse(&format!("tls.{}", error.setting()), error))?;
        Ok(Self {
            listen: listen.map_err(|error| loaded.refuse("listen", error))?,
            cluster,
            policy: raw.policy.parse().map_err(|error| loaded.refuse("policy", error))?,
            scope: if raw.local { Scope::Loopback } else { Scope::Lan },
            limits: raw.limits,
            tls,
            scale: raw.scale.resolve(loaded)?,
            xds_plain,
        })
    }
}

#[cfg(test)]
mod tests {
    use lb_runtime::config::{self, FileChoice, Sources};

    use super::*;

    fn settings(overrides: &str) -> Result<Settings, ConfigError> {
        let sources = Sources {
            embedded: DEFAULTS,
            examples: EXAMPLES,
            file: FileChoice::None,
            environment: vec![],
            environment_prefix: "LB_SERVER_",
            overrides: overrides.parse().unwrap(),
        };
        Settings::resolve(&config::load(sources)?)
    }

    #[test]
    fn the_defaults_hold() {
        let settings = settings("").unwrap();
        assert_eq!(settings.policy, PolicyKind::LeastLoad);
        assert_eq!(settings.scope, Scope::Lan);
        assert_eq!(settings.limits, Limits::default());
        assert_eq!(settings.scale, ScaleSettings::default());
    }

    #[test]
    fn each_bad_value_is_named_with_its_place() {
        for (overrides, key, problem) in [
            ("policy = \"best\"", "policy", "unknown policy \"best\""),
            ("cluster = \"A B\"", "cluster", "cluster name \"A B\" is not valid"),
            ("listen = \"here\"", "listen", "cannot listen on \"here\""),
            ("listen = \"0.0.0.0:1\"\nlocal = true", "listen", "cannot listen on"),
            ("listen = \"[::1]:1\"", "listen", "nobody on the network can reach \"[::1]:1\""),
            ("xds_plain = \":7461\"", "xds_plain", "\":7461\" is not on the loopback"),
            ("log = \"loud\"", "log", "log filter \"loud\" is not valid"),
            ("[limits]\nsessions = 0", "limits.sessions", "expected 1 to 1000000, found 0"),
            ("[limits]\nper_peer = 0", "limits.per_peer", "expected 1 to 1000000, found 0"),
            ("[scale]\nmin = 9\nmax = 3", "scale.min", "min is 9 and max is 3: expected min"),
            ("[scale]\ntarget = 0.0", "scale.target", "target is 0: expected a number from 0.05"),
            ("[scale]\nschedule = [\"x\"]", "scale.schedule", "window \"x\" is not valid"),
            ("[scale]\nservice = \"a b\"", "scale.service", "service name \"a b\""),
            ("[limits]\nwatchers = 1000001", "limits.watchers", "expected 1 to 1000000"),
        ] {
            let error = settings(overrides).unwrap_err().to_string();
            let expected = format!("key `{key}` in the command line: {problem}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
