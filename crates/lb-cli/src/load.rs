//! A load generator that does not know what it calls.
//!
//! A [`Target`] makes one call and says how it went; a [`Plan`] says how many calls, how they are
//! spaced and when to stop; [`run`] puts the two together and hands back one [`RunResult`], which is
//! all that tables, plots and files are made from. A [`Probe`] may look at the workers meanwhile, so
//! that the result also tells how busy each of them was.
//!
//! Two kinds of load answer two questions. In a *closed loop* a fixed number of clients call one
//! after the other: what is the most this fleet can do for them? In an *open loop* calls arrive at a
//! fixed rate whether or not earlier ones are finished, as they do from independent users: how long
//! does a user wait? There the response time counts from the moment at which the call was due, not
//! from the moment at which the generator got round to it, so that a stall is charged to every call
//! it delayed (no coordinated omission).

mod driver;
mod histogram;
mod merge;
mod phases;
mod plan;
mod recorder;
mod result;
mod run;
mod target;
mod usage;

pub use self::histogram::{CdfPoint, ResponseTimes};
pub use self::merge::{Counts, TimeCounts, merged};
pub use self::phases::PhaseResult;
pub use self::plan::{
    End, MAX_CLIENTS, MAX_OUTSTANDING, Plan, PlanError, RateChange, Shape, Spacing,
};
pub use self::result::{Pace, RunResult, UtilisationSample, WorkerUse};
pub use self::run::{Progress, run};
pub use self::target::{Outcome, Sample, Target};
pub use self::usage::{NoProbe, Probe, WorkerReading};
