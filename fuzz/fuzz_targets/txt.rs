//! What is announced on the network.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lb_discovery::fuzz::txt(data));
