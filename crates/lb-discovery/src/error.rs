//! What can go wrong when announcing or looking.

use std::{io, net::SocketAddr, time::Duration};

/// A failure to start, to announce or to withdraw. Looking for peers never fails: it goes on.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The announcement breaks a rule of DNS-SD or of this project; nothing was sent.
    #[error("cannot announce: {field} {found:?} is not valid: expected {expected}")]
    InvalidAnnouncement {
        /// The field of the announcement.
        field: &'static str,
        /// What it held, shortened.
        found: String,
        /// What it may hold.
        expected: String,
    },
    /// The multicast DNS port cannot be opened, usually because a program holds it exclusively.
    #[error("cannot open {address}/udp for multicast DNS (does another program hold it alone?)")]
    Bind {
        /// The address that was refused.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The loopback interface is down or refuses the multicast group.
    #[error("cannot join the multicast DNS group on the loopback interface")]
    JoinLoopback(#[source] io::Error),
    /// The multicast DNS thread refused a command or could not be started.
    #[error("multicast DNS: cannot {action}")]
    Daemon {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        source: mdns_sd::Error,
    },
    /// This [`Discovery`](crate::Discovery) already announces an instance of that name.
    #[error("{instance} is announced already by this process")]
    AlreadyAnnounced {
        /// Full name of the instance.
        instance: String,
    },
    /// No interface took the announcement in time.
    #[error(
        "{instance} could not be announced within {waited:?}: \
         no usable network interface has one of its addresses ({addresses})"
    )]
    NotAnnounced {
        /// Full name of the instance.
        instance: String,
        /// How long it was tried.
        waited: Duration,
        /// The addresses that were to be announced.
        addresses: String,
    },
    /// [`Discovery::shutdown`](crate::Discovery::shutdown) was called.
    #[error("discovery was shut down")]
    Closed,
}

impl DiscoveryError {
    /// Turns a refusal of the multicast DNS thread into an error that says what was attempted.
    pub(crate) fn daemon(action: &'static str, source: mdns_sd::Error) -> Self {
        match source {
            mdns_sd::Error::DaemonShutdown => Self::Closed,
            source => Self::Daemon { action, source },
        }
    }
}
