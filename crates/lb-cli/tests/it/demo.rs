//! The demo, small.

use crate::support::lbctl;

#[test]
fn the_demo_compares_three_policies_and_writes_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let arguments =
        ["demo", "--requests", "60", "--task", "5ms", "--report", page.to_str().unwrap()];
    let ended = lbctl(&arguments);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let html = std::fs::read_to_string(page).unwrap();
    for name in ["pick_first", "round_robin", "least_load", "w1", "w2", "w3", "w4"] {
        assert!(ended.stdout.contains(name), "{}", ended.stdout);
        assert!(html.contains(name), "the page lacks {name}");
    }
    assert!(ended.stdout.contains("report.html"));
    assert!(!html.contains("http://") && !html.contains("https://"), "the page loads nothing");
}

#[test]
fn the_demo_gives_its_figures_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let ended = lbctl(&[
        "demo",
        "--requests",
        "60",
        "--task",
        "5ms",
        "--output",
        "json",
        "--report",
        page.to_str().unwrap(),
    ]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    for run in runs {
        assert_eq!(run["requests"], 60);
        assert_eq!(run["failures"], serde_json::json!({}));
    }
    let first = &runs[0]["workers"][0];
    assert_eq!((&first["worker_id"], &first["requests"]), (&"w1".into(), &60.into()));
}

#[test]
fn an_unwritable_report_is_said_before_the_work() {
    let ended = lbctl(&["demo", "--report", "/no/such/folder/report.html"]);
    assert_eq!(ended.code, 73);
    assert!(ended.stderr.contains("/no/such/folder/report.html"), "{}", ended.stderr);
}

#[test]
fn the_demo_shows_workers_that_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let short = ["demo", "--scale", "--scale-duration", "15s", "--output", "json"];
    let ended = lbctl(&[&short[..], &["--report", page.to_str().unwrap()]].concat());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let said: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(said["run"]["failures"], serde_json::json!({}));
    let ready = said["moments"].as_array().unwrap().iter().map(|moment| moment["ready"].as_u64());
    assert!(ready.max().unwrap() > Some(2), "workers come: {said:#}");
    let html = std::fs::read_to_string(page).unwrap();
    for text in ["Workers that come and go", "calls per slot", "Response times", "wanted"] {
        assert!(html.contains(text), "the page lacks {text}");
    }
    let both = lbctl(&["demo", "--scale", "--clients", "3"]);
    assert_eq!(both.code, 64, "{}", both.stderr);
}
