//! The status port of proxy and player.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use rf_core::lifecycle::Tasks;
use rf_core::metrics::Form;
use rf_net::listen::{ListenError, listen};
use rf_net::serve::{ServerLimits, serve};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::health::{is_alive, stuck};
use super::metrics::metrics;
use super::sight::Sight;
use super::statusz::{Filter, page};

/// Connections at a time: people and scrapers.
const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");

/// A status port that is claimed and does not answer yet.
pub(crate) struct StatusPort {
    listener: TcpListener,
}

impl StatusPort {
    /// Claims the port.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) fn bind(address: &str, port: u16) -> Result<Self, ListenError> {
        let listener = listen(address, port)?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "status page started");
        }
        Ok(Self { listener })
    }

    /// Answers until the group stops.
    pub(crate) fn spawn(self, tasks: &Tasks, sight: Arc<Sight>) {
        let stop = tasks.stop_token().clone();
        tasks.spawn("status page", async move {
            let limits =
                ServerLimits { max_connections: MAX_CONNECTIONS, ..ServerLimits::default() };
            let service_for = move |_peer| {
                let sight = Arc::clone(&sight);
                service_fn(move |request| answer(Arc::clone(&sight), request))
            };
            serve(self.listener, service_for, limits, stop).await;
            Ok::<(), Infallible>(())
        });
    }
}

/// Before the id of an event.
const TRACE: &str = "/trace/";

async fn trace(sight: &Sight, path: &str) -> (StatusCode, &'static str, String) {
    let id = path.strip_prefix(TRACE).unwrap_or_default();
    match Uuid::parse_str(id) {
        Ok(id) => {
            let body = serde_json::to_string(&sight.trace(id).await).unwrap_or_default();
            (StatusCode::OK, "application/json", body)
        }
        Err(error) => {
            (StatusCode::BAD_REQUEST, "text/plain", format!("not the id of an event: {error}\n"))
        }
    }
}

async fn answer(
    sight: Arc<Sight>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, kind, body) = match request.uri().path() {
        "/statusz" => {
            let filter = filter(request.uri().query().unwrap_or_default());
            (StatusCode::OK, "application/json", page(&sight, &filter).to_string())
        }
        "/node-info" => {
            let body = serde_json::to_string(&sight.told_info()).unwrap_or_default();
            (StatusCode::OK, "application/json", body)
        }
        "/metrics" => {
            let accept = request.headers().get_all(ACCEPT).iter();
            let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
            let form = Form::negotiate(&accept);
            (StatusCode::OK, form.content_type(), metrics(&sight, form))
        }
        path if path.starts_with(TRACE) => trace(&sight, path).await,
        "/healthz" if is_alive(&sight).await => (StatusCode::OK, "text/plain", "ok".to_owned()),
        "/healthz" => {
            let text = "the queue's database does not answer".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, "text/plain", text)
        }
        "/readyz" => match stuck(&sight) {
            reasons if reasons.is_empty() => (StatusCode::OK, "text/plain", "ok".to_owned()),
            reasons => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", reasons.join("\n") + "\n"),
        },
        _ if matches!(*request.method(), Method::GET | Method::HEAD) => {
            (StatusCode::OK, "text/plain", "ok".to_owned())
        }
        // Whoever brings events took this port for another one, and would forget them for an `ok`.
        _ => {
            let text = "this is a status port (portStatusZ): it takes nothing\n".to_owned();
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", text)
        }
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

fn filter(query: &str) -> Filter {
    let value = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut found = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
        let value = percent_encoding::percent_decode_str(found.next()?);
        Some(value.decode_utf8_lossy().into_owned())
    };
    Filter { source: value("source"), sink: value("sink") }
}
