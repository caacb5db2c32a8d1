//! A scenario of a benchmark from bytes.

use super::{Flags, resolve, workers::WORKER_COUNTS};
use crate::commands::bench::run::source::Source;

/// Reads bytes as a scenario of `lbctl bench run`. What is wrong with one is said in one line.
pub fn scenario(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match resolve(&Source::given("x", text), &Flags::default()) {
        Ok(scenario) => {
            let workers = i64::try_from(scenario.workers.len()).unwrap_or(i64::MAX);
            assert!(WORKER_COUNTS.contains(&workers), "{workers} workers");
            assert!(scenario.events.is_sorted_by_key(|event| event.at));
        }
        Err(error) => {
            let error = error.to_string();
            assert!(!error.contains('\n'), "more than one line: {error}");
        }
    }
}
