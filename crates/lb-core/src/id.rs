//! Names and numbers of things, each a type of its own, so that none can stand in for another.
//!
//! A name is parsed once, where it enters the process. After that it is known to be sound, and
//! cloning it copies a pointer.

use std::{fmt, str::FromStr, sync::Arc};

/// Longest worker id and cluster name, in bytes: a DNS label (RFC 1035), since both travel in DNS-SD.
pub const LABEL_LIMIT: usize = 63;
/// Longest balancer id, in bytes: it is part of every token.
pub const BALANCER_ID_LIMIT: usize = 32;
/// Longest service name, in bytes: far above any real `package.Service`.
pub const SERVICE_NAME_LIMIT: usize = 128;

/// A name that is not acceptable, and what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {found:?} is not valid: expected {expected}")]
pub struct NameError {
    what: &'static str,
    found: String,
    expected: &'static str,
}

/// How much of an unacceptable name an error repeats, in characters.
const QUOTE_LIMIT: usize = 80;

fn reject(what: &'static str, found: &str, expected: &'static str) -> NameError {
    NameError { what, found: found.chars().take(QUOTE_LIMIT).collect(), expected }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $valid:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(reject($what, text, $expected)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, formatter)
            }
        }

        // Lets a map keyed by the name be searched by plain text, without allocating.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

fn is_label(text: &str, limit: usize) -> bool {
    let hyphen_at_edge = text.starts_with('-') || text.ends_with('-');
    (1..=limit).contains(&text.len())
        && !hyphen_at_edge
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn is_service_name(text: &str) -> bool {
    let sound_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.len() <= SERVICE_NAME_LIMIT && text.split('.').all(sound_part)
}

name!(
    /// The stable identity of a worker, chosen by the worker.
    WorkerId, "worker id", |text| is_label(text, LABEL_LIMIT),
    "1 to 63 characters of a-z, 0-9 and '-', no '-' at either end"
);
name!(
    /// The identity of one balancer process, drawn at its start; part of every token.
    BalancerId, "balancer id", |text| is_label(text, BALANCER_ID_LIMIT),
    "1 to 32 characters of a-z, 0-9 and '-', no '-' at either end"
);
name!(
    /// The identity of a host that runs workers for a scaler.
    HostId, "host id", |text| is_label(text, LABEL_LIMIT),
    "1 to 63 characters of a-z, 0-9 and '-', no '-' at either end"
);
name!(
    /// The name that lets two clusters share one network.
    ClusterName, "cluster name", |text| is_label(text, LABEL_LIMIT),
    "1 to 63 characters of a-z, 0-9 and '-', no '-' at either end"
);
name!(
    /// A fully qualified gRPC service name, as it stands in a request path.
    ServiceName, "service name", is_service_name,
    "a gRPC service name such as lb.v1.Compute, at most 128 characters"
);

/// The number of one registration: never 0, and not that of any of the four billion before it in the same balancer process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerNumber(pub u32);

/// Tells apart who speaks of workers. The same for all who stand and fall together, such as the clients of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey(pub u64);

impl fmt::Display for WorkerNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_accept_what_dns_accepts() {
        for good in ["a", "w1", "host-7", &"x".repeat(63)] {
            assert_eq!(good.parse::<WorkerId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a b", "ä", "a.b", &"x".repeat(64)] {
            assert!(bad.parse::<WorkerId>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn service_names_are_grpc_names() {
        for good in ["Greeter", "lb.v1.Compute", "_x.Y9"] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good:?} was refused");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "1a", "a/b", "a b", &"x".repeat(129)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn errors_say_what_was_expected() {
        let error = "No Good".parse::<WorkerId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "worker id \"No Good\" is not valid: expected 1 to 63 characters of a-z, 0-9 and '-', no '-' at either end"
        );
        assert!("x".repeat(9_000).parse::<ClusterName>().unwrap_err().to_string().len() < 250);
    }
}
