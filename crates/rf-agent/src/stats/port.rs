//! The status port of proxy and player.
//!
//! It asks for no token. Promise: on loopback, whoever asks for a foreign name is told nothing but `ok` and the status code
//! of `/healthz` and `/readyz`, since a page of another site can have a name that leads here.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use rf_core::lifecycle::Tasks;
use rf_core::metrics::Form;
use rf_net::listen::{ListenError, listen};
use rf_net::own_host::{OwnHosts, is_loopback};
use rf_net::received::ReceivedBody;
use rf_net::serve::{ServerLimits, serve};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::health::{is_alive, stuck};
use super::metrics::metrics;
use super::sight::Sight;
use super::statusz::{Filter, page};
use crate::settings::host_name;

/// Connections at a time: people and scrapers.
const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");

/// A status port that is claimed and does not answer yet.
pub(crate) struct StatusPort {
    listener: TcpListener,
    hosts: KnownHosts,
}

/// The names that the port answers to; `None`, where others than this machine reach it: all.
#[derive(Clone)]
struct KnownHosts(Option<Arc<OwnHosts>>);

impl KnownHosts {
    fn new(address: &str, further: &[String]) -> Self {
        let names = || further.iter().cloned().chain([address.to_owned(), host_name("")]);
        Self(is_loopback(address).then(|| Arc::new(OwnHosts::new(names()))))
    }

    fn know(&self, headers: &HeaderMap) -> bool {
        self.0.as_ref().is_none_or(|hosts| hosts.know(headers))
    }
}

impl StatusPort {
    /// Claims the port. `further` are names that it answers to besides those of this machine.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) fn bind(address: &str, port: u16, further: &[String]) -> Result<Self, ListenError> {
        let listener = listen(address, port)?;
        let hosts = KnownHosts::new(address, further);
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "status page started");
        }
        Ok(Self { listener, hosts })
    }

    /// Answers until the group stops.
    pub(crate) fn spawn(self, tasks: &Tasks, sight: Arc<Sight>) {
        let stop = tasks.stop_token().clone();
        tasks.spawn("status page", async move {
            let limits =
                ServerLimits { max_connections: MAX_CONNECTIONS, ..ServerLimits::default() };
            let hosts = self.hosts;
            let service_for = move |_peer| {
                let (sight, hosts) = (Arc::clone(&sight), hosts.clone());
                service_fn(move |request: Request<ReceivedBody>| {
                    let is_own = hosts.know(request.headers());
                    answer(Arc::clone(&sight), is_own, request)
                })
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

/// Whether a path tells anything of this program.
fn is_guarded(path: &str) -> bool {
    matches!(path, "/statusz" | "/node-info" | "/metrics") || path.starts_with(TRACE)
}

/// `is_own` says whether the request asks for a name that the port answers to.
async fn answer(
    sight: Arc<Sight>,
    is_own: bool,
    request: Request<ReceivedBody>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, kind, body) = match request.uri().path() {
        path if !is_own && is_guarded(path) => {
            let text = "this host name is not known: add it to statusHosts\n".to_owned();
            (StatusCode::FORBIDDEN, "text/plain", text)
        }
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
            _ if !is_own => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ok".to_owned()),
            reasons => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", reasons.join("\n") + "\n"),
        },
        _ if matches!(*request.method(), Method::GET | Method::HEAD) => {
            (StatusCode::OK, "text/plain", "ok".to_owned())
        }
        // Whoever brings events took this port for another one, and would forget them for an `ok`.
        _ => {
            let text = "this is a status port (portStatusZ): it accepts no events\n".to_owned();
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
        let value = found.next()?.replace('+', " ");
        Some(percent_encoding::percent_decode_str(&value).decode_utf8_lossy().into_owned())
    };
    Filter { source: value("source"), sink: value("sink") }
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn an_id_may_be_written_as_forms_write_it() {
        for query in ["sink=a%20b", "sink=a+b", "x=1&sink=a+b&sink=c"] {
            assert_eq!(filter(query).sink.as_deref(), Some("a b"), "{query}");
            assert_eq!(filter(query).source, None, "{query}");
        }
        assert_eq!(filter("sink=a%2Bb").sink.as_deref(), Some("a+b"));
    }
}
