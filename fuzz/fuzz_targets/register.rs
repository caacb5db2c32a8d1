//! Histories of a balancer: workers that come, report and go, picks, sessions, orders, and time.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lb_server::fuzz::register(data));
