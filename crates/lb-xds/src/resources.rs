//! What each resource says.
//!
//! Clients differ in what they accept. What is here is what all that were tried do (C++ and Python, Go, Node): the route stands
//! inside the listener, the cluster names no policy, the weight is that of the locality, addresses are IP addresses, each once.

use std::net::SocketAddr;

use prost::Message;
use prost_types::Any;

use lb_core::id::WorkerId;

use crate::proto::{
    Cluster, ClusterLoadAssignment, HttpConnectionManager, Listener, Locality, RouteConfiguration,
    Router,
    cluster::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
    connection_manager::{
        HttpFilter, http_connection_manager::RouteSpecifier, http_filter::ConfigType,
    },
    core::{
        Address, AggregatedConfigSource, ConfigSource, SelfConfigSource, SocketAddress,
        address::Address as AddressKind, config_source::ConfigSourceSpecifier,
        socket_address::PortSpecifier,
    },
    endpoint::{Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier},
    listener::ApiListener,
    route::{
        Route, RouteAction, RouteMatch, VirtualHost, route::Action, route_action::ClusterSpecifier,
        route_match::PathSpecifier,
    },
};

/// The region of all our localities.
pub const REGION: &str = "lb";

const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// The worker that a client means by a locality, if it is one of ours.
pub fn worker_of(locality: &Locality) -> Option<WorkerId> {
    (locality.region == REGION).then(|| locality.sub_zone.parse().ok())?
}

/// One worker as clients see it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    pub(crate) id: WorkerId,
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
    pub(crate) priority: u32,
}

/// The listener that a target is resolved to: all calls go to the cluster of the same name.
pub(crate) fn listener(name: &str) -> Listener {
    let router = HttpFilter {
        name: "router".into(),
        config_type: Some(ConfigType::TypedConfig(any(ROUTER, &Router {}))),
    };
    let manager = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::RouteConfig(route_configuration(name))),
        http_filters: vec![router],
    };
    let api_listener = ApiListener { api_listener: Some(any(MANAGER, &manager)) };
    Listener { name: name.into(), api_listener: Some(api_listener) }
}

/// The route by itself, for clients that ask for it.
pub(crate) fn route_configuration(name: &str) -> RouteConfiguration {
    let action = RouteAction { cluster_specifier: Some(ClusterSpecifier::Cluster(name.into())) };
    let everything = RouteMatch { path_specifier: Some(PathSpecifier::Prefix(String::new())) };
    let route = Route { r#match: Some(everything), action: Some(Action::Route(action)) };
    let host = VirtualHost { name: name.into(), domains: vec!["*".into()], routes: vec![route] };
    RouteConfiguration { name: name.into(), virtual_hosts: vec![host] }
}

/// The cluster: its endpoints come over the same stream, and how calls end is told to the same server.
pub(crate) fn cluster(name: &str) -> Cluster {
    let source = |specifier| ConfigSource { config_source_specifier: Some(specifier) };
    let ads = source(ConfigSourceSpecifier::Ads(AggregatedConfigSource {}));
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads),
            service_name: name.into(),
        }),
        lrs_server: Some(source(ConfigSourceSpecifier::Self_(SelfConfigSource {}))),
    }
}

/// The workers of a service.
pub(crate) fn assignment(name: &str, targets: &[Target]) -> ClusterLoadAssignment {
    let endpoints = targets.iter().map(locality_endpoints).collect();
    ClusterLoadAssignment { cluster_name: name.into(), endpoints }
}

fn locality_endpoints(target: &Target) -> LocalityLbEndpoints {
    let socket = SocketAddress {
        address: target.address.ip().to_canonical().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(target.address.port().into())),
    };
    let address = Address { address: Some(AddressKind::SocketAddress(socket)) };
    let endpoint = Endpoint { address: Some(address) };
    let endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)) };
    let locality =
        Locality { region: REGION.into(), zone: String::new(), sub_zone: target.id.to_string() };
    LocalityLbEndpoints {
        locality: Some(locality),
        lb_endpoints: vec![endpoint],
        load_balancing_weight: Some(target.weight),
        priority: target.priority,
    }
}

/// A message in an envelope with the name of its type.
pub(crate) fn any(type_url: &str, message: &impl Message) -> Any {
    Any { type_url: type_url.into(), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_a_locality_of_its_own() {
        let target = |id: &str, port| Target {
            id: id.parse().unwrap(),
            address: SocketAddr::new("::ffff:10.0.0.1".parse().unwrap(), port),
            weight: 7,
            priority: 0,
        };
        let list = assignment("x.Y", &[target("a", 80), target("b", 81)]);
        let workers = list.endpoints.iter().map(|one| worker_of(one.locality.as_ref().unwrap()));
        assert_eq!(
            workers.collect::<Vec<_>>(),
            [Some("a".parse().unwrap()), Some("b".parse().unwrap())]
        );
        assert!(format!("{list:?}").contains("\"10.0.0.1\""), "{list:?}");
        assert_eq!(list.endpoints[0].load_balancing_weight, Some(7));
    }

    #[test]
    fn other_peoples_localities_are_nobodys() {
        let locality = Locality { sub_zone: "a".into(), ..Locality::default() };
        assert_eq!(worker_of(&locality), None);
    }
}
