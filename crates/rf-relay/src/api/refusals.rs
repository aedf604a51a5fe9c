//! Requests whose token does not open what they name: a wrong file, or somebody who guesses.
//!
//! Promises: each one is counted, and logged with its sender and those of the named buckets that there are; nothing that
//! the sender made up is, above all no token.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;

use super::Relay;
use crate::auth::named;

/// The endpoints for one connection; what they refuse is noted.
pub(crate) fn noted(
    peer: SocketAddr,
    relay: Arc<Relay>,
    router: Router,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Send {
    let router = TowerToHyperService::new(router);
    service_fn(move |request: Request<Incoming>| {
        let buckets = named(request.headers()).cloned();
        let (relay, answer) = (Arc::clone(&relay), router.call(request));
        async move {
            let response = answer.await?;
            if response.status() == StatusCode::UNAUTHORIZED {
                let named =
                    buckets.as_ref().and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
                relay.stats.count_unauthorized();
                tracing::warn!(
                    peer = %peer.ip(),
                    bucket = relay.tokens.known(named.unwrap_or_default()),
                    "request refused: unknown bucket or wrong token"
                );
            }
            Ok::<_, Infallible>(response)
        }
    })
}
