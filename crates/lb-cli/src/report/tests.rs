//! A fixed comparison of three policies on four workers, shown in every form.

use std::collections::BTreeMap;

use crate::load::{
    CdfPoint, End, Pace, Plan, ResponseTimes, RunResult, Shape, UtilisationSample, WorkerUse,
};

use super::*;

/// Slots of the four workers.
const SLOTS: [u32; 4] = [1, 2, 4, 8];

const ELAPSED_SECONDS: f64 = 12.5;

/// A run whose times have the shape of a real one: a body and a tail.
fn run(name: &str, p50_us: f64, p99_us: f64, shares: [f64; 4], used: [f64; 4]) -> RunResult {
    let plan = Plan::new(name, Shape::Closed { clients: 24 }, End::Requests(3000)).unwrap();
    // Log-normal between the two quantiles: z(0.99) is 2.326.
    let spread = (p99_us / p50_us).ln() / 2.326;
    let time = |z: f64| (p50_us * (spread * z).exp()).round();
    let response_cdf: Vec<CdfPoint> = (0..=120)
        .map(|step| {
            let z = f64::from(step) / 20.0 - 3.0;
            CdfPoint {
                time_us: format!("{}", time(z)).parse().unwrap(),
                fraction: if step == 120 { 1.0 } else { 1.0 / (1.0 + (-1.702 * z).exp()) },
            }
        })
        .collect();
    let quantile = |z: f64| format!("{}", time(z)).parse().unwrap();
    RunResult {
        name: name.to_owned(),
        load: plan.describe(),
        elapsed_seconds: ELAPSED_SECONDS,
        requests: 3000,
        failures: BTreeMap::new(),
        cancelled: false,
        abandoned: 0,
        throughput_per_second: 3000.0 / ELAPSED_SECONDS,
        response: Some(ResponseTimes {
            mean_us: p50_us * (spread * spread / 2.0).exp(),
            p50_us: quantile(0.0),
            p90_us: quantile(1.2816),
            p99_us: quantile(2.326),
            p999_us: quantile(3.0902),
            max_us: quantile(3.4),
        }),
        response_cdf,
        pick: Some(ResponseTimes {
            mean_us: 61.0,
            p50_us: 55,
            p90_us: 80,
            p99_us: 240,
            p999_us: 900,
            max_us: 2_100,
        }),
        queued: None,
        service: None,
        counts: None,
        workers: workers(shares, used),
        utilisation: over_time(used),
        phases: Vec::new(),
        pace: None,
    }
}

fn workers(shares: [f64; 4], used: [f64; 4]) -> Vec<WorkerUse> {
    let worker = |index: usize| WorkerUse {
        worker_id: format!("demo-{}", index + 1),
        slots: Some(SLOTS[index]),
        requests: format!("{}", (shares[index] * 3000.0).round()).parse().unwrap(),
        failures: 0,
        share: shares[index],
        utilisation: Some(used[index]),
    };
    (0..SLOTS.len()).map(worker).collect()
}

fn over_time(used: [f64; 4]) -> Vec<UtilisationSample> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut samples = Vec::new();
    for tick in 0..=50_u32 {
        for (index, slots) in SLOTS.into_iter().enumerate() {
            let noise = (random.f64() - 0.5) * if used[index] > 0.0 { 0.25 } else { 0.0 };
            samples.push(UtilisationSample {
                at_seconds: f64::from(tick) * 0.25,
                worker_id: format!("demo-{}", index + 1),
                slots,
                in_flight: slots,
                busy_slots: slots,
                utilisation: (tick > 0).then(|| (used[index] + noise).clamp(0.0, 1.0)),
                cpu: 0.4,
            });
        }
    }
    samples
}

fn report() -> Report {
    let due = [1.0 / 15.0, 2.0 / 15.0, 4.0 / 15.0, 8.0 / 15.0];
    let mut first = run("pick_first", 1.9e6, 2.84e6, [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]);
    first.failures.insert("RESOURCE_EXHAUSTED".to_owned(), 12);
    first.failures.insert("DEADLINE_EXCEEDED".to_owned(), 3);
    Report {
        title: "Three ways to balance".to_owned(),
        description: "The same 3,000 calls of about 50 ms each under every policy, on four \
                      workers of 1, 2, 4 and 8 slots."
            .to_owned(),
        environment: Environment {
            command_line: "lbctl demo --requests 3000".to_owned(),
            date: "1 March 2026, 12:00 UTC".to_owned(),
            machine: "Debian GNU/Linux 12, x86-64".to_owned(),
            cores: 8,
            versions: BTreeMap::from([("lbctl".to_owned(), "0.1.0".to_owned())]),
        },
        runs: vec![
            first,
            run("round_robin", 9.1e4, 7.42e5, [0.25; 4], [0.98, 0.81, 0.43, 0.21]),
            run("least_load", 5.3e4, 1.93e5, due, [0.71, 0.69, 0.7, 0.68]),
        ],
        spreads: Vec::new(),
    }
}

#[test]
fn the_table_reads_like_this() {
    let table = report().table(100);
    let expected = "\
──────────────────────────────────────────────────────────────────────────────────────────────────
policy       requests  failed     mean      p50     p99     max  req/s  worker  slots  share  util
══════════════════════════════════════════════════════════════════════════════════════════════════
pick_first      3,000      15   1.93 s   1.90 s  2.84 s  3.42 s    240  demo-1      1   100%  100%
                                                                        demo-2      2     0%    0%
                                                                        demo-3      4     0%    0%
                                                                        demo-4      8     0%    0%
──────────────────────────────────────────────────────────────────────────────────────────────────
round_robin     3,000       0   137 ms  91.0 ms  742 ms  1.96 s    240  demo-1      1    25%   98%
                                                                        demo-2      2    25%   81%
                                                                        demo-3      4    25%   43%
                                                                        demo-4      8    25%   21%
──────────────────────────────────────────────────────────────────────────────────────────────────
least_load      3,000       0  61.8 ms  53.0 ms  193 ms  351 ms    240  demo-1      1   6.7%   71%
                                                                        demo-2      2    13%   69%
                                                                        demo-3      4    27%   70%
                                                                        demo-4      8    53%   68%
──────────────────────────────────────────────────────────────────────────────────────────────────
* pick_first: 15 calls failed (12 RESOURCE_EXHAUSTED, 3 DEADLINE_EXCEEDED); \
response times are of the others.
";
    assert_eq!(table, expected, "\n{table}");
}

#[test]
fn the_table_fits_its_width_where_it_can() {
    let mut report = report();
    report.runs[0].name = "a_policy_with_a_very_long_name".to_owned();
    report.runs[0].workers[0].worker_id = "a-worker-with-a-very-long-id".to_owned();
    for width in [100, 110, 120, 160] {
        let table = report.table(width);
        let lines = table.lines().filter(|line| !line.starts_with('*'));
        let widest = lines.map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= width, "{widest} > {width}\n{table}");
    }
}

#[test]
fn eighty_columns_get_two_tables() {
    let expected = "policy       requests  failed     mean      p50     p99     max  req/s";
    let table = report().table(80);
    let head: Vec<&str> = table.lines().filter(|line| line.starts_with("policy")).collect();
    assert_eq!(head, [expected], "{table}");
    for text in ["worker  slots  ", "demo-4      8", "* pick_first: 15 calls failed"] {
        assert!(table.contains(text), "{text}\n{table}");
    }
    let mut repeated = report();
    let spread = |run: &RunResult| Spread::of(&[run.clone(), run.clone()], Some(200_000.0));
    repeated.spreads = repeated.runs.iter().filter_map(spread).collect();
    for table in [table, repeated.table(80)] {
        let lines = table.lines().filter(|line| !line.starts_with('*'));
        assert!(lines.map(|line| line.chars().count()).max().unwrap() <= 80, "{table}");
    }
    assert!(repeated.table(80).contains("max ÷ limit"));
}

#[test]
fn the_page_stands_alone_and_shows_everything() {
    let report = report();
    let page = report.html().unwrap();
    for outside in ["http://", "https://", "src=", "href=", "url(", "@import", "<script"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for run in &report.runs {
        assert!(page.contains(&format!(">{}</th>", run.name)));
        assert!(page.contains(&format!("Utilisation over time: {}", run.name)));
    }
    for worker in &report.runs[0].workers {
        assert!(page.contains(&format!(">{}</th>", worker.worker_id)));
    }
    assert_eq!(page.matches("<figure").count(), 7);
    assert_eq!(page.matches("<figcaption>").count(), 7);
    assert_eq!(page.matches("class=\"legend\"").count(), 7);
    let opened = page.matches("<svg").count();
    assert_eq!(opened, page.matches("</svg>").count());
    assert!(page.contains("lbctl demo --requests 3000"));
    assert!(page.contains(
        "99 of 100 calls were answered within 193 ms under least_load; \
         round_robin 742 ms (3.8×), pick_first 2.84 s (15×)."
    ));
    assert!(page.contains("closed loop, 24 clients, 3000 requests"));
}

#[test]
fn the_headline_tells_of_failures_before_times() {
    let mut report = report();
    report.runs[2].failures.insert("UNAVAILABLE".to_owned(), 600);
    let headline = "Failed calls: round_robin 0%, pick_first 0.5%, least_load 20%. Response times are \
                    of the calls answered.";
    assert!(report.html().unwrap().contains(headline));
}

#[test]
fn repeats_are_shown_as_medians_with_their_range() {
    let mut report = report();
    let repeats = |run: &RunResult| {
        let mut slower = run.clone();
        slower.response.as_mut().unwrap().max_us *= 2;
        [run.clone(), run.clone(), slower]
    };
    let spreads = report.runs.iter().filter_map(|run| Spread::of(&repeats(run), Some(200_000.0)));
    report.spreads = spreads.collect();
    let table = report.table(110);
    for text in ["351–701 ms", "limit  max ÷ limit", "200 ms         1.75", "demo-4", "9,000"] {
        assert!(table.contains(text), "{text}\n{table}");
    }
    assert!(table.contains("* pick_first: 45 calls failed (36 RESOURCE_EXHAUSTED"), "{table}");
    let page = report.html().unwrap();
    assert!(page.contains("Medians of 3 repeats"));
    assert!(page.contains("<td>351 ms<small>351–701 ms</small></td>"));
}

#[test]
fn colours_are_names_that_the_style_sheet_knows() {
    let page = report().html().unwrap();
    let (style, body) = page.split_once("</style>").unwrap();
    assert!(!body.contains("=\"#"), "a colour that no theme can change");
    let rests = body.split("var(").skip(1);
    let mut names: Vec<&str> = rests.map(|rest| rest.split(')').next().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert_eq!(style.matches(&format!("{name}:")).count(), 2, "{name} in both themes");
    }
}

#[test]
fn hostile_text_stays_text() {
    let hostile = "<script>alert(\"&\")</script>";
    let mut report = report();
    report.title = hostile.to_owned();
    report.description = hostile.to_owned();
    report.environment.command_line = hostile.to_owned();
    report.environment.versions.insert(hostile.to_owned(), hostile.to_owned());
    report.runs[0].name = hostile.to_owned();
    report.runs[0].load = hostile.to_owned();
    report.runs[0].failures.insert(hostile.to_owned(), 1);
    report.runs[0].workers[0].worker_id = hostile.to_owned();
    let page = report.html().unwrap();
    assert!(!page.contains("<script"));
    assert!(page.contains("&lt;script&gt;alert(&quot;&amp;&quot;)"));
    report.runs[1].name = "\"#E10000\"".to_owned();
    let page = report.html().unwrap();
    assert!(page.contains("&quot;#E10000&quot;"), "a label is no colour");
}

#[test]
fn json_brings_everything_back() {
    let report = report();
    let read: Report = serde_json::from_str(&report.json().unwrap()).unwrap();
    assert_eq!(read.title, report.title);
    assert_eq!(read.environment, report.environment);
    for (read, written) in read.runs.iter().zip(&report.runs) {
        // Not `read == written`: a last digit of a fraction may get lost on the way.
        assert_eq!(read.failures, written.failures);
        assert_eq!(read.response_cdf.len(), written.response_cdf.len());
        assert_eq!(read.utilisation.len(), written.utilisation.len());
        let p99 = |run: &RunResult| run.response.as_ref().map(|times| times.p99_us);
        assert_eq!(p99(read), p99(written));
        assert_eq!(read.workers.len(), written.workers.len());
    }
    assert_eq!(read.runs.len(), 3);
}

#[test]
fn a_report_of_nothing_is_still_a_report() {
    let mut report = report();
    report.runs.truncate(1);
    let run = &mut report.runs[0];
    run.requests = 15;
    run.response = None;
    run.response_cdf.clear();
    run.pick = None;
    run.workers.clear();
    run.utilisation.clear();
    run.throughput_per_second = 0.0;
    run.elapsed_seconds = 0.0;
    assert_eq!(report.html().unwrap().matches("<figure").count(), 0);
    assert!(report.table(100).contains('–'));
    report.runs.clear();
    assert!(report.html().is_ok());
    assert!(report.table(0).contains("policy"));
}

#[test]
fn many_runs_and_workers_are_cut_short_in_plots_only() {
    let mut report = report();
    let first = report.runs[1].workers[0].clone();
    report.runs[1].workers = (0..40)
        .map(|index| WorkerUse {
            worker_id: format!("rack-{}-node-{index}", index % 3),
            ..first.clone()
        })
        .collect();
    for index in 0..10 {
        let mut more = report.runs[1].clone();
        more.name = format!("variant_{index}");
        report.runs.push(more);
    }
    let page = report.html().unwrap();
    assert!(page.contains(">rack-0-node-39</th>"));
    assert!(page.contains(">variant_9</th>"));
    assert!(page.contains("The first 8 of 44 workers."));
    assert!(page.contains("The first 10 of 44 workers."));
    assert!(page.contains("The first 8 of 13 runs"));
    assert!(report.table(100).contains("+24 more"));
}

#[test]
fn what_went_wrong_is_told() {
    let mut report = report();
    let run = &mut report.runs[2];
    run.cancelled = true;
    run.abandoned = 24;
    run.pace = Some(Pace {
        intended_per_second: 500.0,
        achieved_per_second: 231.4,
        starts: 3000,
        late_starts: 900,
        held_starts: 0,
        start_delay: None,
        kept: false,
    });
    let table = report.table(100);
    for note in [
        "* pick_first: 15 calls failed (12 RESOURCE_EXHAUSTED, 3 DEADLINE_EXCEEDED); response times \
         are of the others.",
        "* least_load: cancelled before its end; 24 calls dropped in flight.",
        "* least_load: the rate was not kept, the generator was too slow: 231 of 500 calls/s, 900 of \
         3,000 calls begun late; its response times are not the system's and are left out.",
    ] {
        assert!(table.contains(note), "{note}\n{table}");
    }
    let page = report.html().unwrap();
    assert!(
        page.contains("<li>least_load: cancelled before its end; 24 calls dropped in flight.</li>")
    );
}
