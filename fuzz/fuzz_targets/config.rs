//! Configuration files and environments of both daemons.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    lb_server::fuzz::config(data);
    lb_worker::fuzz::config(data);
});
