//! Where a balancer is.

use std::{fmt, net::SocketAddr, time::Duration};

use tokio::time::Instant;

/// A balancer that was withdrawn from DNS-SD is dialled for this long: its machine may be restarting, and a daemon that
/// gives up too early would wait for the next announcement.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Where a balancer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `host:port`, given by hand; looked up at each dial.
    Static(String),
    /// Found by DNS-SD.
    Found {
        /// Where it listens.
        addresses: Vec<SocketAddr>,
        /// The mode that it announces; nothing to believe, but enough to say why it would not work.
        mode: Option<String>,
        /// Since when it is not announced any more.
        withdrawn: Option<Instant>,
    },
}

impl Place {
    /// Whether nobody should dial it any more.
    pub fn is_forgotten(&self, now: Instant) -> bool {
        match self {
            Self::Static(_) | Self::Found { withdrawn: None, .. } => false,
            Self::Found { withdrawn: Some(since), .. } => {
                now.duration_since(*since) >= FORGET_AFTER
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(text) => formatter.write_str(text),
            Self::Found { addresses, .. } => write!(formatter, "{addresses:?}"),
        }
    }
}
