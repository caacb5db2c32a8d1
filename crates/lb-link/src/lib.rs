//! How a daemon stays in touch with every balancer: workers and scalers find, dial and try again in the same way.
//!
//! - [`follow`] keeps one task for each balancer that DNS-SD or the configuration names;
//! - [`dial`](dial()) opens a connection that notices a silent peer;
//! - [`Trouble`] says how long to wait before the next attempt, and tells the log of each trouble once;
//! - [`host`] is what a daemon calls its machine when nobody has said so.

mod backoff;
mod balancers;
mod dial;
pub mod host;
mod place;
mod trouble;

pub use self::{
    balancers::{Source, check_address, follow},
    dial::{DialError, dial},
    place::Place,
    trouble::{Refusal, Trouble},
};
