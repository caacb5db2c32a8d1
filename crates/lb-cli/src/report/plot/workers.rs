//! What each worker did under each policy.

use std::collections::BTreeMap;

use crate::load::{RunResult, WorkerUse};
use crate::report::ReportError;
use crate::report::text::{printable, shortened};
use crate::report::units::percent;

use super::bars::{Bar, Bars, Group};
use super::frame::LETTER_WIDTH;
use super::ink::Ink;
use super::{Drawing, Figure, Key, MAX_BAR_WORKERS, Mark, run_keys};

/// In CSS pixels: two stand beside each other on the page.
const SIZE: (u32, u32) = (530, 290);

/// Height of the letters below the bars, in CSS pixels.
const LABEL_SIZE: f64 = 11.5;

/// Fewer letters than these do not tell workers apart.
const MIN_LABEL_LETTERS: usize = 3;

/// Who worked in any of the runs, by id, with their slots where known.
pub(in crate::report) fn all_workers(runs: &[RunResult]) -> BTreeMap<&str, Option<u32>> {
    let mut workers = BTreeMap::new();
    for worker in runs.iter().flat_map(|run| &run.workers) {
        let slots = workers.entry(worker.worker_id.as_str()).or_insert(None);
        *slots = slots.or(worker.slots);
    }
    workers
}

/// A worker's part of all slots; `None` unless the slots of all are known.
pub(in crate::report) fn share_of_slots(
    workers: &BTreeMap<&str, Option<u32>>,
    worker_id: &str,
) -> Option<f64> {
    let total: u32 = workers.values().copied().sum::<Option<u32>>()?;
    let own = (*workers.get(worker_id)?)?;
    (total > 0).then(|| f64::from(own) / f64::from(total))
}

/// What a run tells of one worker.
pub(in crate::report) fn of_worker<'a>(
    run: &'a RunResult,
    worker_id: &str,
) -> Option<&'a WorkerUse> {
    run.workers.iter().find(|worker| worker.worker_id == worker_id)
}

/// Each worker's part of the calls beside its part of the slots.
pub(super) fn share(runs: &[RunResult]) -> Result<Option<Figure>, ReportError> {
    let workers = all_workers(runs);
    let known_slots = workers.keys().any(|id| share_of_slots(&workers, id).is_some());
    let groups = groups(&workers, |worker_id| {
        let slots = share_of_slots(&workers, worker_id);
        let reference = known_slots.then(|| bar(Ink::Reference, slots));
        let of_runs = runs.iter().enumerate().map(|(index, run)| {
            let share = of_worker(run, worker_id).map_or(0.0, |worker| worker.share);
            bar(Ink::Run(index), Some(share))
        });
        reference.into_iter().chain(of_runs).collect()
    });
    let mut legend = run_keys(runs, Mark::Bar);
    if known_slots {
        let reference =
            Key { ink: Ink::Reference, mark: Mark::Bar, label: "share of the slots".to_owned() };
        legend.insert(0, reference);
    }
    figure(
        &workers,
        Bars {
            title: "Share of the calls by worker".to_owned(),
            size: SIZE,
            x_label: "worker".to_owned(),
            y_label: "share of all calls (%)".to_owned(),
            y_tick: percent,
            y_at_least: 0.1,
            groups,
        },
        legend,
        "Among equally fast workers the work is spread fairly where a bar is as high as the grey \
         one, the worker's part of all slots.",
    )
}

/// Which part of its slots each worker used.
pub(super) fn utilisation(runs: &[RunResult]) -> Result<Option<Figure>, ReportError> {
    let known = |worker: &WorkerUse| worker.utilisation.is_some();
    if !runs.iter().flat_map(|run| &run.workers).any(known) {
        return Ok(None);
    }
    let workers = all_workers(runs);
    let groups = groups(&workers, |worker_id| {
        let of_runs = runs.iter().enumerate().map(|(index, run)| {
            let worker = of_worker(run, worker_id);
            bar(Ink::Run(index), worker.and_then(|worker| worker.utilisation))
        });
        of_runs.collect()
    });
    figure(
        &workers,
        Bars {
            title: "Utilisation by worker".to_owned(),
            size: SIZE,
            x_label: "worker".to_owned(),
            y_label: "slots in use, mean (%)".to_owned(),
            y_tick: percent,
            y_at_least: 1.0,
            groups,
        },
        run_keys(runs, Mark::Bar),
        "Bars of equal height mean that the work was spread by capacity; 100% beside low bars is \
         a worker with a queue while others wait for work.",
    )
}

fn figure(
    workers: &BTreeMap<&str, Option<u32>>,
    plot: Bars,
    legend: Vec<Key>,
    caption: &str,
) -> Result<Option<Figure>, ReportError> {
    if workers.is_empty() {
        return Ok(None);
    }
    let mut caption = caption.to_owned();
    if workers.len() > MAX_BAR_WORKERS {
        let part = format!(" The first {MAX_BAR_WORKERS} of {} workers.", workers.len());
        caption.push_str(&part);
    }
    let svg = plot.draw()?;
    Ok(Some(Figure {
        title: plot.title,
        legend,
        drawings: vec![Drawing { heading: None, size: SIZE, svg }],
        caption,
    }))
}

/// One group for each worker, with its id and its slots below.
fn groups(workers: &BTreeMap<&str, Option<u32>>, bars: impl Fn(&str) -> Vec<Bar>) -> Vec<Group> {
    let shown = workers.len().clamp(1, MAX_BAR_WORKERS);
    let letters = f64::from(SIZE.0 - 70) / shown as f64 / (LABEL_SIZE * LETTER_WIDTH);
    // Truncates: a letter that fits in part does not fit.
    let letters = (MIN_LABEL_LETTERS..64).rfind(|count| *count as f64 <= letters);
    let letters = letters.unwrap_or(MIN_LABEL_LETTERS);
    let group = |(worker_id, slots): (&&str, &Option<u32>)| Group {
        label: label(worker_id, *slots, letters),
        bars: bars(worker_id),
    };
    workers.iter().take(MAX_BAR_WORKERS).map(group).collect()
}

/// The worker's name and, where they fit below it, its slots.
fn label(worker_id: &str, slots: Option<u32>, letters: usize) -> String {
    let name = shortened(&printable(worker_id), letters);
    let slots = match slots {
        Some(1) => "1 slot".to_owned(),
        Some(slots) => format!("{slots} slots"),
        None => return name,
    };
    if slots.len() > letters {
        return name;
    }
    format!("{name}\n{slots}")
}

fn bar(ink: Ink, height: Option<f64>) -> Bar {
    Bar {
        ink,
        height,
        // Whole ones: the tables have the digits, and four bars share a group.
        value: height.map_or(String::new(), |height| format!("{:.0}%", height * 100.0)),
    }
}
