use std::{fs, path::Path};

use serde::Deserialize;

use super::*;

const DEFAULTS: &str = r#"
listen = ":0"
local = false
cluster = "default"
log = "info"
ratio = 0.5
services = ["compute"]

[limits]
sessions = 100
"#;

#[derive(Debug, Deserialize)]
struct Settings {
    listen: String,
    local: bool,
    cluster: String,
    log: String,
    ratio: f64,
    services: Vec<String>,
    limits: Limits,
    slots: Option<u16>,
    policy: Option<Policy>,
}

#[derive(Debug, Deserialize)]
struct Limits {
    sessions: u32,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Policy(String);

impl TryFrom<String> for Policy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "first" | "rr" => Ok(Self(text)),
            _ => Err(format!("no policy is called {text:?}: expected first or rr")),
        }
    }
}

const EXAMPLES: &str = "slots = 1\npolicy = \"rr\"\n";

fn sources() -> Sources<'static> {
    Sources {
        embedded: DEFAULTS,
        examples: EXAMPLES,
        file: FileChoice::None,
        environment: Vec::new(),
        environment_prefix: "LB_SERVER_",
        overrides: Table::new(),
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from_environment(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    load(Sources { environment: variables(pairs), ..sources() }).map(|loaded| loaded.value)
}

/// Writes a file and loads it; the directory's name is taken out of the message.
fn from_file<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lb-server.toml");
    fs::write(&path, text).unwrap();
    let prefix = format!("{}/", directory.path().display());
    load(Sources { file: FileChoice::Required(path), ..sources() })
        .map(|loaded| loaded.value)
        .map_err(|error| error.to_string().replace(&prefix, ""))
}

fn message(text: &str) -> String {
    from_file::<Settings>(text).unwrap_err()
}

#[test]
fn defaults_are_enough() {
    let settings: Settings = load(sources()).unwrap().value;
    assert_eq!((settings.listen.as_str(), settings.log.as_str()), (":0", "info"));
    assert_eq!(settings.services, ["compute"]);
    assert!(!settings.local && settings.slots.is_none() && settings.policy.is_none());
}

#[test]
fn each_layer_overrules_the_one_below() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lb-server.toml");
    fs::write(&path, "listen = \"file\"\ncluster = \"file\"\nlog = \"file\"\n").unwrap();
    let flags = Table::from_iter([("log".to_owned(), "flag".into())]);
    let settings: Settings = load(Sources {
        file: FileChoice::Optional(path),
        environment: variables(&[("LB_SERVER_CLUSTER", "variable"), ("LB_SERVER_LOG", "variable")]),
        overrides: flags,
        ..sources()
    })
    .unwrap()
    .value;
    assert_eq!(settings.listen, "file");
    assert_eq!(settings.cluster, "variable");
    assert_eq!(settings.log, "flag");
    assert!((settings.ratio - 0.5).abs() < f64::EPSILON);
}

#[test]
fn a_layer_may_set_one_key_of_a_table() {
    let settings: Settings = from_file("ratio = 1\n[limits]\nsessions = 7\n").unwrap();
    assert_eq!((settings.limits.sessions, settings.cluster.as_str()), (7, "default"));
    assert!((settings.ratio - 1.0).abs() < f64::EPSILON);
}

#[test]
fn variables_set_every_kind_of_value() {
    let settings = from_environment(&[
        ("LB_SERVER_LIMITS__SESSIONS", "9"),
        ("LB_SERVER_SERVICES", "one, two"),
        ("LB_SERVER_RATIO", "0.25"),
        ("LB_SERVER_SLOTS", "4"),
        ("LB_SERVER_POLICY", "rr"),
        ("LB_SERVER_LISTEN", ""),
        ("LB_SERVER_CONFIG", "/some/file"),
        ("LB_LOCAL", "1"),
        ("LB_CLUSTER", "123"),
        ("LB_WORKER_SLOTS", "not ours"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert_eq!(settings.limits.sessions, 9);
    assert_eq!(settings.services, ["one", "two"]);
    assert_eq!(settings.slots, Some(4));
    assert_eq!(settings.policy.unwrap().0, "rr");
    assert_eq!((settings.listen.as_str(), settings.cluster.as_str()), (":0", "123"));
    assert!(settings.local);
}

#[test]
fn the_daemons_own_variable_overrules_the_common_one() {
    let pairs = [("LB_SERVER_CLUSTER", "own"), ("LB_CLUSTER", "common"), ("LB_LOG", "debug")];
    let settings = from_environment(&pairs).unwrap();
    assert_eq!((settings.cluster.as_str(), settings.log.as_str()), ("own", "debug"));
}

#[test]
fn flags_that_were_not_given_say_nothing() {
    #[derive(Serialize)]
    struct Flags {
        listen: Option<String>,
        cluster: Option<String>,
    }
    let flags = overrides(&Flags { listen: None, cluster: Some("flag".into()) }).unwrap();
    let settings: Settings = load(Sources { overrides: flags, ..sources() }).unwrap().value;
    assert_eq!((settings.listen.as_str(), settings.cluster.as_str()), (":0", "flag"));
}

#[test]
fn a_missing_file_matters_only_when_asked_for() {
    let path = Path::new("/nonexistent/lb-server.toml").to_owned();
    let optional = Sources { file: FileChoice::Optional(path.clone()), ..sources() };
    assert!(load::<Settings>(optional).is_ok());
    let error = load::<Settings>(Sources { file: FileChoice::Required(path), ..sources() });
    assert_eq!(
        error.unwrap_err().to_string(),
        "cannot read the configuration file /nonexistent/lb-server.toml"
    );
}

#[test]
fn the_usual_file_is_under_etc() {
    let usual = FileChoice::Optional("/etc/lb/lb-server.toml".into());
    assert_eq!(FileChoice::new(None, "lb-server"), usual);
    let asked = FileChoice::Required("other.toml".into());
    assert_eq!(FileChoice::new(Some("other.toml".into()), "lb-server"), asked);
}

#[test]
fn malformed_toml_names_file_and_line() {
    let text = message("log = \"info\"\nlisten 7000\n");
    assert!(text.starts_with("lb-server.toml, line 2, column 8: "), "{text}");
    let text = message("log = \"info\"\nlog = \"debug\"\n");
    assert!(text.starts_with("lb-server.toml, line 2, column 1: duplicate key"), "{text}");
    let text = message("a = \"unfinished");
    assert!(text.starts_with("lb-server.toml, line 1, column "), "{text}");
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn an_unknown_key_is_named_with_its_place() {
    assert_eq!(
        message("listn = \":1\""),
        "unknown key `listn` in lb-server.toml: expected `cluster`, `limits`, `listen`, `local`, \
         `log`, `policy`, `ratio`, `services` or `slots`"
    );
    let text = message("[limits]\nsesions = 3");
    assert_eq!(text, "unknown key `limits.sesions` in lb-server.toml: expected `sessions`");
    let error = from_environment(&[("LB_SERVER_LIMITS__SESIONS", "3")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown key `limits.sesions` in the environment variable LB_SERVER_LIMITS__SESIONS: \
         expected `sessions`"
    );
    let overrides = Table::from_iter([("colour".to_owned(), "red".into())]);
    let error = load::<Settings>(Sources { overrides, ..sources() }).unwrap_err().to_string();
    assert!(error.starts_with("unknown key `colour` in the command line: expected"), "{error}");
}

#[test]
fn a_table_without_defaults_takes_any_keys() {
    #[derive(Debug, Deserialize)]
    struct Labelled {
        labels: std::collections::BTreeMap<String, String>,
    }
    let read = |text: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.toml");
        fs::write(&path, text).unwrap();
        let embedded = "[labels]\n";
        load::<Labelled>(Sources { embedded, file: FileChoice::Required(path), ..sources() })
    };
    assert!(read("").unwrap().value.labels.is_empty());
    let labels =
        read("[labels]\nGpu = \"a\"\n\"kernel.org/arch\" = \"x.y\"\n").unwrap().value.labels;
    assert_eq!(labels.get("Gpu").map(String::as_str), Some("a"));
    assert_eq!(labels.get("kernel.org/arch").map(String::as_str), Some("x.y"));
    let error = read("[labels]\n\"a.b\" = 4\n").unwrap_err().to_string();
    assert!(error.starts_with("key `labels.\"a.b\"` in "), "{error}");
    assert!(error.ends_with("x.toml: expected text, found integer 4"), "{error}");
}

#[test]
fn a_wrong_type_names_key_place_expected_and_found() {
    let expect = |text: &str, expected: &str| assert_eq!(message(text), expected);
    expect(
        "[limits]\nsessions = \"many\"",
        "key `limits.sessions` in lb-server.toml: expected an integer, found text \"many\"",
    );
    expect(
        "[limits]\nsessions = 2.7",
        "key `limits.sessions` in lb-server.toml: expected an integer, found a number 2.7",
    );
    expect(
        "local = 1",
        "key `local` in lb-server.toml: expected true or false, found an integer 1",
    );
    expect("limits = 3", "key `limits` in lb-server.toml: expected a table, found an integer 3");
    expect(
        "services = \"compute\"",
        "key `services` in lb-server.toml: expected a list, found text \"compute\"",
    );
    expect("[listen]\nport = 3", "key `listen` in lb-server.toml: expected text, found a table");
    let expect = |pair: (&str, &str), expected: &str| {
        assert_eq!(from_environment(&[pair]).unwrap_err().to_string(), expected);
    };
    expect(
        ("LB_LOCAL", "maybe"),
        "key `local` in the environment variable LB_LOCAL: \
         expected true or false, found text \"maybe\"",
    );
    expect(
        ("LB_SERVER_LIMITS__SESSIONS", "x"),
        "key `limits.sessions` in the environment variable LB_SERVER_LIMITS__SESSIONS: \
         expected an integer, found text \"x\"",
    );
    expect(
        ("LB_SERVER_LIMITS", "x"),
        "key `limits` in the environment variable LB_SERVER_LIMITS: \
         expected a table, found text \"x\"",
    );
}

#[test]
fn keys_without_a_default_are_checked_by_their_example() {
    for (text, found) in
        [("\"many\"", "text \"many\""), ("\"4\"", "text \"4\""), ("1.5", "a number 1.5")]
    {
        let expected = format!("key `slots` in lb-server.toml: expected an integer, found {found}");
        assert_eq!(message(&format!("slots = {text}")), expected);
    }
    let long = "x".repeat(10_000);
    assert!(message(&format!("slots = \"{long}\"")).len() < 300);
}

#[test]
fn integers_out_of_range_name_the_range() {
    let expected =
        "key `slots` in lb-server.toml: expected an integer from 0 to 65535, found integer";
    assert_eq!(message("slots = 70000"), format!("{expected} 70000"));
    assert_eq!(message("slots = -1"), format!("{expected} -1"));
    assert!(message("[limits]\nsessions = -1").starts_with("key `limits.sessions` in lb-server"));
}

#[test]
fn what_only_the_daemon_can_judge_is_named_with_its_place() {
    let loaded: Loaded<Settings> =
        load(Sources { environment: variables(&[("LB_LOG", "loud")]), ..sources() }).unwrap();
    assert_eq!(
        loaded.refuse("log", "too loud").to_string(),
        "key `log` in the environment variable LB_LOG: too loud"
    );
    assert_eq!(
        loaded.refuse("limits.sessions", "too many").to_string(),
        "key `limits.sessions` in the built-in defaults: too many"
    );
}

#[test]
fn a_reload_says_what_is_in_force_and_what_needs_a_restart() {
    let read = |pairs: &[(&str, &str)]| -> Loaded<Settings> {
        load(Sources { environment: variables(pairs), ..sources() }).unwrap()
    };
    let mut running = Running::new(&read(&[]), &["log", "limits", "slots"]);
    assert_eq!(running.adopt(&read(&[])), Changes::default());
    let other = read(&[
        ("LB_LOG", "debug"),
        ("LB_SERVER_LIMITS__SESSIONS", "7"),
        ("LB_SERVER_SLOTS", "2"),
        ("LB_SERVER_LISTEN", ":9"),
    ]);
    let changes = running.adopt(&other);
    assert_eq!(changes.applied, ["limits.sessions = 7", "log = \"debug\"", "slots = 2"]);
    assert_eq!(changes.restart, ["listen"]);
    // What was applied is in force; what needs a restart still does.
    let changes = running.adopt(&other);
    assert_eq!((changes.applied.len(), changes.restart), (0, vec!["listen".to_owned()]));
    let changes = running.adopt(&read(&[("LB_LOG", "debug")]));
    assert_eq!(changes.applied, ["limits.sessions = 100", "slots not set"]);
    assert!(changes.restart.is_empty());
}

#[test]
fn what_the_type_refuses_is_named_with_its_place() {
    let expected = "no policy is called \"best\": expected first or rr";
    assert_eq!(message("policy = \"best\""), format!("key `policy` in lb-server.toml: {expected}"));
    assert_eq!(
        from_environment(&[("LB_SERVER_POLICY", "best")]).unwrap_err().to_string(),
        format!("key `policy` in the environment variable LB_SERVER_POLICY: {expected}")
    );
}

#[test]
fn a_key_that_nobody_set_is_named() {
    #[derive(Debug, Deserialize)]
    struct Demanding {
        #[expect(dead_code, reason = "only its name is read")]
        token: String,
    }
    let embedded = "";
    let error = load::<Demanding>(Sources { embedded, ..sources() }).unwrap_err();
    assert_eq!(error.to_string(), "key `token` is not set and has no default");
}
