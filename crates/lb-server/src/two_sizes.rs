//! One service whose methods take messages of different sizes.
//!
//! A message is kept while it comes, so its largest size times the number of streams is memory that anybody can fill. tonic knows
//! one size for a service; so there are two of the same one here, and the path decides.

use std::task::{Context, Poll};

use http::Request;
use tonic::server::NamedService;
use tower_service::Service;

/// `large` for one path, `small` for all others.
#[derive(Debug, Clone)]
pub(crate) struct TwoSizes<S> {
    pub(crate) large_path: &'static str,
    pub(crate) large: S,
    pub(crate) small: S,
}

impl<S, B> Service<Request<B>> for TwoSizes<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // Services of tonic are always ready, so that either may be called.
        self.small.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let large = request.uri().path() == self.large_path;
        if large { self.large.call(request) } else { self.small.call(request) }
    }
}

impl<S: NamedService> NamedService for TwoSizes<S> {
    const NAME: &'static str = S::NAME;
}
