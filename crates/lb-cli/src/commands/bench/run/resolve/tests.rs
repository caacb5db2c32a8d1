//! Scenarios as people write them, rightly and wrongly.

use clap::Parser;

use super::*;
use crate::{
    commands::bench::run::{scenario::Happening, source::BUILT_IN},
    load::RateChange,
};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags,
    #[arg(long)]
    found: bool,
}

fn flags(words: &[&str]) -> Flags {
    Line::try_parse_from([&["bench"], words].concat()).unwrap().flags
}

fn resolved(text: &str, words: &[&str]) -> Result<Scenario, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.toml");
    std::fs::write(&path, text).unwrap();
    let given = path.to_str().unwrap();
    let source = Source::find(given).unwrap();
    resolve(&source, &flags(words)).map_err(|error| error.to_string().replace(given, "case.toml"))
}

fn refusal(text: &str) -> String {
    resolved(text, &[]).unwrap_err()
}

#[test]
fn every_built_in_scenario_is_sound() {
    for (name, _) in BUILT_IN {
        let scenario = resolve(&Source::find(name).unwrap(), &Flags::default()).unwrap();
        assert_eq!(scenario.name, name);
        assert_eq!(scenario.repeats, 5);
        assert!(!scenario.description.is_empty() && !scenario.title.starts_with("Scenario"));
        for policy in &scenario.policies {
            scenario.plan(*policy, 0).unwrap();
        }
        assert!(scenario.warm_up_plan().unwrap().is_some());
    }
    let help = <super::super::Arguments as clap::Args>::augment_args(clap::Command::new("run"));
    let help = help.get_after_help().unwrap().to_string();
    for (name, _) in BUILT_IN {
        assert!(help.contains(name), "the help lacks {name}");
    }
}

#[test]
fn flags_overrule_the_file() {
    let text = "workers = 3\nslots = [8]\nrate = 50\nduration = \"4s\"\npolicies = [\"rr\"]\n";
    let scenario = resolved(text, &[]).unwrap();
    assert_eq!(scenario.end, End::Elapsed(Duration::from_secs(4)));
    assert_eq!(scenario.calls, Calls::Open { rate_per_second: 50.0, changes: Vec::new() });
    assert_eq!((scenario.workers.len(), scenario.workers[2].queue), (3, 32));
    let scenario = resolved(
        text,
        &[
            "--workers",
            "5",
            "--slots",
            "4,4,2",
            "--slowdown",
            "1,3",
            "--clients",
            "7",
            "--requests",
            "70",
            "--policies",
            "first,ll",
            "--task",
            "burn 20ms",
            "--distribution",
            "pareto",
            "--repeats",
            "2",
            "--warm-up",
            "0",
            "--seed",
            "9",
        ],
    );
    let scenario = scenario.unwrap();
    let slots: Vec<u32> = scenario.workers.iter().map(|worker| worker.slots).collect();
    assert_eq!(slots, [4, 4, 2, 4, 4]);
    assert!((scenario.workers[1].slowdown - 3.0).abs() < f64::EPSILON);
    assert_eq!((scenario.workers[4].id.as_str(), scenario.workers[4].queue), ("w05", 7));
    assert_eq!(scenario.calls, Calls::Closed { clients: 7 });
    assert_eq!(scenario.end, End::Requests(70));
    assert_eq!(scenario.policies, [PolicyKind::PickFirst, PolicyKind::LeastLoad]);
    assert_eq!(scenario.task, Task::Burn(Duration::from_millis(20)));
    assert_eq!(scenario.distribution, Distribution::Pareto);
    assert_eq!((scenario.repeats, scenario.warm_up, scenario.seed), (2, 0, 9));
}

#[test]
fn without_a_file_the_flags_say_it_all() {
    let scenario = resolve(&Source::empty(), &flags(&["--slots", "4,4,2"])).unwrap();
    assert_eq!((scenario.workers.len(), scenario.calls), (3, Calls::Closed { clients: 32 }));
    let refused = |words| resolve(&Source::empty(), &flags(words)).unwrap_err().to_string();
    assert_eq!(refused(&["--workers", "0"]), "--workers is 0: expected 1 to 99");
    assert_eq!(refused(&["--warm-up=-1"]), "--warm-up is -1: expected 0 to 1000000");
    assert!(refused(&["--rate", "0"]).starts_with("--rate is 0: expected more than 0"));
    assert!(refused(&["--task", "fly"]).starts_with("--task is wrong: \"fly\" is no task"));
    assert!(refused(&["--policies", "best"]).contains("--policies is wrong: unknown policy"));
    assert_eq!(refused(&["--duration", "0s"]), "--duration is \"0s\": expected 1ms to 24h");
}

#[test]
fn events_and_phases_are_read() {
    let text = "workers = 2\nrate = 10\nduration = \"9s\"\n\
                [[event]]\nat = \"5s\"\nadd = { id = \"w09\", slots = 2 }\n\
                [[event]]\nat = \"3s\"\nkill = \"w01\"\n\
                [[event]]\nat = \"6s\"\nstop = \"w09\"\n\
                [[phase]]\nat = \"2s\"\nrate = 90\n";
    let scenario = resolved(text, &[]).unwrap();
    assert_eq!(scenario.events[0].what, Happening::Kill("w01".into()));
    let Happening::Add(worker) = &scenario.events[1].what else { panic!("{scenario:?}") };
    assert_eq!((worker.id.as_str(), worker.slots, worker.queue), ("w09", 2, 16));
    assert_eq!(scenario.events[2].what, Happening::Stop("w09".into()));
    let change = RateChange { at: Duration::from_secs(2), rate_per_second: 90.0 };
    assert_eq!(scenario.calls, Calls::Open { rate_per_second: 10.0, changes: vec![change] });
}

#[test]
fn what_cannot_be_read_names_file_and_line_and_field() {
    let cases = [
        ("workers = 2\nworker = 3\n", "case.toml, line 2: unknown field `worker`, expected one of"),
        ("\nworkers = \"ten\"\n", "case.toml, line 2: workers: invalid type: string \"ten\""),
        ("slots = [\n  4,\n  \"x\",\n]\n", "case.toml, line 3: slots: invalid type"),
        ("workers = \n", "case.toml, line 1: workers: "),
        ("workers = 1\nworkers = 2\n", "case.toml, line 2: workers: duplicate key"),
        (
            "distribution = \"even\"\n",
            "case.toml, line 1: distribution: unknown variant `even`, expected one of",
        ),
        ("workers = 2\n[[event]]\nkill = \"w01\"\n", "case.toml, line 2: missing field `at`"),
        ("[[event]]\nat = \"1s\"\nshoot = \"w01\"\n", "case.toml, line 3: unknown field `shoot`"),
        (
            "[[event]]\nat = \"1s\"\nadd = { id = \"x\", slot = 1 }\n",
            "case.toml, line 3: unknown field `slot`",
        ),
        ("[[phase]]\nat = \"1s\"\n", "case.toml, line 1: missing field `rate`"),
    ];
    for (text, expected) in cases {
        let error = refusal(text);
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn what_is_out_of_range_names_file_and_line_and_field() {
    let cases = [
        ("workers = 0\n", "case.toml, line 1: workers is 0: expected 1 to 99"),
        ("\n\nslots = [4, 0]\n", "case.toml, line 3: slots is 0: expected 1 to 65535"),
        ("slots = []\n", "case.toml, line 1: slots is empty"),
        (
            &format!("slots = {:?}\n", [1; 100]),
            "case.toml, line 1: slots lists 100: expected at most 99 workers",
        ),
        ("slowdown = [0]\n", "case.toml, line 1: slowdown is 0: expected 0.1 to 100"),
        ("queue = -1\n", "case.toml, line 1: queue is -1: expected 0 to 100000"),
        ("clients = 20000\n", "case.toml, line 1: clients is 20000: expected 1 to 10000"),
        ("rate = nan\n", "case.toml, line 1: rate is NaN: expected more than 0"),
        ("requests = 0\n", "case.toml, line 1: requests is 0: expected 1 to"),
        ("duration = \"soon\"\n", "case.toml, line 1: duration is \"soon\": expected a time"),
        ("task = \"sleep 9h\"\n", "case.toml, line 1: task is wrong: \"9h\" is no time for a task"),
        ("policies = []\n", "case.toml, line 1: policies is empty"),
        (
            "policies = [\"best\"]\n",
            "case.toml, line 1: policies is wrong: unknown policy \"best\"",
        ),
        ("repeats = 0\n", "case.toml, line 1: repeats is 0: expected 1 to 100"),
    ];
    for (text, expected) in cases {
        let error = refusal(text);
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn contradictions_name_file_and_line_and_both_fields() {
    let kill = "workers = 2\nduration = \"5s\"\n[[event]]\nat = \"1s\"\n";
    let cases = [
        ("clients = 3\nrate = 5\n".to_owned(), "line 2: rate contradicts clients"),
        ("requests = 3\nduration = \"5s\"\n".into(), "line 2: duration contradicts requests"),
        ("workers = 1\nslots = [4, 2]\n".into(), "line 2: slots lists 2, but workers is 1"),
        ("workers = 1\nslowdown = [1, 2]\n".into(), "line 2: slowdown lists 2, but workers is 1"),
        (
            "task = \"sum 9\"\ndistribution = \"pareto\"\n".into(),
            "line 2: distribution contradicts the task sum 9",
        ),
        ("policies = [\"ll\", \"least_load\"]\n".into(), "line 1: policies names least_load twice"),
        (
            format!("{kill}kill = \"w03\"\n"),
            "line 5: event.kill is \"w03\": expected a worker that runs then: w01, w02",
        ),
        (
            format!("{kill}add = {{ id = \"w02\" }}\n"),
            "line 5: event.add.id is \"w02\", which runs already",
        ),
        (format!("{kill}add = {{ id = \"W 3\" }}\n"), "line 5: event.add.id is \"W 3\": expected"),
        (format!("{kill}kill = \"w01\"\nstop = \"w02\"\n"), "line 3: event is not clear"),
        (kill.to_owned(), "line 3: event is not clear: expected one of kill, stop and add"),
        (
            format!("{kill}kill = \"w01\"\n[[event]]\nat = \"2s\"\nstop = \"w01\"\n"),
            "line 8: event.stop is \"w01\"",
        ),
        (
            "duration = \"5s\"\n[[event]]\nat = \"5s\"\nkill = \"w01\"\n".into(),
            "line 3: event.at is 5s, but the run ends after 5s",
        ),
        (
            "clients = 5\n[[phase]]\nat = \"1s\"\nrate = 5\n".into(),
            "line 2: phase contradicts clients",
        ),
        ("[[phase]]\nat = \"1s\"\nrate = 5\n".into(), "line 1: phase contradicts a closed loop"),
        (
            "rate = 5\n[[phase]]\nat = \"0s\"\nrate = 5\n".into(),
            "line 3: phase.at is 0ns: expected later than",
        ),
        ("rate = 5\n[[phase]]\nat = \"1s\"\nrate = 0\n".into(), "line 4: phase.rate is 0"),
    ];
    for (text, expected) in cases {
        let error = refusal(&text);
        assert!(error.starts_with(&format!("case.toml, {expected}")), "{text:?}: {error}");
    }
    // A flag overrules the file, and what hangs on what it overruled no longer fits.
    let text = "rate = 5\n[[phase]]\nat = \"1s\"\nrate = 5\n";
    let error = resolved(text, &["--clients", "5"]).unwrap_err();
    assert!(error.starts_with("case.toml, line 2: phase contradicts --clients"), "{error}");
    assert!(resolved("workers = 3\nslots = [4, 2, 1]\n", &["--workers", "2"]).is_ok());
}

#[test]
fn what_is_not_there_is_named() {
    let missing = Source::find("no/such.toml").unwrap_err().to_string();
    assert!(
        missing.starts_with("cannot read the scenario no/such.toml: No such file"),
        "{missing}"
    );
    let unknown = Source::find("unequall").unwrap_err().to_string();
    assert!(unknown.starts_with(
        "no scenario \"unequall\": expected a file ending in .toml, or one of homogeneous"
    ));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("binary.toml");
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    let error = Source::find(path.to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains("binary.toml") && error.contains("UTF-8"), "{error}");
}
