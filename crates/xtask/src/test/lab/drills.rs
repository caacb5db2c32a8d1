//! Everything that fails in this tier.

mod balancers;
mod others;
mod workers;

use super::drill::{Drill, Failures, Limits};

/// An operator does it: nobody may notice.
const ORDERLY: Limits = Limits { failures: Failures::None, out: None, back: Some(2.0) };
/// The kernel closes the connections of the process.
const DEAD_PROCESS: Limits =
    Limits { failures: Failures::InFlight, out: Some(0.3), back: Some(2.0) };
/// Nobody says anything any more.
const SILENT: Limits = Limits { failures: Failures::UpToOthers, out: Some(2.0), back: Some(2.0) };
/// After minutes of silence.
const LONG_SILENCE: Limits = Limits { back: Some(5.0), ..SILENT };

/// All drills, in the order in which they are run.
pub(super) fn all() -> Vec<Drill> {
    let drill = |name, limits, act| Drill { name, limits, long: false, act };
    vec![
        drill("worker stopped and started", ORDERLY, workers::stopped),
        drill("worker restarted", ORDERLY, workers::restarted),
        drill("worker drained and taken back", ORDERLY, workers::drained),
        drill("worker killed", DEAD_PROCESS, workers::killed),
        drill("worker frozen for 10 s", SILENT, workers::frozen),
        drill("worker host without power for 5 s", SILENT, workers::without_power),
        drill("worker host with its cable cut for 30 s", SILENT, workers::cut),
        drill("worker host neither sends nor receives for 10 s", SILENT, workers::silent),
        drill("worker host sends nothing for 10 s", SILENT, workers::sends_nothing),
        drill("worker host receives nothing for 10 s", SILENT, workers::receives_nothing),
        drill("worker host with another address", SILENT, workers::moved),
        drill("balancer restarted", ORDERLY, balancers::restarted),
        drill("balancer killed", ORDERLY, balancers::killed),
        drill("balancer host without power for 5 s", ORDERLY, balancers::without_power),
        drill("both balancers restarted at once", ORDERLY, balancers::both_restarted),
        drill("both balancers dead for 30 s", ORDERLY, balancers::both_dead),
        drill("two workers with one id", ORDERLY, others::one_id_twice),
        drill("avahi beside", ORDERLY, others::avahi),
        drill("clock of a balancer an hour ahead", ORDERLY, others::balancer_ahead),
        drill("clock of a worker an hour ahead", ORDERLY, others::worker_ahead),
        Drill {
            long: true,
            ..drill("worker host silent for 5 min", LONG_SILENCE, workers::long_silent)
        },
    ]
}
