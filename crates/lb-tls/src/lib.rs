//! Who is at the other end of a connection.
//!
//! A process speaks in one of three modes ([`Mode`]). In `open` everything is plain, and nobody is known. In `tls` a balancer
//! and a worker prove who they are; in `mtls` everybody does, and what a certificate may do is a table ([`rights`]).
//! There is no way from one mode to a weaker one but a changed configuration: nothing that comes over the network, and nothing
//! that DNS-SD says, changes the mode.
//!
//! Who somebody is stands in the certificate as a URI ([`Identity`]), signed by the cluster's own authority. Names and addresses
//! of machines are not looked at: they come from the network, which is not trusted.
//!
//! - [`Tls`] holds what this process speaks with: it dials, accepts, and reads its files again;
//! - [`Incoming`] takes connections, with bounds on how many, how fast, and on handshakes under way ([`Connections`]); what
//!   comes over them has to begin in time, and is slowed down when it is a flood;
//! - [`Choice`] finds the mode and the files;
//! - [`follow`] keeps up with files that are renewed.

/// TXT key of the mode in announcements. It explains why two do not understand each other; nobody changes its own mode by it.
pub const TXT_KEY: &str = "tls";

mod choice;
mod connections;
mod connector;
mod error;
mod frames;
mod identity;
mod incoming;
mod keys;
mod pace;
mod plain;
mod renewal;
pub mod rights;
mod seldom;
mod stream;
mod tls;
mod verify;

pub use self::{
    choice::{Choice, DIRECTORY, Mode, ModeFlag, UnknownMode},
    connections::{Bounds, Connections, Entered},
    connector::Connector,
    error::TlsError,
    identity::{Expected, INSTANCES_LIMIT, Identity, NoIdentity, Role},
    incoming::Incoming,
    pace::{Bucket, Pace, Rate},
    renewal::{follow, look},
    seldom::Seldom,
    stream::{Peer, Stream},
    tls::{Reload, Tls, Validity},
};
