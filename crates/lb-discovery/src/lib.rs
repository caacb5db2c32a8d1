//! Finding one another on a network where nobody has written down an address: DNS-SD over
//! multicast DNS behind one small API.
//!
//! A daemon says who it is with [`Discovery::advertise`]; whoever looks for it holds a [`Browse`]
//! and awaits [`Browse::next`]. Everything that is awkward about multicast DNS stays in here:
//! probing before the first announcement, instances renamed after a conflict, services that
//! resolve several times and without a usable address at first, subscriptions that close silently,
//! goodbyes that must be sent twice, answers that are withheld because the same record was multicast
//! less than a second ago (a second, direct question gets around that).
//!
//! What this crate does **not** say is who is alive. A killed process stays visible for two
//! minutes and a partition is silent for longer. A [`Change::Up`] is an introduction and no more;
//! a consumer keeps dialling the address it knew last.

mod advertise;
mod announcement;
mod browse;
mod discovery;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod inquiry;
mod instance;
mod peer;
mod scope;
mod table;
mod tracker;

pub use advertise::Advertisement;
pub use announcement::{Announcement, Role};
pub use browse::{Browse, Change};
pub use discovery::Discovery;
pub use error::DiscoveryError;
pub use peer::Peer;
pub use scope::Scope;
