//! A scaler's message from bytes.

use prost::Message as _;

use lb_proto::{
    parse::scaler::{self, HOST_INSTANCE_LIMIT, wire_host_report},
    v1::{ScalerMessage, scaler_message::Kind as Said},
};

use crate::registration::fuzz::assert_short;

/// Reads a scaler's message as its stream would. What is taken holds what is promised of it.
pub fn scaler_message(bytes: &[u8]) {
    match ScalerMessage::decode(bytes).ok().and_then(|message| message.kind) {
        Some(Said::Hello(hello)) => match scaler::offer(hello) {
            Ok(offer) => {
                assert!(offer.bounds.min() <= offer.bounds.max());
                assert!(offer.bounds.max() <= HOST_INSTANCE_LIMIT && !offer.services.is_empty());
            }
            Err(error) => assert_short(&error.to_string()),
        },
        Some(Said::Report(report)) => match scaler::host_report(report) {
            Ok(report) => {
                let again = scaler::host_report(wire_host_report(&report));
                assert_eq!(again.as_ref(), Ok(&report), "what is written is read as it was");
            }
            Err(error) => assert_short(&error.to_string()),
        },
        Some(Said::Goodbye(_)) | None => {}
    }
}
