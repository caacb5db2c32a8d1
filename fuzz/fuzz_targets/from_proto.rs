//! Every message that a daemon, or a client from a balancer, takes from the wire.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    lb_server::fuzz::message(data);
    lb_worker::fuzz::message(data);
    lb_client::fuzz::message(data);
});
