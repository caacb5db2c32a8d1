//! Compiles the .proto file of the example in Rust (protox), so that building needs no protoc.

const DIRECTORY: &str = "examples";
const FILE: &str = "greeter.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={DIRECTORY}/{FILE}");
    let descriptors = protox::compile([FILE], [DIRECTORY])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
