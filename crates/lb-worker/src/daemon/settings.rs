//! From flags, variables and files to a [`Builder`], which knows what is valid.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use serde::{Deserialize, Serializer};

use lb_discovery::Scope;
use lb_runtime::{
    config::{self, ConfigError, FileChoice, Loaded, Sources},
    logging,
};
use lb_tls::{Choice, Tls};

use super::{Arguments, part::Part};
use crate::{
    BuildError, Builder,
    attach::{Health, Target},
    compute::Slowdown,
};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

/// The documented defaults, also installed as `/etc/lb/lb-worker.toml`.
const DEFAULTS: &str = include_str!("../../../../packaging/lb-worker.toml");
/// What the defaults do not have, since it has no default.
const EXAMPLES: &str = "attach = \"127.0.0.1:9000\"\nid = \"worker-1\"\ninstance = \"2\"\nslots = 4\nqueue = 16\n[tls]\nmode = \"mtls\"\nca = \"ca\"\ncertificate = \"crt\"\nkey = \"key\"\n";
/// The service of the daemon itself.
const BUILT_IN: &str = "lb.v1.Compute";
const ENVIRONMENT_PREFIX: &str = "LB_WORKER_";
/// Says who this very process is, unlike the file, which all workers of a machine read.
const ID_VARIABLE: &str = "LB_WORKER_ID";

/// The configuration as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    listen: String,
    attach: Option<String>,
    health: Health,
    cluster: String,
    id: Option<String>,
    instance: Option<String>,
    services: Vec<String>,
    slots: Option<u32>,
    queue: Option<u32>,
    balancers: Vec<String>,
    zone: String,
    drain_timeout_s: u32,
    slowdown: Slowdown,
    local: bool,
    pub(super) log: String,
    labels: BTreeMap<String, String>,
    #[serde(default)]
    tls: Choice,
}

impl Raw {
    /// Reads all layers, and checks every value.
    pub(super) fn load(
        arguments: &Arguments,
        file: FileChoice,
    ) -> Result<(Loaded<Self>, Tls), ConfigError> {
        Self::read(Sources {
            embedded: DEFAULTS,
            examples: EXAMPLES,
            file,
            environment: config::process_environment(),
            environment_prefix: ENVIRONMENT_PREFIX,
            overrides: config::overrides(arguments)?,
        })
    }

    fn read(sources: Sources<'_>) -> Result<(Loaded<Self>, Tls), ConfigError> {
        let is_its_own = sources.overrides.contains_key("id")
            || sources.environment.iter().any(|(name, _)| name == ID_VARIABLE);
        let mut loaded: Loaded<Self> = config::load(sources)?;
        let raw = &loaded.value;
        logging::check(&raw.log).map_err(|error| loaded.refuse("log", error))?;
        let cluster = raw.cluster.parse().map_err(|error| loaded.refuse("cluster", error))?;
        let tls = Tls::of_worker(&raw.tls, &cluster)
            .map_err(|error| loaded.refuse(&format!("tls.{}", error.setting()), error))?;
        if !is_its_own {
            loaded.value.id = raw.instance_id(&tls);
        }
        let raw = &loaded.value;
        raw.builder(&tls).check().map_err(|error| loaded.refuse(error.setting(), error))?;
        raw.check_attach().map_err(|(key, problem)| loaded.refuse(key, problem))?;
        Ok((loaded, tls))
    }

    /// What stands beside a service does not serve, queue or offer what is built in.
    fn check_attach(&self) -> Result<(), (&'static str, String)> {
        let Some(address) = &self.attach else { return Ok(()) };
        Target::of(address, self.scope()).map_err(|error| ("attach", error.to_string()))?;
        if self.queue.is_some() {
            return Err(("queue", "an attached service has its own queue: leave this out".into()));
        }
        if self.services.iter().any(|service| service == BUILT_IN) {
            let problem =
                format!("{BUILT_IN} is built in: name the service that is attached (--service)");
            return Err(("services", problem));
        }
        Ok(())
    }

    /// The worker that is described, and listens if it serves by itself.
    pub(super) fn part(&self, tls: &Tls) -> Result<Part, BuildError> {
        let builder = self.builder(tls);
        Ok(match &self.attach {
            Some(address) => Part::Attached(builder.attach(address, self.health)?),
            None => Part::Own(builder.build()?, self.slowdown),
        })
    }

    fn scope(&self) -> Scope {
        if self.local { Scope::Loopback } else { Scope::Lan }
    }

    /// Workers of a machine share its file and its certificate, so both name the machine; the instance follows.
    fn instance_id(&self, tls: &Tls) -> Option<String> {
        let shared = tls.identity().filter(|certificate| certificate.instances > 0);
        let machine = self.id.clone().or_else(|| Some(shared?.name.to_string()));
        match (&self.instance, machine) {
            (Some(instance), Some(machine)) => Some(format!("{machine}-{instance}")),
            _ => self.id.clone(),
        }
    }

    pub(super) fn builder(&self, tls: &Tls) -> Builder {
        let (scope, drain_timeout) =
            (self.scope(), Duration::from_secs(self.drain_timeout_s.into()));
        let mut builder = Builder::new(self.services.clone())
            .listen(&self.listen)
            .cluster(&self.cluster)
            .scope(scope)
            .zone(&self.zone)
            .balancers(&self.balancers)
            .drain_timeout(drain_timeout)
            .tls(tls.clone())
            .reflection(lb_proto::FILE_DESCRIPTOR_SET);
        if let Some(id) = &self.id {
            builder = builder.id(id);
        }
        if let Some(slots) = self.slots {
            builder = builder.slots(slots);
        }
        if let Some(queue) = self.queue {
            builder = builder.queue(queue);
        }
        self.labels.iter().fold(builder, |builder, (key, value)| builder.label(key, value))
    }
}

/// `name=value`, as the flag takes it.
#[derive(Debug, Clone)]
pub(super) struct Label {
    key: String,
    value: String,
}

impl FromStr for Label {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("expected NAME=VALUE, as in gpu=a100")?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Labels as the file has them.
pub(super) fn as_table<S: Serializer>(labels: &[Label], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter().map(|label| (&label.key, &label.value)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;

    use super::*;

    fn load(arguments: &[&str]) -> Result<Raw, ConfigError> {
        let arguments = Arguments::parse_from(["lb-worker"].iter().chain(arguments));
        Raw::load(&arguments, FileChoice::None).map(|(loaded, _)| loaded.value)
    }

    #[test]
    fn the_defaults_hold() {
        let raw = load(&[]).unwrap();
        assert_eq!((raw.listen.as_str(), raw.drain_timeout_s), (":0", 90));
        assert_eq!(raw.services, ["lb.v1.Compute"]);
        assert!(raw.id.is_none() && raw.slots.is_none() && raw.queue.is_none());
    }

    #[test]
    fn every_flag_arrives() {
        let raw = load(&[
            "--listen",
            ":7",
            "--id",
            "w",
            "--service",
            "a.B",
            "--service",
            "c.D",
            "--slots",
            "3",
            "--queue",
            "0",
            "--cluster",
            "lab",
            "--local",
            "--lb",
            "box:1",
            "--lb",
            "box:2",
            "--zone",
            "z",
            "--label",
            "gpu=a100",
            "--label",
            "x=y=z",
            "--label",
            "a.b/c=d.e",
            "--drain-timeout",
            "5",
            "--slowdown",
            "2.5",
            "--log",
            "debug",
        ]);
        let raw = raw.unwrap();
        assert_eq!((raw.listen.as_str(), raw.id.as_deref()), (":7", Some("w")));
        assert_eq!((raw.slots, raw.queue, raw.drain_timeout_s), (Some(3), Some(0), 5));
        assert!((raw.slowdown.factor() - 2.5).abs() < f64::EPSILON);
        assert_eq!(
            (raw.cluster.as_str(), raw.zone.as_str(), raw.log.as_str()),
            ("lab", "z", "debug")
        );
        assert_eq!((raw.services.len(), raw.balancers.len(), raw.local), (2, 2, true));
        assert_eq!(raw.labels.get("x").map(String::as_str), Some("y=z"));
        assert_eq!(raw.labels.get("a.b/c").map(String::as_str), Some("d.e"));
    }

    fn id(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worker.toml");
        fs::write(&path, file).unwrap();
        let arguments = Arguments::parse_from(["lb-worker"].iter().chain(flags));
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let sources = Sources {
            embedded: DEFAULTS,
            examples: EXAMPLES,
            file: FileChoice::Required(path),
            environment: environment.iter().map(owned).collect(),
            environment_prefix: ENVIRONMENT_PREFIX,
            overrides: config::overrides(&arguments).unwrap(),
        };
        Raw::read(sources).unwrap().0.value.id
    }

    #[test]
    fn an_instance_goes_by_the_name_of_its_machine_and_its_own() {
        let (file, second) = ("id = \"box\"", ("LB_WORKER_INSTANCE", "2"));
        assert_eq!(id(file, &[], &[]).as_deref(), Some("box"));
        assert_eq!(id(file, &[second], &[]).as_deref(), Some("box-2"));
        assert_eq!(id(file, &[second, (ID_VARIABLE, "x")], &[]).as_deref(), Some("x"));
        assert_eq!(id(file, &[second], &["--id", "y"]).as_deref(), Some("y"));
        assert_eq!(id("", &[second], &[]), None, "it draws one, and keeps it");
    }

    #[test]
    fn bad_values_are_named() {
        let long = "x".repeat(64);
        for (flag, value, key, problem) in [
            ("--slots", "0", "slots", "slots is 0: expected 1 to 65535"),
            ("--queue", "100001", "queue", "queue is 100001: expected 0 to 100000"),
            ("--id", "No", "id", "worker id \"No\" is not valid"),
            ("--cluster", "A B", "cluster", "cluster name \"A B\" is not valid"),
            ("--service", "no service", "services", "service name \"no service\""),
            ("--lb", "nowhere", "balancers", "balancer address \"nowhere\""),
            ("--listen", "here", "listen", "cannot listen on \"here\""),
            ("--zone", &long, "zone", "zone \"xxx"),
            ("--label", &format!("{long}=1"), "labels", "label key \"xxx"),
            ("--slowdown", "0", "slowdown", "slowdown is 0: expected 0.1 to 100"),
            ("--log", "loud", "log", "log filter \"loud\" is not valid"),
            ("--attach", "there", "attach", "cannot attach to \"there\""),
        ] {
            let error = load(&[flag, value]).unwrap_err().to_string();
            let expected = format!("key `{key}` in the command line: {problem}");
            assert!(error.starts_with(&expected), "{error}");
        }
        let wrong = Arguments::try_parse_from(["lb-worker", "--label", "gpu"]).unwrap_err();
        assert!(wrong.to_string().contains("expected NAME=VALUE"), "{wrong}");
    }

    #[test]
    fn an_attached_service_is_named_and_queues_by_itself() {
        let attach = ["--attach", "127.0.0.1:9000", "--service", "render", "--health", "tcp"];
        let raw = load(&attach).unwrap();
        assert_eq!((raw.attach.as_deref(), raw.health), (Some("127.0.0.1:9000"), Health::Tcp));
        let error = load(&[&attach[..], &["--queue", "3"]].concat()).unwrap_err().to_string();
        assert!(error.contains("an attached service has its own queue"), "{error}");
        let error = load(&attach[..2]).unwrap_err().to_string();
        assert!(error.contains("lb.v1.Compute is built in: name the service"), "{error}");
    }

    #[test]
    fn a_wrong_file_names_file_and_key() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("worker.toml");
        fs::write(&file, "slotz = 3").unwrap();
        let arguments = Arguments::parse_from(["lb-worker"]);
        let error = Raw::load(&arguments, FileChoice::Required(file)).unwrap_err().to_string();
        assert!(error.contains("slotz") && error.contains("worker.toml"), "{error}");
    }
}
