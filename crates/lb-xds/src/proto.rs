//! The generated types: what clients of gRPC need of Envoy's contract.

#[expect(missing_docs, reason = "generated from the .proto files, which are documented")]
#[expect(unreachable_pub, reason = "generated; what is of use is named below")]
#[expect(clippy::pedantic, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/xds.rs"));
}

pub use generated::{
    envoy::{
        config::{
            cluster::v3::{self as cluster, Cluster},
            core::v3::{self as core, Locality, Node},
            endpoint::v3::{
                self as endpoint, ClusterLoadAssignment, ClusterStats, UpstreamLocalityStats,
            },
            listener::v3::{self as listener, Listener},
            route::v3::{self as route, RouteConfiguration},
        },
        extensions::filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                self as connection_manager, HttpConnectionManager,
            },
        },
        service::{
            discovery::v3::{self as discovery, DiscoveryRequest, DiscoveryResponse},
            load_stats::v3::{self as load_stats, LoadStatsRequest, LoadStatsResponse},
        },
    },
    google::rpc::Status,
};

/// Encoded `FileDescriptorSet` of these types, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/xds.bin"));
