//! From wire to domain: each function returns sound values or names the field that is not.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use lb_core::{
    id::{ClusterName, NameError, ServiceName},
    load::{Hello, LoadError, LoadReport, RawLoad, TokenCounts, WorkerState},
};

use crate::v1;

pub mod scaler;

/// Most services one worker offers.
pub const SERVICE_LIMIT: usize = 32;
/// Most labels of a worker or of a request.
pub const LABEL_COUNT_LIMIT: usize = 32;
/// Longest label key, label value, zone and version, in bytes.
pub const TEXT_LIMIT: usize = 63;

/// A message that is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A name is not sound.
    #[error("{field}: {source}")]
    Name {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        source: NameError,
    },
    /// A load report that cannot be true.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A field is missing.
    #[error("{field} is not set: expected {expected}")]
    Missing {
        /// Which field.
        field: &'static str,
        /// What should stand there.
        expected: &'static str,
    },
    /// A value is outside its range.
    #[error("{field} is {found}: expected {expected}")]
    Range {
        /// Which field.
        field: &'static str,
        /// What it held, shortened.
        found: String,
        /// What would be sound.
        expected: String,
    },
    /// A worker on the balancer's own machine would be announced to others as "this machine".
    #[error(
        "this connection comes from {0}, where other machines cannot reach the worker: \
         connect to the balancer's address on the network, or start the balancer with --local"
    )]
    Unreachable(IpAddr),
    /// A worker from anywhere, where nobody proves who it is.
    #[error(
        "this connection comes from {0}: without certificates (mode mtls) only workers in private and link-local \
         networks may register"
    )]
    Public(IpAddr),
    /// A worker announces an address that is not its own.
    #[error(
        "hello.address is {announced}, but this connection comes from {peer}: a worker can only announce its own address"
    )]
    ForeignAddress {
        /// What it announced.
        announced: SocketAddr,
        /// Where it really is.
        peer: IpAddr,
    },
}

/// A hello, and the cluster that its sender means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedHello {
    /// Who the worker is.
    pub hello: Hello,
    /// The cluster it belongs to.
    pub cluster: ClusterName,
}

/// Reads a worker's first message. `peer` is the address the connection comes from.
///
/// # Errors
/// Names the field that is not sound.
pub fn hello(message: v1::Hello, peer: IpAddr) -> Result<ParsedHello, ParseError> {
    let named = |field| move |source| ParseError::Name { field, source };
    let hello = Hello {
        id: message.worker_id.parse().map_err(named("hello.worker_id"))?,
        instance: message.instance,
        address: address(&message.address, peer)?,
        services: services("hello.services", &message.services)?,
        slots: slots(message.slots)?,
        zone: text("hello.zone", message.zone)?,
        labels: labels("hello.labels", message.labels)?,
        version: text("hello.version", message.version)?,
    };
    let cluster = message.cluster.parse().map_err(named("hello.cluster"))?;
    Ok(ParsedHello { hello, cluster })
}

fn address(announced: &str, peer: IpAddr) -> Result<SocketAddr, ParseError> {
    let malformed = || ParseError::Range {
        field: "hello.address",
        found: format!("{:?}", shorten(announced)),
        expected: "ip:port, [ip]:port or :port, with a port from 1 to 65535".into(),
    };
    let peer = peer.to_canonical();
    let address = match announced.strip_prefix(':') {
        Some(port) => SocketAddr::new(peer, port.parse().map_err(|_| malformed())?),
        None => announced.parse().map_err(|_| malformed())?,
    };
    if address.port() == 0 {
        return Err(malformed());
    }
    if address.ip().to_canonical() != peer {
        return Err(ParseError::ForeignAddress { announced: address, peer });
    }
    Ok(SocketAddr::new(peer, address.port()))
}

fn services(field: &'static str, names: &[String]) -> Result<Vec<ServiceName>, ParseError> {
    if names.is_empty() || names.len() > SERVICE_LIMIT {
        return Err(ParseError::Range {
            field,
            found: format!("a list of {}", names.len()),
            expected: format!("1 to {SERVICE_LIMIT} service names"),
        });
    }
    let parsed: Result<Vec<ServiceName>, NameError> =
        names.iter().map(|name| name.parse()).collect();
    let mut parsed = parsed.map_err(|source| ParseError::Name { field, source })?;
    parsed.sort_unstable();
    parsed.dedup();
    Ok(parsed)
}

fn slots(slots: u32) -> Result<u16, ParseError> {
    let range = || ParseError::Range {
        field: "hello.slots",
        found: slots.to_string(),
        expected: "1 to 65535".into(),
    };
    u16::try_from(slots).ok().filter(|&slots| slots > 0).ok_or_else(range)
}

fn text(field: &'static str, text: String) -> Result<String, ParseError> {
    if text.len() <= TEXT_LIMIT {
        return Ok(text);
    }
    let found = format!("{:?}", shorten(&text));
    Err(ParseError::Range { field, found, expected: format!("at most {TEXT_LIMIT} bytes") })
}

/// Reads labels, of a worker or of a request.
///
/// # Errors
/// Names `field` if there are too many labels, or one is too long.
pub fn labels(
    field: &'static str,
    labels: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ParseError> {
    if labels.len() > LABEL_COUNT_LIMIT {
        let found = format!("a map of {}", labels.len());
        let expected = format!("at most {LABEL_COUNT_LIMIT} labels");
        return Err(ParseError::Range { field, found, expected });
    }
    let sound = |(key, value): (&String, &String)| {
        (1..=TEXT_LIMIT).contains(&key.len()) && value.len() <= TEXT_LIMIT
    };
    match labels.iter().find(|&label| !sound(label)) {
        None => Ok(labels),
        Some((key, value)) => Err(ParseError::Range {
            field,
            found: format!("{:?} = {:?}", shorten(key), shorten(value)),
            expected: format!("keys of 1 to {TEXT_LIMIT} bytes, values of at most {TEXT_LIMIT}"),
        }),
    }
}

/// Reads a worker's load report.
///
/// # Errors
/// Names the field that cannot be true.
pub fn load_report(message: &v1::LoadReport) -> Result<LoadReport, ParseError> {
    let report = LoadReport::parse(RawLoad {
        state: worker_state(message.state())?,
        in_flight: message.in_flight,
        queued: message.queued,
        slots: message.slots,
        picked: counts(message.picked),
        session: counts(message.session),
        completed_total: message.completed_total,
        errors_total: message.errors_total,
        faults_total: message.faults_total,
        in_flight_integral: message.in_flight_integral,
        busy_seconds: message.busy_seconds,
        cpu: message.cpu,
        memory: message.memory,
    })?;
    Ok(if message.measured { report.measured() } else { report })
}

fn counts(message: Option<v1::TokenCounts>) -> TokenCounts {
    message.map_or_else(TokenCounts::default, |counts| TokenCounts {
        seen: counts.seen,
        done: counts.done,
    })
}

/// Reads a worker's state.
///
/// # Errors
/// When it is not set.
pub fn worker_state(state: v1::WorkerState) -> Result<WorkerState, ParseError> {
    match state {
        v1::WorkerState::Serving => Ok(WorkerState::Serving),
        v1::WorkerState::Draining => Ok(WorkerState::Draining),
        v1::WorkerState::Unspecified => Err(ParseError::Missing {
            field: "state",
            expected: "WORKER_STATE_SERVING or WORKER_STATE_DRAINING",
        }),
    }
}

/// Writes a worker's state.
pub fn wire_state(state: WorkerState) -> v1::WorkerState {
    match state {
        WorkerState::Serving => v1::WorkerState::Serving,
        WorkerState::Draining => v1::WorkerState::Draining,
    }
}

/// How much of a bad value an error repeats, in characters.
const QUOTE_LIMIT: usize = 80;

fn shorten(text: &str) -> &str {
    text.char_indices().nth(QUOTE_LIMIT).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 7, 5));

    fn sound() -> v1::Hello {
        v1::Hello {
            worker_id: "w1".into(),
            instance: 7,
            cluster: "default".into(),
            address: ":4000".into(),
            services: vec!["lb.v1.Compute".into()],
            slots: 4,
            zone: "rack-1".into(),
            labels: BTreeMap::from([("gpu".into(), "a100".into())]),
            version: "0.1.0".into(),
        }
    }

    #[test]
    fn an_empty_host_means_the_peer() {
        let parsed = hello(sound(), PEER).unwrap();
        assert_eq!(parsed.hello.address, "192.168.7.5:4000".parse().unwrap());
        assert_eq!(parsed.cluster.as_str(), "default");
    }

    #[test]
    fn an_ipv4_peer_on_a_dual_stack_socket_is_the_same_peer() {
        let mapped: IpAddr = "::ffff:192.168.7.5".parse().unwrap();
        let message = v1::Hello { address: "192.168.7.5:4000".into(), ..sound() };
        assert_eq!(hello(message, mapped).unwrap().hello.address.ip(), PEER);
    }

    #[test]
    fn a_foreign_address_is_refused() {
        let message = v1::Hello { address: "192.168.7.6:4000".into(), ..sound() };
        assert_eq!(
            hello(message, PEER).unwrap_err().to_string(),
            "hello.address is 192.168.7.6:4000, but this connection comes from 192.168.7.5: \
             a worker can only announce its own address"
        );
    }

    #[test]
    fn each_bad_field_is_named() {
        let long = "x".repeat(64);
        let many: BTreeMap<_, _> = (0..33).map(|key| (key.to_string(), String::new())).collect();
        let cases = [
            (
                v1::Hello { worker_id: "Bad!".into(), ..sound() },
                "hello.worker_id: worker id \"Bad!\"",
            ),
            (v1::Hello { cluster: String::new(), ..sound() }, "hello.cluster: cluster name \"\""),
            (v1::Hello { address: "nonsense".into(), ..sound() }, "hello.address is \"nonsense\""),
            (v1::Hello { address: ":0".into(), ..sound() }, "hello.address is \":0\""),
            (v1::Hello { services: vec![], ..sound() }, "hello.services is a list of 0"),
            (v1::Hello { services: vec!["a b".into()], ..sound() }, "hello.services: service name"),
            (v1::Hello { slots: 0, ..sound() }, "hello.slots is 0: expected 1 to 65535"),
            (v1::Hello { slots: 65536, ..sound() }, "hello.slots is 65536"),
            (v1::Hello { zone: long.clone(), ..sound() }, "hello.zone is"),
            (v1::Hello { labels: many, ..sound() }, "hello.labels is a map of 33"),
            (
                v1::Hello { labels: BTreeMap::from([(long, String::new())]), ..sound() },
                "hello.labels is",
            ),
        ];
        for (message, expected) in cases {
            let error = hello(message, PEER).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error:?} does not start with {expected:?}");
        }
    }

    #[test]
    fn a_report_without_state_is_refused() {
        let error = load_report(&v1::LoadReport { slots: 1, ..Default::default() }).unwrap_err();
        assert!(error.to_string().starts_with("state is not set"), "{error}");
    }
}
