//! The status port: what the relay knows, for people and for programs.
//!
//! | path | answer |
//! | --- | --- |
//! | `/statusz` | JSON in the original's shape, and our report beside it |
//! | `/healthz`, `/readyz` | whether it is alive; whether events move |
//! | `/metrics` | for Prometheus |
//! | `/trace/ID` | what is known of one event |
//! | `/`, for a browser | the page |
//! | any other | `ok`, as in the original; 405 to who brings something |
//!
//! Promises: where a token is configured, nothing but `ok` and the status code of `/healthz` and `/readyz` is told
//! without it; where none is, the same to who asks for a foreign name; what takes a while to be put together is made by one
//! thread that gives way to events, one answer after the other, however many ask, and is not made anew at once for who asks
//! the same again; nothing here takes a lock that an event could wait for longer than a copy of counters takes.

mod access;
mod health;
mod kept;
mod metrics;
mod page;
mod statusz;
mod trace;

use std::io;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use rf_core::background::Background;
use rf_core::metrics::Form;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use access::Access;

use crate::auth::Tokens;
use crate::report::RelayView;

/// The nice value of what makes answers: on processors that events keep busy it gets less than a twentieth of one. Less
/// still would have a page wait for seconds there.
const NICENESS: i32 = 15;

/// What the status port works with.
pub(crate) struct StatusPort {
    pub(crate) view: Arc<RelayView>,
    pub(crate) access: Access,
    /// What opens a bucket's events.
    pub(crate) tokens: Tokens,
    /// The page as it was rendered last.
    pub(crate) rendered: page::Rendered,
    /// Long answers, for who asks again at once.
    kept: kept::Kept,
    /// Makes what takes a while.
    pub(crate) maker: Background,
    /// One event is looked for at a time: it reads through databases, on threads that requests need.
    pub(crate) tracing: Semaphore,
    /// A place for each open page.
    pub(crate) viewers: Arc<Semaphore>,
    pub(crate) stop: CancellationToken,
}

impl StatusPort {
    pub(crate) fn new(
        view: Arc<RelayView>,
        access: Access,
        tokens: Tokens,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let maker = Background::start("rf-status", NICENESS)?;
        let viewers = Arc::new(Semaphore::new(page::MAX_VIEWERS));
        let rendered = page::Rendered::default();
        let tracing = Semaphore::new(1);
        let kept = kept::Kept::default();
        Ok(Self { view, access, tokens, rendered, kept, maker, tracing, viewers, stop })
    }

    /// Has it made from the state of the moment. `None` when that failed, which was logged.
    async fn make<T: Send + 'static>(
        self: &Arc<Self>,
        make: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let port = Arc::clone(self);
        self.maker.run(move || make(&port)).await
    }

    /// The same for a long answer to a question that others may ask, too.
    async fn make_or_repeat(
        self: &Arc<Self>,
        question: String,
        make: impl FnOnce(&Self) -> Bytes + Send + 'static,
    ) -> Option<Bytes> {
        if let Some(body) = self.kept.get(&question) {
            return Some(body);
        }
        // Who waited for its turn may find what the one before it made.
        self.make(move |port| port.kept.get_or_make(question, || make(port))).await
    }
}

/// All paths of the status port.
pub(crate) fn router(port: Arc<StatusPort>) -> Router {
    let guarded = Router::new()
        .route("/statusz", any(statusz_page))
        .route("/metrics", any(metrics_page))
        .route("/trace/{id}", any(trace_page))
        .route_layer(axum::middleware::from_fn_with_state(Arc::clone(&port), access::guard));
    Router::new()
        .route("/healthz", any(healthz))
        .route("/readyz", any(readyz))
        .merge(guarded)
        .merge(page::router())
        .fallback(other)
        .with_state(port)
}

/// Whoever brings events took this port for that of the API, and would forget them for an `ok`.
async fn other(method: Method) -> Response {
    if matches!(method, Method::GET | Method::HEAD) {
        return ([PLAIN], "ok").into_response();
    }
    let text = "this is the status port (portStatusZ): the relay's API is at its `port`\n";
    let head = [PLAIN, (header::ALLOW, "GET, HEAD")];
    (StatusCode::METHOD_NOT_ALLOWED, head, text).into_response()
}

async fn statusz_page(State(port): State<Arc<StatusPort>>, uri: Uri) -> Response {
    // A query that cannot be read asks for nothing less than all, as in the original.
    let filter = Query::try_from_uri(&uri).map(|Query(filter)| filter).unwrap_or_default();
    let question = uri.to_string();
    let body = port.make_or_repeat(question, move |port| statusz::statusz(port, &filter)).await;
    let head = [(header::CONTENT_TYPE, "application/json"), NO_STORE];
    body.map_or_else(failed, |body| (head, body).into_response())
}

async fn metrics_page(State(port): State<Arc<StatusPort>>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter();
    let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
    let form = Form::negotiate(&accept);
    let make = move |port: &StatusPort| Bytes::from(metrics::metrics(&port.view, form));
    let body = port.make_or_repeat(form.content_type().to_owned(), make).await;
    let head = [(header::CONTENT_TYPE, form.content_type()), NO_STORE];
    body.map_or_else(failed, |body| (head, body).into_response())
}

async fn trace_page(State(port): State<Arc<StatusPort>>, Path(id): Path<String>) -> Response {
    let _one_at_a_time = port.tracing.acquire().await;
    match Uuid::parse_str(&id) {
        Ok(id) => ([NO_STORE], Json(trace::trace(&port.view, id).await)).into_response(),
        Err(error) => {
            let text = format!("not the id of an event: {error}\n");
            (StatusCode::BAD_REQUEST, [PLAIN], text).into_response()
        }
    }
}

/// It was logged where it happened.
fn failed() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, [PLAIN], "the status could not be assembled")
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
