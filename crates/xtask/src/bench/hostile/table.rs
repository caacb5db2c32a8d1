//! The table in docs/performance.md.

use std::fmt::Write as _;

use super::{Report, Round, Series};
use crate::bench::result::{median, quartiles};

/// Least share of their throughput that honest clients keep.
const LEAST: f64 = 0.9;

impl Round {
    fn ratio(&self) -> f64 {
        2.0 * self.under / self.alone.iter().sum::<f64>()
    }
}

/// The section, from its first to its last line.
pub(super) fn render(report: &Report) -> String {
    let environment = &report.environment;
    let mut text = format!(
        "\n{}, {} cores; commit {}, {}. {} connections from 8 addresses, {} rounds, {} s of picks each time; medians. The balancer had {} MB \
         before the first attack and {} MB after the last.\n\n\
         | attack | picks | middle half of rounds | failed | processor | memory | open files | gone after | connections made, ended by the balancer | sent | |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        environment.machine,
        environment.cores,
        environment.commit,
        environment.date,
        report.connections,
        report.rounds,
        report.seconds,
        report.resident_kib_before / 1024,
        report.resident_kib_after / 1024,
    );
    for series in &report.kinds {
        row(&mut text, series).expect("a string takes everything");
    }
    text + "\n"
}

fn row(text: &mut String, Series { kind, rounds }: &Series) -> std::fmt::Result {
    let of = |number: fn(&Round) -> f64| median(rounds.iter().map(number));
    let ratio = of(Round::ratio);
    let [lower, upper] = quartiles(rounds.iter().map(Round::ratio));
    let sent = of(|round| round.attackers.bytes as f64 / 1e6);
    let failed: u64 = rounds.iter().map(|round| round.failed).sum();
    let memory = rounds.iter().map(|round| round.resident_kib).max().unwrap_or(0) / 1024;
    let files = rounds.iter().map(|round| round.files).max().unwrap_or(0);
    let gone: Option<Vec<f64>> = rounds.iter().map(|round| round.gone_after_s).collect();
    let gone = gone.map_or("**never**".to_owned(), |times| {
        format!("{:.1} s", times.into_iter().fold(0.0, f64::max))
    });
    let share = of(|round| round.cpu_share * 100.0);
    let opened = of(|round| round.attackers.opened as f64);
    let ended = of(|round| round.attackers.ended as f64);
    let reached = ratio >= LEAST && failed == 0;
    let reached = if reached { "reached" } else { "**missed**" };
    writeln!(
        text,
        "| {kind} | {ratio:.2} | {lower:.2} to {upper:.2} | {failed} | {share:.0} % | {memory} MB | {files} | {gone} | {opened:.0}, {ended:.0} | {sent:.0} MB | {reached} |"
    )
}
