//! What a worker answers about itself: `grpc.health.v1`, server reflection, and its load in ORCA's terms.

use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server::Builder;

use lb_core::id::ServiceName;

use crate::{
    orca,
    state::{State, StateCell},
};

/// Adds server reflection (v1 for new clients, v1alpha for old ones) over the given descriptor sets. Fails when one of
/// them cannot be read.
pub(crate) fn add_reflection(
    routes: Routes,
    descriptor_sets: &[&'static [u8]],
) -> Result<Routes, tonic_reflection::server::Error> {
    let builder = || {
        let own = [tonic_health::pb::FILE_DESCRIPTOR_SET, orca::FILE_DESCRIPTOR_SET];
        let sets = descriptor_sets.iter().copied().chain(own);
        sets.fold(Builder::configure(), Builder::register_encoded_file_descriptor_set)
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}

/// Adds the health service.
pub(crate) fn add_health(routes: Routes) -> (Routes, HealthReporter) {
    let (reporter, service) = tonic_health::server::health_reporter();
    (routes.add_service(service), reporter)
}

/// Keeps health in step with the state, for the server as a whole and for each service.
pub(crate) async fn follow_state(
    reporter: HealthReporter,
    services: Vec<ServiceName>,
    state: StateCell,
) {
    let mut states = state.changes();
    loop {
        let serving = match *states.borrow_and_update() {
            State::Serving => ServingStatus::Serving,
            State::Unwell | State::Draining | State::Stopping => ServingStatus::NotServing,
        };
        for name in std::iter::once("").chain(services.iter().map(ServiceName::as_str)) {
            reporter.set_service_status(name, serving).await;
        }
        if states.changed().await.is_err() {
            return;
        }
    }
}
