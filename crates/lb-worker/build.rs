//! Compiles .proto files in Rust (protox), so that building needs no protoc: ORCA's, trimmed, and that of the example, as that of
//! any service is.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const ORCA: (&str, &str) = ("proto", "xds/service/orca/v3/orca.proto");
const EXAMPLE: (&str, &str) = ("examples", "greeter.proto");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (directory, file) in [ORCA, EXAMPLE] {
        println!("cargo:rerun-if-changed={directory}");
        let descriptors = protox::compile([file], [directory])?;
        let mut configured = tonic_prost_build::configure().btree_map(".");
        if directory == ORCA.0 {
            let descriptor_file = PathBuf::from(env::var("OUT_DIR")?).join("orca.bin");
            fs::write(descriptor_file, descriptors.encode_to_vec())?;
            configured = configured.include_file("orca.rs");
        }
        configured.compile_fds(descriptors)?;
    }
    Ok(())
}
