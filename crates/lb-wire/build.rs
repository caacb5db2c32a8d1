//! Compiles the echo service in Rust (protox), so that building needs no protoc.

const DIRECTORY: &str = "proto";
const FILE: &str = "wire.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={DIRECTORY}/{FILE}");
    let descriptors = protox::compile([FILE], [DIRECTORY])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
