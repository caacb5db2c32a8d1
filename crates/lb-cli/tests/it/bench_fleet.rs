//! The benchmark of many workers, with few.

use crate::support::lbctl;

#[test]
fn the_fleet_benchmark_registers_everybody_and_measures_the_balancer() {
    let ended = lbctl(&["bench", "fleet", "--workers", "20", "--seconds", "2", "--output", "json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let found = &report["found"];
    assert_eq!((&found["registered"], &found["lost"]), (&20.into(), &0.into()), "{report:#}");
    assert!(found["cost"]["core_share"].as_f64().unwrap() > 0.0);
    assert!(found["cost"]["memory"]["resident_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(found["cost"]["reports_per_second"].as_f64().unwrap() > 0.0);
    let picks = found["picks"].as_array().unwrap();
    let workers: Vec<_> = picks.iter().map(|picks| picks["workers"].as_u64().unwrap()).collect();
    assert_eq!(workers, [4, 20, 4]);
    for way in ["unary", "session"] {
        assert!(picks.iter().all(|picks| picks[way]["p50_us"].as_f64().unwrap() > 0.0), "{way}");
    }
}

#[test]
fn a_fleet_of_impossible_size_is_refused() {
    let ended = lbctl(&["bench", "fleet", "--workers", "100000"]);
    assert_eq!(ended.code, 64);
    assert!(ended.stderr.contains("25000"), "{}", ended.stderr);
}
