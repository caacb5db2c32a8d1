//! xDS, as the gRPC library of any language speaks it.

use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use lb_core::policy::PolicyKind;
use lb_proto::v1::DrainRequest;
use lb_server::Limits;
use lb_xds::{
    Kind,
    proto::{
        ClusterLoadAssignment, ClusterStats, DiscoveryRequest, DiscoveryResponse, Listener,
        LoadStatsRequest, Locality, Node, Status, UpstreamLocalityStats,
        discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        load_stats::load_reporting_service_client::LoadReportingServiceClient,
    },
    worker_of,
};

use crate::support::{Balancer, SERVICE, until};

/// A program that knows nothing of us.
struct Client {
    say: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

impl Client {
    async fn connect(balancer: &Balancer) -> Self {
        let (say, said) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(balancer.channel.clone());
        let answers = client.stream_aggregated_resources(ReceiverStream::new(said)).await.unwrap();
        Self { say, answers: answers.into_inner() }
    }

    async fn ask(&self, kind: Kind, name: &str) {
        let request = DiscoveryRequest {
            node: Some(Node { id: "n".into(), ..Node::default() }),
            type_url: kind.type_url().into(),
            resource_names: vec![name.into()],
            ..DiscoveryRequest::default()
        };
        self.say.send(request).await.unwrap();
    }

    /// Acknowledges an answer, or refuses it.
    async fn answer(&self, answer: &DiscoveryResponse, error_detail: Option<Status>) {
        let request = DiscoveryRequest {
            version_info: answer.version_info.clone(),
            response_nonce: answer.nonce.clone(),
            type_url: answer.type_url.clone(),
            resource_names: vec![SERVICE.into()],
            error_detail,
            ..DiscoveryRequest::default()
        };
        self.say.send(request).await.unwrap();
    }

    async fn hear(&mut self) -> DiscoveryResponse {
        self.answers.message().await.unwrap().unwrap()
    }

    /// The workers of the next list, with their weights.
    async fn workers(&mut self) -> Vec<(String, u32)> {
        let answer = self.hear().await;
        self.answer(&answer, None).await;
        let list = ClusterLoadAssignment::decode(&*answer.resources[0].value).unwrap();
        let worker = |one: &lb_xds::proto::endpoint::LocalityLbEndpoints| {
            let id = worker_of(one.locality.as_ref().unwrap()).unwrap();
            (id.to_string(), one.load_balancing_weight.unwrap())
        };
        list.endpoints.iter().map(worker).collect()
    }
}

fn list(all: &[(&str, u32)]) -> Vec<(String, u32)> {
    all.iter().map(|(id, weight)| ((*id).to_owned(), *weight)).collect()
}

#[tokio::test]
async fn a_client_follows_who_comes_and_who_drains() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let mut client = Client::connect(&balancer).await;
    client.ask(Kind::Listener, SERVICE).await;
    let answer = client.hear().await;
    assert_eq!(Listener::decode(&*answer.resources[0].value).unwrap().name, SERVICE);
    client.ask(Kind::Cluster, SERVICE).await;
    client.hear().await;
    client.ask(Kind::Endpoints, SERVICE).await;
    // The first list comes with the first worker: there may be others on their way to a balancer that has just started.
    let mut first = balancer.worker("a", 1).await;
    assert_eq!(client.workers().await, list(&[("a", 10_000)]));
    let second = balancer.worker("b", 2).await;
    assert_eq!(client.workers().await, list(&[("a", 10_000), ("b", 10_000)]));
    first.drain().await;
    assert_eq!(client.workers().await, list(&[("b", 10_000)]));
    let drain = DrainRequest { worker_id: "b".into() };
    let third = balancer.worker("c", 3).await;
    assert_eq!(client.workers().await.len(), 2);
    balancer.admin().drain(drain).await.unwrap();
    assert_eq!(client.workers().await, list(&[("c", 10_000)]));
    drop((second, third));
}

#[tokio::test]
async fn a_refused_list_does_not_end_the_stream() {
    let balancer = Balancer::start(PolicyKind::RoundRobin).await;
    let _a = balancer.worker("a", 1).await;
    let mut client = Client::connect(&balancer).await;
    client.ask(Kind::Endpoints, SERVICE).await;
    let answer = client.hear().await;
    client.answer(&answer, Some(Status { code: 3, message: "not like this".into() })).await;
    let _b = balancer.worker("b", 2).await;
    assert_eq!(client.workers().await, list(&[("a", 1), ("b", 1)]));
}

#[tokio::test]
async fn streams_have_places() {
    let limits = Limits { sessions: 1, watchers: 1, ..Limits::default() };
    let balancer = Balancer::start_with(PolicyKind::RoundRobin, limits).await;
    let _first = Client::connect(&balancer).await;
    let (_say, said) = mpsc::channel(1);
    let mut client = AggregatedDiscoveryServiceClient::new(balancer.channel.clone());
    let refused = client.stream_aggregated_resources(ReceiverStream::new(said)).await;
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn what_clients_count_puts_a_failing_worker_out() {
    let balancer = Balancer::start(PolicyKind::LeastLoad).await;
    let mut events = balancer.events().await;
    let workers = [("a", 1), ("b", 2), ("c", 3)];
    let mut all = Vec::new();
    for (id, port) in workers {
        all.push(balancer.worker(id, port).await);
    }
    let mut lists = Client::connect(&balancer).await;
    lists.ask(Kind::Endpoints, SERVICE).await;
    assert_eq!(lists.workers().await.len(), 3);
    let (say, said) = mpsc::channel(16);
    say.send(LoadStatsRequest::default()).await.unwrap();
    let mut client = LoadReportingServiceClient::new(balancer.channel.clone());
    let mut wishes =
        client.stream_load_stats(ReceiverStream::new(said)).await.unwrap().into_inner();
    let wish = wishes.message().await.unwrap().unwrap();
    assert!(wish.send_all_clusters);
    assert_eq!(wish.load_reporting_interval.unwrap().seconds, 1);
    let stats = |id: &str, succeeded, failed| UpstreamLocalityStats {
        locality: Some(Locality {
            region: lb_xds::REGION.into(),
            sub_zone: id.into(),
            ..Locality::default()
        }),
        total_successful_requests: succeeded,
        total_error_requests: failed,
        ..UpstreamLocalityStats::default()
    };
    let count = ClusterStats {
        cluster_name: SERVICE.into(),
        upstream_locality_stats: vec![
            stats("a", 100, 0),
            stats("b", 50, 50),
            stats("c", 100, 0),
            stats("nobody", 0, 9),
        ],
        ..ClusterStats::default()
    };
    let report = LoadStatsRequest { cluster_stats: vec![count], ..LoadStatsRequest::default() };
    say.send(report).await.unwrap();
    assert_eq!(until(&mut events, "worker_ejected").await.worker_id, "b");
    let left: Vec<_> = lists.workers().await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, ["a", "c"]);
}
