//! A worker's message from bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use prost::Message as _;

use lb_proto::{
    parse::{self, SERVICE_LIMIT},
    v1::{self, WorkerMessage, worker_message::Kind as Said},
};

/// Reads a worker's message as its stream would. What is taken holds what is promised of it.
pub fn worker_message(bytes: &[u8]) {
    match WorkerMessage::decode(bytes).ok().and_then(|message| message.kind) {
        Some(Said::Hello(hello)) => {
            // The peer of the committed inputs, as a socket of each family tells it.
            let peer = Ipv4Addr::new(10, 0, 0, 7);
            for peer in
                [IpAddr::V4(peer), IpAddr::V6(peer.to_ipv6_mapped()), Ipv6Addr::LOCALHOST.into()]
            {
                check_hello(hello.clone(), peer);
            }
        }
        Some(Said::Report(report)) => check_report(&report),
        Some(Said::Goodbye(_)) | None => {}
    }
}

fn check_hello(message: v1::Hello, peer: IpAddr) {
    match parse::hello(message, peer) {
        Ok(parsed) => {
            let hello = parsed.hello;
            assert_eq!(
                hello.address.ip(),
                peer.to_canonical(),
                "a worker announces its own address"
            );
            assert_ne!(hello.address.port(), 0);
            assert_ne!(hello.slots, 0);
            assert!((1..=SERVICE_LIMIT).contains(&hello.services.len()));
            assert!(hello.services.is_sorted_by(|one, other| one < other), "each service once");
        }
        Err(error) => assert_short(&error.to_string()),
    }
}

fn check_report(message: &v1::LoadReport) {
    match parse::load_report(message) {
        Ok(report) => {
            assert_ne!(report.slots(), 0);
            report.check_follows(&report).expect("a report follows itself");
        }
        Err(error) => assert_short(&error.to_string()),
    }
}

/// What is told of a bad message does not grow with it.
pub(crate) fn assert_short(error: &str) {
    assert!(error.len() < 1000, "an error of {} bytes", error.len());
}
