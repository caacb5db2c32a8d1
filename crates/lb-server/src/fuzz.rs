//! What comes from outside, as bytes: the bodies of fuzz targets (`fuzz/`), whose committed inputs tests run again.

pub use crate::{
    balancer::fuzz::request,
    config::fuzz::config,
    owner::fuzz::register,
    registration::fuzz::worker_message,
    scaling::fuzz::scaler_message,
    xds::fuzz::{discovery_request, load_report},
};

/// One message of those that the balancer takes; the first byte says which.
pub fn message(data: &[u8]) {
    let Some((&kind, bytes)) = data.split_first() else { return };
    match kind {
        0 => worker_message(bytes),
        1..=5 => request(kind, bytes),
        6 => scaler_message(bytes),
        7 => discovery_request(bytes),
        8 => load_report(bytes),
        _ => {}
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::{replay::replay, *};

    #[test]
    fn from_proto() {
        replay("from_proto", message);
    }

    #[test]
    fn configuration() {
        replay("config", config);
    }

    #[test]
    fn a_stream_of_registrations() {
        replay("register", register);
    }
}
