//! Requests whose token does not open what they name: a wrong file, or somebody who guesses.
//!
//! Promises: each one is counted, and logged with its sender, the host that it names as its own, and those of the named
//! buckets that there are; nothing else that the sender made up is, above all no token. The host is remembered, and shown where
//! it is known.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use http::{HeaderValue, Request, StatusCode};
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;
use rf_core::clock::unix_secs;
use rf_core::protocol::RF_HOSTNAME;
use rf_net::received::ReceivedBody;

use super::Relay;
use crate::auth::named;

/// The endpoints for one connection; what they refuse is noted.
pub(crate) fn noted(
    peer: SocketAddr,
    relay: Arc<Relay>,
    router: Router,
) -> impl Service<Request<ReceivedBody>, Response = Response, Error = Infallible, Future: Send> + Send
{
    let router = TowerToHyperService::new(router);
    service_fn(move |request: Request<ReceivedBody>| {
        let buckets = named(request.headers());
        let hostname = request.headers().get(RF_HOSTNAME).cloned();
        let (relay, answer) = (Arc::clone(&relay), router.call(request));
        async move {
            let response = answer.await?;
            if response.status() == StatusCode::UNAUTHORIZED {
                let named =
                    buckets.as_ref().and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
                let known = relay.tokens.known(named.unwrap_or_default());
                let hostname = hostname.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
                let hostname = String::from_utf8_lossy(hostname.trim_ascii());
                let is_told = relay.stats.refused_call(&hostname, known.clone(), unix_secs());
                tracing::warn!(
                    peer = %peer.ip(),
                    host = is_told.then_some(&*hostname),
                    bucket = known,
                    "request refused: unknown bucket or wrong token"
                );
            }
            Ok::<_, Infallible>(response)
        }
    })
}
