//! Scenarios of the simulator and of benchmarks.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    lb_sim::fuzz::scenario(data);
    lb_cli::fuzz::scenario(data);
});
