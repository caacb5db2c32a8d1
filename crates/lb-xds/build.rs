//! Compiles the trimmed protos of xDS in Rust (protox), so that building needs no protoc.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const ROOT: &str = "proto";
const FILES: [&str; 7] = [
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/service/discovery/v3/ads.proto",
    "envoy/service/load_stats/v3/lrs.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let descriptors = protox::compile(FILES, [ROOT])?;
    let descriptor_file = PathBuf::from(env::var("OUT_DIR")?).join("xds.bin");
    fs::write(descriptor_file, descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .btree_map(".")
        .include_file("xds.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
