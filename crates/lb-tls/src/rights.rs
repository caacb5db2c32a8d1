//! What a certificate may do: one table, and the layer that holds everybody to it.
//!
//! It counts in `mtls` alone; in the other modes nobody knows who calls. What a table does not name, nobody may. What it
//! cannot know, because it stands inside a message, is asked by [`may_register`] and [`may_offer`].

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{Request, Response};
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use lb_core::id::{HostId, ServiceName, WorkerId};

use crate::{Identity, Mode, Peer, Role};

/// Who may call something.
#[derive(Debug, Clone, Copy)]
pub struct Right {
    /// Path of an RPC, or the beginning of one up to a slash, or "/" for everything else.
    pub path: &'static str,
    /// Whose certificates may.
    pub roles: &'static [Role],
}

const fn right(path: &'static str, roles: &'static [Role]) -> Right {
    Right { path, roles }
}

const ANYBODY: &[Role] = &Role::ALL;
const WORKERS: &[Role] = &[Role::Worker];
const SCALERS: &[Role] = &[Role::Scaler];
const CLIENTS: &[Role] = &[Role::Client, Role::Admin];
const ADMINS: &[Role] = &[Role::Admin];

/// At a balancer.
pub const AT_SERVER: &[Right] = &[
    right("/lb.v1.Registry/Register", WORKERS),
    right("/lb.v1.Scaling/Offer", SCALERS),
    right("/lb.v1.LoadBalancer/Pick", CLIENTS),
    right("/lb.v1.LoadBalancer/Session", CLIENTS),
    right("/lb.v1.LoadBalancer/Watch", CLIENTS),
    right(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        CLIENTS,
    ),
    right("/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats", CLIENTS),
    right("/lb.v1.Admin/ListWorkers", CLIENTS),
    right("/lb.v1.Admin/GetPolicy", CLIENTS),
    right("/lb.v1.Admin/SetPolicy", ADMINS),
    right("/lb.v1.Admin/Drain", ADMINS),
    right("/lb.v1.Admin/Undrain", ADMINS),
    right("/lb.v1.Admin/WatchEvents", ADMINS),
    right("/lb.v1.Admin/ScaleStatus", ADMINS),
    right("/lb.v1.Admin/SetScale", ADMINS),
    right("/grpc.health.v1.Health/", ANYBODY),
    right("/grpc.reflection.v1.ServerReflection/", ANYBODY),
    right("/grpc.reflection.v1alpha.ServerReflection/", ANYBODY),
];

/// At a worker, which offers any service.
pub const AT_WORKER: &[Right] = &[
    right("/grpc.health.v1.Health/", ANYBODY),
    right("/grpc.reflection.v1.ServerReflection/", ANYBODY),
    right("/grpc.reflection.v1alpha.ServerReflection/", ANYBODY),
    right("/", CLIENTS),
];

impl Right {
    fn covers(&self, path: &str) -> bool {
        if self.path.ends_with('/') { path.starts_with(self.path) } else { path == self.path }
    }
}

/// Whether somebody may call this.
///
/// # Errors
/// `UNAUTHENTICATED` for somebody who has not shown who it is, `PERMISSION_DENIED` for everybody else who may not.
fn check(table: &[Right], path: &str, identity: Option<&Arc<Identity>>) -> Result<(), Status> {
    let Some(identity) = identity else {
        return Err(Status::unauthenticated("a certificate of this cluster is needed"));
    };
    let right = table.iter().find(|right| right.covers(path));
    let roles = right.map_or(&[][..], |right| right.roles);
    if roles.contains(&identity.role) {
        return Ok(());
    }
    let who: Vec<String> = roles.iter().map(|role| format!("{role}s")).collect();
    let who =
        if who.is_empty() { "nobody".to_owned() } else { format!("only {}", who.join(" and ")) };
    Err(Status::permission_denied(format!("{identity} may not call {path}: {who} may")))
}

/// Whether somebody may register as this worker with these services. In the modes without identities, everybody may.
///
/// # Errors
/// `PERMISSION_DENIED`, naming what the certificate does not give.
pub fn may_register(
    identity: Option<&Identity>,
    worker: &WorkerId,
    services: &[ServiceName],
) -> Result<(), Status> {
    let Some(identity) = identity else { return Ok(()) };
    if !identity.is_worker(worker) {
        let text =
            format!("hello.worker_id is {worker}, but the certificate is that of {identity}");
        return Err(Status::permission_denied(text));
    }
    match services.iter().find(|service| !identity.services.contains(service)) {
        None => Ok(()),
        Some(service) => Err(Status::permission_denied(format!(
            "hello.services names {service}, which is not in the certificate of {identity}"
        ))),
    }
}

/// Whether somebody may speak for this host. In the modes without identities, everybody may.
///
/// # Errors
/// `PERMISSION_DENIED`, naming what the certificate does not give.
pub fn may_offer(identity: Option<&Identity>, host: &HostId) -> Result<(), Status> {
    match identity {
        Some(identity) if identity.name.as_str() != host.as_str() => {
            Err(Status::permission_denied(format!(
                "hello.host_id is {host}, but the certificate is that of {identity}"
            )))
        }
        _ => Ok(()),
    }
}

/// Lets nobody call what it may not.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    /// `None` lets everybody.
    table: Option<&'static [Right]>,
}

impl Guard {
    /// Holds to this table, if the mode knows who calls.
    pub fn new(mode: Mode, table: &'static [Right]) -> Self {
        Self { table: (mode == Mode::Mtls).then_some(table) }
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, table: self.table }
    }
}

/// The service that [`Guard`] makes.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    table: Option<&'static [Right]>,
}

impl<S, B, A> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    A: Default,
{
    type Response = Response<A>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<A>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if let Some(table) = self.table {
            let peer = request.extensions().get::<Peer>();
            let identity = peer.and_then(|peer| peer.identity.as_ref());
            if let Err(status) = check(table, request.uri().path(), identity) {
                peer.inspect(|peer| peer.in_vain());
                return Either::Right(ready(Ok(status.into_http())));
            }
        }
        Either::Left(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(role: Role) -> Arc<Identity> {
        let (cluster, name) = ("lab".parse().unwrap(), "a".parse().unwrap());
        Arc::new(Identity {
            cluster,
            role,
            name,
            services: vec!["x.Y".parse().unwrap()],
            instances: 0,
        })
    }

    #[test]
    fn what_no_table_names_nobody_may() {
        let admin = identity(Role::Admin);
        for path in
            ["/lb.v1.Admin/Format", "/lb.v1.Registry/Register/", "/", "", "/grpc.health.v1.Health"]
        {
            let status = check(AT_SERVER, path, Some(&admin)).unwrap_err();
            assert_eq!(status.code(), tonic::Code::PermissionDenied, "{path}");
            assert!(status.message().ends_with("nobody may"), "{status}");
        }
        let status = check(AT_SERVER, "/grpc.health.v1.Health/Check", None).unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }

    #[test]
    fn a_worker_registers_as_itself_with_its_services() {
        let worker = identity(Role::Worker);
        let may = |id: &str, services: &[&str]| {
            let services: Vec<_> = services.iter().map(|name| name.parse().unwrap()).collect();
            may_register(Some(&worker), &id.parse().unwrap(), &services)
        };
        assert!(may("a", &["x.Y"]).is_ok());
        assert!(may("b", &["x.Y"]).unwrap_err().message().starts_with("hello.worker_id is b, but"));
        assert!(
            may("a", &["x.Y", "x.Z"]).unwrap_err().message().contains("names x.Z, which is not")
        );
        assert!(may_register(None, &"b".parse().unwrap(), &[]).is_ok());
    }

    #[test]
    fn instances_register_with_the_certificate_that_they_share() {
        let shared = Identity { instances: 2, ..(*identity(Role::Worker)).clone() };
        let may = |id: &str| may_register(Some(&shared), &id.parse().unwrap(), &[]).is_ok();
        assert!(may("a") && may("a-1") && may("a-2"));
        assert!(!may("a-3") && !may("b-1"));
        // A number in a name says nothing by itself.
        assert!(may_register(Some(&identity(Role::Worker)), &"a-1".parse().unwrap(), &[]).is_err());
    }

    #[test]
    fn a_scaler_speaks_for_its_own_host() {
        let scaler = identity(Role::Scaler);
        assert!(may_offer(Some(&scaler), &"a".parse().unwrap()).is_ok());
        let status = may_offer(Some(&scaler), &"b".parse().unwrap()).unwrap_err();
        assert!(status.message().starts_with("hello.host_id is b, but"), "{status}");
        assert!(may_offer(None, &"b".parse().unwrap()).is_ok());
    }
}
