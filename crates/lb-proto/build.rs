//! Compiles the .proto files in Rust (protox), so that building needs no protoc.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const PROTO_ROOT: &str = "../../proto";
const FILES: [&str; 5] = [
    "lb/v1/registry.proto",
    "lb/v1/balancer.proto",
    "lb/v1/scaler.proto",
    "lb/v1/admin.proto",
    "lb/v1/compute.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}");
    let descriptors = protox::compile(FILES, [PROTO_ROOT])?;
    let descriptor_file = PathBuf::from(env::var("OUT_DIR")?).join("lb_v1.bin");
    fs::write(descriptor_file, descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".")
        .codec_path("crate::codec::SmallBuffers")
        .compile_fds(descriptors)?;
    Ok(())
}
