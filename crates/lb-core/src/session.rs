//! What one client session has picked and not yet answered for.
//!
//! An outcome is believed only for a pick that the session really made; for what is open when the session ends,
//! the worker's reports must tell.

use std::collections::BTreeMap;

use crate::id::WorkerNumber;

/// Open picks of one session, by worker.
#[derive(Debug, Default)]
pub struct OpenPicks {
    by_worker: BTreeMap<WorkerNumber, u64>,
}

impl OpenPicks {
    /// Counts a pick.
    pub fn picked(&mut self, worker: WorkerNumber) {
        *self.by_worker.entry(worker).or_insert(0) += 1;
    }

    /// Takes back one pick. Returns whether there was one to take back.
    pub fn ended(&mut self, worker: WorkerNumber) -> bool {
        match self.by_worker.get_mut(&worker) {
            Some(open) if *open > 1 => *open -= 1,
            Some(_) => drop(self.by_worker.remove(&worker)),
            None => return false,
        }
        true
    }

    /// Picks still open, by worker.
    pub fn open(&self) -> impl Iterator<Item = (WorkerNumber, u64)> {
        self.by_worker.iter().map(|(worker, open)| (*worker, *open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_picks_end() {
        let (mine, foreign) = (WorkerNumber(1), WorkerNumber(2));
        let mut open = OpenPicks::default();
        open.picked(mine);
        open.picked(mine);
        assert!(!open.ended(foreign));
        assert!(open.ended(mine));
        assert_eq!(open.open().collect::<Vec<_>>(), [(mine, 1)]);
        assert!(open.ended(mine));
        assert!(!open.ended(mine));
        assert_eq!(open.open().count(), 0);
    }
}
