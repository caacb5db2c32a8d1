//! What must hold of the registry between any two changes.

use super::{Record, Registry};
use crate::id::WorkerNumber;

/// Largest fleet whose invariants are checked worker by worker, in debug builds.
const CHECKED_FLEET: usize = 256;

impl Registry {
    /// Panics on a broken invariant, in debug builds. Every change of membership ends with it.
    pub fn check_invariants(&self) {
        debug_assert_eq!(self.workers.len(), self.by_id.len(), "each worker has one id");
        // Each check reads all workers: in a large fleet a join would become slow, and finds no other defects.
        if cfg!(debug_assertions) && self.workers.len() <= CHECKED_FLEET {
            for (id, number) in &self.by_id {
                let record = &self.workers[number];
                assert_eq!(record.hello.id, *id, "an id leads to its worker");
                self.check_record(*number, record);
            }
            let offered = |service| {
                self.workers.values().any(|record| record.hello.services.contains(service))
            };
            assert!(
                self.cursors.keys().all(offered),
                "a cursor belongs to a service that is offered"
            );
        }
    }

    fn check_record(&self, number: WorkerNumber, record: &Record) {
        let weight = record.weight();
        assert!(weight.is_finite() && weight > 0.0, "worker {number} has weight {weight}");
        assert_eq!(record.places.len(), record.hello.services.len(), "a place for each service");
        for (service, place) in record.hello.services.iter().zip(&record.places) {
            let Some(place) = *place else { continue };
            let listed = self.snapshot.services[service].workers()[place].number;
            assert_eq!(listed, number, "a place leads to its worker");
        }
    }
}
