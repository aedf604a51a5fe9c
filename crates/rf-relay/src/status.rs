//! The status port: what the relay knows, for people and for programs.
//!
//! | path | answer |
//! | --- | --- |
//! | `/statusz` | JSON in the original's shape, and our report beside it |
//! | `/healthz`, `/readyz` | whether it is alive; whether events move |
//! | `/metrics` | for Prometheus |
//! | `/`, for a browser | the page |
//! | any other | `ok`, as in the original |
//!
//! Promises: where a token is configured, nothing but `ok` and the status code of `/healthz` and `/readyz` is told
//! without it; where none is, the same to who asks for a foreign name; nothing here takes a lock that an event could wait for longer than a copy of counters takes.

mod access;
mod health;
mod metrics;
mod page;
mod statusz;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderMap, StatusCode, Uri, header};
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

pub(crate) use access::Access;

use crate::auth::Tokens;
use crate::report::Sight;

/// What the status port works with.
pub(crate) struct StatusPort {
    pub(crate) sight: Arc<Sight>,
    pub(crate) access: Access,
    /// What opens a bucket's events.
    pub(crate) tokens: Tokens,
    /// The page as it was rendered last.
    pub(crate) rendered: page::Rendered,
    /// A place for each open page.
    pub(crate) viewers: Arc<Semaphore>,
    pub(crate) stop: CancellationToken,
}

impl StatusPort {
    pub(crate) fn new(
        sight: Arc<Sight>,
        access: Access,
        tokens: Tokens,
        stop: CancellationToken,
    ) -> StatusPort {
        let viewers = Arc::new(Semaphore::new(page::MAX_VIEWERS));
        StatusPort { sight, access, tokens, rendered: page::Rendered::default(), viewers, stop }
    }
}

/// All paths of the status port.
pub(crate) fn router(port: Arc<StatusPort>) -> Router {
    let guarded = Router::new()
        .route("/statusz", any(statusz_page))
        .route("/metrics", any(metrics_page))
        .route_layer(axum::middleware::from_fn_with_state(Arc::clone(&port), access::guard));
    Router::new()
        .route("/healthz", any(healthz))
        .route("/readyz", any(readyz))
        .merge(guarded)
        .merge(page::router())
        .fallback(async || ([PLAIN], "ok"))
        .with_state(port)
}

async fn statusz_page(State(port): State<Arc<StatusPort>>, uri: Uri) -> Response {
    // A query that cannot be read asks for nothing less than all, as in the original.
    let filter = Query::try_from_uri(&uri).map(|Query(filter)| filter).unwrap_or_default();
    // With a thousand nodes it takes a while: not on a thread that others wait for.
    let body = tokio::task::spawn_blocking(move || statusz::statusz(&port, &filter)).await;
    let head = [(header::CONTENT_TYPE, "application/json"), NO_STORE];
    body.map_or_else(|error| failed(&error), |body| (head, body).into_response())
}

async fn metrics_page(State(port): State<Arc<StatusPort>>, headers: HeaderMap) -> Response {
    let form = metrics::Form::negotiate(&headers);
    let body = tokio::task::spawn_blocking(move || metrics::metrics(&port.sight, form)).await;
    let head = [(header::CONTENT_TYPE, form.content_type()), NO_STORE];
    body.map_or_else(|error| failed(&error), |body| (head, body).into_response())
}

fn failed(error: &JoinError) -> Response {
    tracing::error!(%error, "the status could not be put together");
    (StatusCode::INTERNAL_SERVER_ERROR, [PLAIN], "the status could not be put together")
        .into_response()
}

async fn healthz(State(port): State<Arc<StatusPort>>, headers: HeaderMap) -> Response {
    health::answer(health::broken(&port), port.access.allows(&headers))
}

async fn readyz(State(port): State<Arc<StatusPort>>, headers: HeaderMap) -> Response {
    health::answer(health::stuck(&port), port.access.allows(&headers))
}

/// Without a charset, as the original's answers.
const PLAIN: (header::HeaderName, &str) = (header::CONTENT_TYPE, "text/plain");

/// Hosts and figures are of now, and nobody's but the reader's.
const NO_STORE: (header::HeaderName, &str) = (header::CACHE_CONTROL, "no-store");
