//! The wire contract `lb.v1`: generated gRPC types, and their one conversion into domain types.
//!
//! Protobuf types stop at the edge of a process. [`parse`] turns them into types of `lb-core`
//! that cannot hold nonsense, or into an error that names the field.

mod codec;
pub mod parse;
pub mod retry;

/// The generated types and services of package `lb.v1`.
#[expect(missing_docs, reason = "generated from the .proto files, which are documented")]
#[expect(clippy::pedantic, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("lb.v1");
}

/// Encoded `FileDescriptorSet` of the contract, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lb_v1.bin"));
