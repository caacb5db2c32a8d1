//! What one client has asked for and been told: the protocol of a stream of aggregated discovery, state of the world.
//!
//! A request names all that the client wants of one type. The first of a type asks; each answer is then acknowledged by a request with
//! its nonce, or refused by one that says why as well; and a request with other names asks anew. One that speaks of an answer that is
//! not the last is outdated, another will follow.
//!
//! The next list is told when the last one was acknowledged. So a client that is slow hears of fewer lists and never of old ones: the
//! lists that it cannot follow would wait in its connection, and it would go through all of them before the one that counts.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::Any;

use lb_core::id::{BalancerId, SERVICE_NAME_LIMIT};

use crate::{
    builder::{Answer, Lists},
    proto::{DiscoveryRequest, DiscoveryResponse},
    resources::{any, assignment, cluster, listener, route_configuration},
};

/// Most names of one type that a client is answered: a program that calls more services than this does not exist. Further ones are
/// told not to exist.
pub const NAMES_LIMIT: usize = 256;

/// How much of what a client says is repeated, in characters.
const QUOTE_LIMIT: usize = 300;

/// The version of what never changes.
const FIXED: u64 = 0;

/// A type of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Where a target leads to.
    Listener,
    /// Which cluster a call goes to.
    Route,
    /// Where the endpoints are told.
    Cluster,
    /// The workers.
    Endpoints,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Listener, Self::Route, Self::Cluster, Self::Endpoints];

    /// Its name on the wire.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        }
    }

    fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }
}

/// A client does not take an answer, and goes on with what it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Of which type.
    pub kind: Kind,
    /// Why, in the words of the client.
    pub problem: String,
}

/// All subscriptions of one stream.
#[derive(Debug)]
pub struct Subscriptions {
    balancer: BalancerId,
    kinds: [Subscription; 4],
    /// Counts the answers.
    nonce: u64,
}

#[derive(Debug, Default)]
struct Subscription {
    /// What is wanted, and the version that was told.
    names: BTreeMap<String, Option<u64>>,
    /// Of the last answer.
    nonce: String,
    /// That answer was neither acknowledged nor refused.
    pending: bool,
    refused: bool,
    /// Something was added since the last answer.
    asked: bool,
    /// Whether the client has a list from an earlier stream, as its first request tells.
    informed: Option<bool>,
}

impl Subscriptions {
    /// None yet.
    pub fn new(balancer: BalancerId) -> Self {
        Self { balancer, kinds: Default::default(), nonce: 0 }
    }

    /// Takes a request. Types that are not served are not answered.
    pub fn request(&mut self, request: &DiscoveryRequest) -> Option<Refused> {
        let kind = Kind::of(&request.type_url)?;
        let subscription = &mut self.kinds[kind as usize];
        let nonce = &request.response_nonce;
        let answers = !nonce.is_empty() && !subscription.nonce.is_empty();
        if answers && *nonce != subscription.nonce {
            return None;
        }
        subscription.pending = false;
        subscription.informed.get_or_insert(!request.version_info.is_empty());
        subscription.want(&request.resource_names);
        let problem = request.error_detail.as_ref().filter(|_| answers)?;
        // An answer is refused once, however often the client says so.
        let is_news = !std::mem::replace(&mut subscription.refused, true);
        let problem = problem.message.chars().take(QUOTE_LIMIT).collect();
        is_news.then_some(Refused { kind, problem })
    }

    /// What is to be told now.
    pub fn answers(&mut self, lists: &Lists) -> Vec<DiscoveryResponse> {
        Kind::ALL.into_iter().filter_map(|kind| self.answer(kind, lists)).collect()
    }

    fn answer(&mut self, kind: Kind, lists: &Lists) -> Option<DiscoveryResponse> {
        let subscription = &mut self.kinds[kind as usize];
        let type_url = kind.type_url();
        let (version, resources) = match kind {
            Kind::Listener => (FIXED, subscription.fixed(|name| any(type_url, &listener(name)))?),
            Kind::Route => {
                (FIXED, subscription.fixed(|name| any(type_url, &route_configuration(name)))?)
            }
            Kind::Cluster => (FIXED, subscription.fixed(|name| any(type_url, &cluster(name)))?),
            Kind::Endpoints if subscription.pending => return None,
            Kind::Endpoints => subscription.endpoints(lists)?,
        };
        self.nonce += 1;
        subscription.nonce = self.nonce.to_string();
        subscription.pending = true;
        subscription.refused = false;
        Some(DiscoveryResponse {
            version_info: format!("{}.{version}", self.balancer),
            resources,
            type_url: type_url.into(),
            nonce: subscription.nonce.clone(),
        })
    }
}

impl Subscription {
    fn want(&mut self, names: &[String]) {
        let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        self.names.retain(|name, _| wanted.contains(name.as_str()));
        for name in wanted {
            if self.names.contains_key(name) {
                continue;
            }
            // Whether it can be answered or not: what is wanted and missing in an answer does not exist.
            self.asked = true;
            if name.len() <= SERVICE_NAME_LIMIT && self.names.len() < NAMES_LIMIT {
                self.names.insert(name.to_owned(), None);
            }
        }
    }

    /// Resources that exist for any name and never change: all of them, when one was added.
    fn fixed(&mut self, resource: impl Fn(&str) -> Any) -> Option<Vec<Any>> {
        std::mem::take(&mut self.asked)
            .then(|| self.names.keys().map(|name| resource(name)).collect())
    }

    /// Lists that are new to the client. Those that it has need not be repeated.
    fn endpoints(&mut self, lists: &Lists) -> Option<(u64, Vec<Any>)> {
        let (mut newest, mut resources) = (FIXED, Vec::new());
        for (name, told) in &mut self.names {
            let (version, resource) = match lists.answer(name, self.informed == Some(true)) {
                Answer::Wait => continue,
                Answer::Workers(listed) => (listed.version, Some(&listed.resource)),
                Answer::Nobody => (FIXED, None),
            };
            if *told == Some(version) {
                continue;
            }
            *told = Some(version);
            newest = newest.max(version);
            let nobody = || any(Kind::Endpoints.type_url(), &assignment(name, &[]));
            resources.push(resource.cloned().unwrap_or_else(nobody));
        }
        (!resources.is_empty()).then_some((newest, resources))
    }
}

#[cfg(test)]
mod tests;
