//! Scenario files and what comes of them. `LB_BLESS=1` writes the expected summaries anew.

use std::{env, fs, path::Path};

use lb_sim::{Scenario, run};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");

#[test]
fn every_scenario_comes_out_as_expected() {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "toml") {
            continue;
        }
        let found = run(&Scenario::load(&path).unwrap()).to_string();
        let expected = path.with_extension("txt");
        if env::var_os("LB_BLESS").is_some() {
            fs::write(&expected, found).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("{}: now\n{found}", expected.display()));
        }
    }
    assert!(wrong.is_empty(), "LB_BLESS=1 accepts this:\n{}", wrong.join("\n"));
}

#[test]
fn a_missing_file_is_named() {
    let error = Scenario::load(Path::new("no/such.toml")).unwrap_err();
    assert_eq!(error.to_string(), "scenario no/such.toml: cannot be read");
}

const SOUND: &str = r#"about = "a"
rules = ["least_load"]
seconds = 10
[arrivals]
load = 0.5
[service]
kind = "exponential"
mean_ms = 50
[reports]
kind = "on_change"
interval_ms = 20
[[workers]]
count = 2
slots = 1
[[faults]]
kind = "crash"
at_seconds = 1
target = 1
"#;

#[test]
fn nonsense_is_refused_with_line_and_field() {
    Scenario::parse("x.toml", SOUND).unwrap();
    let cases = [
        ("slots = 1", "slots = 0", "line 14: workers.0.slots is 0, expected 1 to 65535"),
        ("load = 0.5", "load = -1", "line 5: arrivals.load is -1, expected a number above 0"),
        (
            "load = 0.5",
            "load = 0.5\nrate = 3",
            "line 4: arrivals is unclear, expected exactly one of",
        ),
        ("load = 0.5", "", "line 4: arrivals is unclear"),
        ("target = 1", "target = 2", "line 18: faults.0.target is 2, expected below 2"),
        ("\"crash\"", "\"burn\"", "line 16: faults.0.kind is \"burn\", expected crash, freeze"),
        ("\"exponential\"", "\"pareto\"", "line 6: service is \"pareto\" with other fields"),
        ("\"on_change\"", "\"never\"", "line 10: reports.kind is \"never\", expected on_change"),
        ("\"least_load\"", "\"best\"", "line 2: rules.0 is \"best\", expected unknown rule"),
        (
            "seconds = 10",
            "seconds = 10\nwarm_up_seconds = 10",
            "line 4: warm_up_seconds is 10, expected less",
        ),
        ("seconds = 10", "seconds = nan", "line 3: seconds is NaN, expected a number above 0"),
        (
            "mean_ms = 50",
            "mean_ms = \"x\"",
            "line 8: mean_ms: invalid type: string \"x\", expected f64",
        ),
        ("mean_ms = 50", "mean = 50", "line 8: unknown field `mean`"),
        ("count = 2", "", "missing field `count`"),
        ("[arrivals]", "[arrivals", "line 4: "),
        ("seconds = 10", "seconds = 1e300", "line 3: seconds is 1e300, expected a number above 0"),
        ("slots = 1", "slots = 70000", "line 14: slots: invalid value: integer `70000`"),
        ("slots = 1", "slots = 1\nslots = 1", "line 15: slots: duplicate key"),
        (
            "load = 0.5",
            "load = 0.5\nthink_ms = 5",
            "line 6: arrivals.think_ms is 5, expected nothing",
        ),
        ("interval_ms = 20", "interval_ms = 1e-9", "line 11: reports.interval_ms is"),
        ("mean_ms = 50", "mean_ms = 1e-4", "line 8: service.mean_ms is 0.0001, expected a micro"),
        ("slots = 1", "slots = 1\nspeed = 1e6", "line 8: service.mean_ms is 50, expected a micro"),
        ("load = 0.5", "load = 1e8", "line 5: arrivals.load is 100000000, or 4000000000 calls/s"),
        ("load = 0.5", "rate = 1e7", "line 5: arrivals.rate is 10000000, expected at most 1e6"),
        (
            "load = 0.5",
            "clients = 4000000000",
            "line 5: arrivals.clients is 4000000000, expected 1",
        ),
    ];
    for (sound, spoiled, message) in cases {
        let text = SOUND.replacen(sound, spoiled, 1);
        let error = Scenario::parse("x.toml", &text).unwrap_err().to_string();
        assert!(error.starts_with("scenario x.toml, line "), "{error}");
        assert!(error.contains(message), "{error} lacks {message}");
    }
}
