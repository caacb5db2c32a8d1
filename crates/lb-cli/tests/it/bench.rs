//! `lbctl bench run`, small: milliseconds instead of seconds, on real processes.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::support::{Cluster, lbctl};

/// Runs a scenario and reads what it prints.
fn bench(arguments: &[&str]) -> Value {
    let ended = lbctl(&[&["bench", "run"], arguments, &["--output", "json"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

fn scenario(folder: &Path, text: &str) -> String {
    let path = folder.join("case.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Failed and made calls of a policy.
fn calls(outcome: &Value, policy: &str) -> (u64, u64) {
    let spreads = outcome["spreads"].as_array().unwrap();
    let spread = spreads.iter().find(|spread| spread["name"] == policy).unwrap();
    let failures = spread["failures"].as_object().unwrap().values();
    (failures.map(|failed| failed.as_u64().unwrap()).sum(), spread["requests"].as_u64().unwrap())
}

#[test]
fn a_closed_loop_compares_policies_in_turn_and_writes_files() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let outcome = bench(&[
        "--workers",
        "3",
        "--slots",
        "2,1",
        "--clients",
        "4",
        "--requests",
        "24",
        "--task",
        "sleep 2ms",
        "--distribution",
        "bimodal",
        "--policies",
        "first,ll",
        "--repeats",
        "2",
        "--warm-up",
        "5",
        "--out",
        out.to_str().unwrap(),
    ]);
    let names: Vec<&Value> =
        outcome["repeats"].as_array().unwrap().iter().map(|run| &run["name"]).collect();
    assert_eq!(names, ["pick_first", "least_load", "pick_first", "least_load"]);
    assert_eq!(calls(&outcome, "pick_first"), (0, 48), "the warm-up is not counted");
    let first = &outcome["spreads"][0];
    for times in ["response", "pick"] {
        for figure in ["mean_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"] {
            let range = &first[times][figure];
            assert!(range["min"].as_f64().unwrap() <= range["median"].as_f64().unwrap());
            assert!(range["median"].as_f64().unwrap() <= range["max"].as_f64().unwrap());
        }
    }
    let workers = outcome["runs"][0]["workers"].as_array().unwrap();
    let of = |worker: &Value| (worker["worker_id"].clone(), worker["requests"].clone());
    assert_eq!(of(&workers[0]), ("w01".into(), 24.into()));
    assert_eq!(of(&workers[1]), ("w02".into(), 0.into()));
    let sample = &outcome["runs"][0]["utilisation"][0];
    assert!(sample["busy_slots"].is_u64() && sample["cpu"].is_f64(), "{sample}");
    assert_eq!(outcome["settings"]["workers"][1]["slots"], 1);

    let result = fs::read_to_string(out.join("result.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&result).unwrap()["kind"], "lbctl bench run");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    for text in ["Time to pick a worker", "CPU over time", "Medians of 2 repeats", "w03"] {
        assert!(page.contains(text), "the page lacks {text}");
    }
    assert!(!page.contains("http://") && !page.contains("https://"), "the page loads nothing");

    // The document of it: the scenario is no built-in one, so its cases are not measured.
    let document = folder.path().join("report.md");
    let arguments = ["report", out.to_str().unwrap(), "--markdown", document.to_str().unwrap()];
    let ended = lbctl(&arguments);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("not measured: homogeneous, unequal"), "{}", ended.stderr);
    assert!(fs::read_to_string(document).unwrap().contains("*Not measured.*"));
}

#[test]
fn all_clients_at_once_are_compared_with_the_limit_of_the_slots() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let outcome = bench(&[
        "sleep-10x10",
        "--workers",
        "2",
        "--slots",
        "3",
        "--clients",
        "6",
        "--requests",
        "6",
        "--task",
        "sleep 40ms",
        "--repeats",
        "1",
        "--warm-up",
        "4",
        "--out",
        out.to_str().unwrap(),
    ]);
    let limits: Vec<&Value> =
        outcome["spreads"].as_array().unwrap().iter().map(|spread| &spread["limit_us"]).collect();
    assert_eq!(limits, [80_000.0, 40_000.0, 40_000.0]);
    for spread in outcome["spreads"].as_array().unwrap() {
        let longest = spread["response"]["max_us"]["median"].as_f64().unwrap();
        // The histogram keeps three digits.
        assert!(longest > spread["limit_us"].as_f64().unwrap() * 0.998, "{spread}");
        assert_eq!((&spread["requests"], &spread["failures"]), (&6.into(), &serde_json::json!({})));
    }
    let document = folder.path().join("report.md");
    let result = out.join("result.json");
    let page = folder.path().join("report.html");
    let (page, to) = (page.to_str().unwrap(), document.to_str().unwrap());
    let arguments = ["report", result.to_str().unwrap(), "--markdown", to, "--html", page];
    let ended = lbctl(&arguments);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("not measured: homogeneous, "), "{}", ended.stderr);
    assert!(fs::read_to_string(page).unwrap().contains("<svg viewBox="));
    let plot = fs::read_to_string(folder.path().join("report/sleep-10x10.svg")).unwrap();
    assert!(plot.starts_with("<svg xmlns="), "{plot}");
    let document = fs::read_to_string(document).unwrap();
    assert!(document.contains("`lbctl bench run sleep-10x10"), "{document}");
    assert!(document.contains("| `round_robin` | "), "{document}");
}

#[test]
fn an_open_loop_changes_its_rate_and_tells_its_pace() {
    let folder = tempfile::tempdir().unwrap();
    let text = "workers = 2\ntask = \"sleep 1ms\"\nrate = 40\nduration = \"900ms\"\npolicies = [\"rr\"]\n\
                slowdown = [1, 3]\n[[phase]]\nat = \"300ms\"\nrate = 200\n[[phase]]\nat = \"500ms\"\nrate = 40\n";
    let outcome = bench(&[&scenario(folder.path(), text)]);
    assert_eq!(outcome["scenario"], "case");
    let run = &outcome["runs"][0];
    // 12 + 40 + 16 expected.
    let made = run["requests"].as_u64().unwrap();
    assert!((40..100).contains(&made), "{made}");
    let pace = &run["pace"];
    assert_eq!(pace["starts"].as_u64().unwrap(), made);
    // On a machine too busy for even this rate, its times are not shown.
    let kept = pace["kept"].as_bool().unwrap();
    assert_eq!(run["response"].is_null(), !kept);
    assert!(run["load"].as_str().unwrap().contains("from 300ms on 200 calls/s"));
}

#[test]
fn a_worker_is_killed_and_is_there_again_for_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let text = "workers = 2\nslots = [2]\ntask = \"sleep 30ms\"\nclients = 4\nduration = \"1s\"\n\
                policies = [\"rr\", \"ll\"]\n[[event]]\nat = \"300ms\"\nkill = \"w01\"\n";
    let outcome = bench(&[&scenario(folder.path(), text)]);
    for (policy, run) in ["round_robin", "least_load"].into_iter().zip(0..) {
        let (failed, made) = calls(&outcome, policy);
        // Only what was in the worker when it died: at most a call of each client.
        assert!(failed <= 4, "{policy}: {failed} of {made} failed");
        assert!(made > 30, "{policy}: {made}");
        let shares = outcome["runs"][run]["workers"].as_array().unwrap();
        let served: Vec<u64> =
            shares.iter().map(|worker| worker["requests"].as_u64().unwrap()).collect();
        assert!(0 < served[0] && served[0] < served[1], "{policy}: {served:?}");
    }
    assert!(outcome["description"].as_str().unwrap().contains("After 300ms w01 is killed."));
}

#[test]
fn workers_are_added_and_stopped_without_a_failed_call() {
    let folder = tempfile::tempdir().unwrap();
    let text = "workers = 2\nslots = [2]\ntask = \"sleep 10ms\"\nclients = 6\nduration = \"4s\"\n\
                policies = [\"ll\"]\n[[event]]\nat = \"100ms\"\nadd = { id = \"extra\", slots = 3 }\n\
                [[event]]\nat = \"200ms\"\nstop = \"w02\"\n";
    let outcome = bench(&[&scenario(folder.path(), text)]);
    assert_eq!(calls(&outcome, "least_load").0, 0, "{}", outcome["spreads"]);
    let workers = outcome["runs"][0]["workers"].as_array().unwrap();
    let extra = workers.iter().find(|worker| worker["worker_id"] == "extra");
    assert!(extra.unwrap()["requests"].as_u64().unwrap() > 0, "{workers:?}");
}

#[test]
fn ctrl_c_reports_what_was_done() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_lbctl"))
        .args(["bench", "run", "--workers", "1", "--slots", "2", "--clients", "2"])
        .args([
            "--task",
            "sleep 5ms",
            "--duration",
            "1h",
            "--output",
            "json",
            "--policies",
            "ll,rr",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Where no bar can be seen, a line tells that the first calls have ended.
    let log = BufReader::new(process.stderr.take().unwrap());
    log.lines()
        .map_while(Result::ok)
        .find(|line| line.contains("least_load: calls go on"))
        .unwrap();
    let killed = Command::new("kill").args(["-s", "INT", &process.id().to_string()]).status();
    assert!(killed.unwrap().success());
    let mut text = String::new();
    process.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(130));
    let json = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next();
    let outcome = json.unwrap().unwrap();
    let run = &outcome["runs"][0];
    assert_eq!((&run["name"], &run["cancelled"]), (&"least_load".into(), &true.into()));
    assert!(run["requests"].as_u64().unwrap() > 0);
    assert_eq!(outcome["runs"].as_array().unwrap().len(), 1, "the second policy was not begun");
}

#[test]
fn found_workers_are_called_and_nothing_else_happens_to_them() {
    let mut cluster = Cluster::start();
    let _worker = cluster.worker("theirs", &["--slots", "2"]);
    let before = cluster.json(&["policy"]);
    let arguments =
        ["bench", "run", "--found", "--clients", "2", "--requests", "20", "--task", "echo 64"];
    let outcome = cluster.json(&[&arguments[..], &["--policies", "rr,random"]].concat());
    assert_eq!(calls(&outcome, "random"), (0, 20));
    assert_eq!(outcome["runs"][0]["workers"][0]["worker_id"], "theirs");
    assert_eq!(cluster.json(&["policy"]), before, "the policy is in force again");
    let refused = cluster.lbctl(&["bench", "run", "worker-killed", "--found"]);
    assert_eq!(refused.code, 65);
    assert!(refused.stderr.contains("--found contradicts the events"), "{}", refused.stderr);
}

/// Long enough for a run to get ready, also on a machine with other work.
const UNTIL_START: Duration = Duration::from_secs(6);

#[test]
fn generators_that_begin_together_make_one_result() {
    let mut cluster = Cluster::start();
    let _worker = cluster.worker("theirs", &["--slots", "2"]);
    let (name, folder) = (cluster.name.clone(), tempfile::tempdir().unwrap());
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let start = humantime::format_rfc3339(SystemTime::now() + UNTIL_START).to_string();
    let run = |out: &str, policies: &str, start: &str| {
        let found = ["bench", "run", "--found", "--clients", "2", "--requests", "20"];
        let how = ["--task", "echo 64", "--policies", policies, "--start-at", start, "--out", out];
        let there = ["--local", "--cluster", &name];
        lbctl(&[&there[..], &found, &how].concat())
    };
    thread::scope(|scope| {
        for name in ["one", "two"] {
            let (out, start, run) = (file(name), &start, &run);
            scope.spawn(move || {
                let ended = run(&out, "rr", start);
                assert_eq!(ended.code, 0, "{}", ended.stderr);
            });
        }
    });
    let parts = ["one/result.json", "two/result.json"].map(file);
    let merge = |out: &str, parts: &[&str]| {
        lbctl(&[&["bench", "merge", "--output", "json", "--out", &file(out)], parts].concat())
    };
    let merged = merge("all", &[&parts[0], &parts[1]]);
    assert_eq!(merged.code, 0, "{}", merged.stderr);
    let outcome: Value = serde_json::from_str(&merged.stdout).unwrap();
    assert_eq!(calls(&outcome, "round_robin"), (0, 40));
    assert_eq!(outcome["runs"][0]["workers"][0]["requests"], 40);
    assert_eq!(outcome["settings"]["machines"], 2);
    assert!(folder.path().join("all/report.html").exists());

    for (ended, complaint) in [
        (run(&file("late"), "rr", "2020-01-01T00:00:00Z"), "--start-at has passed"),
        (run(&file("more"), "rr,random", &start), "expected one policy"),
        (merge("new", &[&file("all/result.json")]), "made by `lbctl bench run --found --start-at`"),
        (merge("new", &[&parts[0], &parts[1], &parts[0]]), "is named twice"),
        (merge("one", &[&parts[0], &parts[1]]), "would be overwritten"),
    ] {
        assert_eq!(ended.code, 65, "{}", ended.stderr);
        assert!(ended.stderr.contains(complaint), "{}", ended.stderr);
    }
    assert!(!folder.path().join("new").exists());
}

#[test]
fn a_bad_scenario_names_file_and_line_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = scenario(folder.path(), "workers = 2\nslots = [4]\nrequest = 5\n");
    let ended = lbctl(&["bench", "run", &path]);
    assert_eq!(ended.code, 65);
    let expected = format!("lbctl: error: {path}, line 3: unknown field `request`");
    assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
    let ended = lbctl(&["bench", "run", "unequall"]);
    assert_eq!(ended.code, 65);
    assert!(ended.stderr.contains("no scenario \"unequall\""), "{}", ended.stderr);
    let ended = lbctl(&["bench", "run", "--rate", "5", "--clients", "5"]);
    assert_eq!(ended.code, 64);
    let ended = lbctl(&["bench", "run", "--out", "/proc/no-such-folder"]);
    assert_eq!(ended.code, 73);
    assert!(ended.stderr.contains("/proc/no-such-folder"), "{}", ended.stderr);
}

#[test]
fn a_document_needs_results() {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("report.md");
    let document = document.to_str().unwrap();
    let case = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        lbctl(&["report", path.to_str().unwrap(), "--markdown", document])
    };
    let ended = case("other.json", "{\"kind\": \"something\"}");
    assert_eq!(ended.code, 65);
    assert!(ended.stderr.contains("other.json is no result"), "{}", ended.stderr);
    let ended = case("broken.json", "{\n\"kind\":\n");
    assert_eq!(ended.code, 65);
    assert!(ended.stderr.contains("broken.json, line 3"), "{}", ended.stderr);
    let ended = lbctl(&["report", "/no/such.json", "--markdown", document]);
    assert_eq!(ended.code, 65);
    assert!(ended.stderr.contains("cannot read /no/such.json"), "{}", ended.stderr);
}
