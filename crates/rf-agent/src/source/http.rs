//! `http`: every request to a port becomes an event.
//!
//! Promise: `200 Request received` is answered only after the event is durable in every sink's queue. When it is not, the
//! client is told (413, 503 with `Retry-After`) and keeps its request.

mod config;

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, GetAll, HeaderName, RETRY_AFTER, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use rf_core::clock::unix_us;
use rf_core::event::{BodyNotes, CapturedRequest, encode_exchange};
use rf_net::address::Place;
use rf_net::body::{BodyError, read_held};
use rf_net::memory::BodyMemory;
use rf_net::per_core::serve_per_core;
use rf_net::received::ReceivedBody;
use rf_net::serve::{ServeReport, ServerLimits};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::config::HttpSourceConfig;
pub(super) use self::config::{
    build, default_idle_timeout, default_max_connections, default_request_timeout, header_names,
    schema,
};
use super::claimed_port::ClaimedPort;
use super::{HoldsUp, Listening, Source, SourceError};
use crate::pipeline::{Batch, Output, Rejected};
use crate::redact::{BodyForm, Redacted, Redactor};

/// What the original answers.
const RECEIVED: &str = "Request received";
const BUSY: &str = "Server busy, try again later";
pub(super) const OTHER_CODING: &str = "The request has a transfer coding besides chunked\n";
/// Told to a client whose request was refused for now.
const RETRY_AFTER_SECS: &str = "1";

struct HttpSource {
    id: String,
    config: HttpSourceConfig,
    port: ClaimedPort,
    drop_headers: Vec<HeaderName>,
    redactor: Option<Redactor>,
}

impl Source for HttpSource {
    fn holds_up(&self) -> HoldsUp {
        HoldsUp::ClientsUntilStored
    }

    fn places(&self) -> Vec<Place> {
        self.port.places()
    }

    fn start(&mut self) -> Result<Vec<Listening>, SourceError> {
        self.port.claim(&self.id)
    }

    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let limits = ServerLimits {
                max_connections: self.port.share(self.config.max_connections),
                header_timeout: self.config.request_timeout.into(),
                idle_timeout: self.config.idle_timeout.into(),
                ..ServerLimits::default()
            };
            let capture = Arc::new(Capture {
                id: self.id,
                out,
                max_body: self.config.max_body_bytes.as_usize(),
                body_memory: BodyMemory::new(
                    self.config.body_memory_bytes.as_usize(),
                    self.config.max_body_bytes.as_usize(),
                ),
                body_timeout: self.config.request_timeout.into(),
                drop_headers: self.drop_headers,
                redactor: self.redactor,
            });
            let serving = Arc::clone(&capture);
            let service_for = move |peer| {
                let capture = Arc::clone(&serving);
                service_fn(move |request| {
                    let capture = Arc::clone(&capture);
                    async move { Ok::<_, Infallible>(capture.answer(peer, request).await) }
                })
            };
            let listeners = self.port.into_listeners();
            let served = serve_per_core(listeners, service_for, limits, stop).await;
            let reports = served.map_err(|error| SourceError {
                id: capture.id.clone(),
                reason: error.to_string(),
            })?;
            let ServeReport { accepted, accept_errors, panics, cut } = reports.into_iter().sum();
            tracing::debug!(
                source = capture.id,
                accepted,
                accept_errors,
                panics,
                cut,
                "http source closed"
            );
            Ok(())
        })
    }
}

struct Capture {
    id: String,
    out: Output,
    max_body: usize,
    body_memory: BodyMemory,
    body_timeout: Duration,
    drop_headers: Vec<HeaderName>,
    redactor: Option<Redactor>,
}

impl Capture {
    async fn answer(
        &self,
        peer: SocketAddr,
        request: Request<ReceivedBody>,
    ) -> Response<Full<Bytes>> {
        let captured_at_us = unix_us();
        let (head, body) = request.into_parts();
        // To be replayed it would need a tunnel, and nobody at its end.
        if head.method == Method::CONNECT {
            return refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "CONNECT is not supported: this is not a forward proxy\n",
            );
        }
        if !is_only_framed(&head.headers) {
            return refuse(StatusCode::NOT_IMPLEMENTED, OTHER_CODING);
        }
        let read = read_held(body, self.max_body, self.body_timeout, &self.body_memory).await;
        // Its memory is held until the event is stored.
        let (body, _held) = match read {
            Ok(read) => read,
            Err(error) => return self.refuse_body(&error),
        };
        self.store(self.event(peer, captured_at_us, &head, &body).into()).await
    }

    fn refuse_body(&self, error: &BodyError) -> Response<Full<Bytes>> {
        match error {
            BodyError::TooLarge { limit } => {
                tracing::warn!(
                    source = self.id,
                    limit,
                    "request refused: the body is larger than the limit"
                );
                let text = format!("The body is larger than {limit} bytes\n");
                refuse(StatusCode::PAYLOAD_TOO_LARGE, text)
            }
            BodyError::Timeout => refuse(StatusCode::REQUEST_TIMEOUT, "The body came too slowly\n"),
            BodyError::NoMemory => {
                tracing::warn!(
                    source = self.id,
                    "request refused: the memory for bodies is used up, see params.bodyMemoryBytes"
                );
                later()
            }
            BodyError::Broken(_) => {
                refuse(StatusCode::BAD_REQUEST, format!("The body cannot be read: {error}\n"))
            }
        }
    }

    fn event(&self, ip: SocketAddr, captured_at_us: u64, head: &Parts, body: &[u8]) -> Vec<u8> {
        let named = nominated(&head.headers);
        let kept = |name: &HeaderName| !self.drop_headers.contains(name) && !named.contains(name);
        let headers = head
            .headers
            .iter()
            .filter(|(name, _)| kept(name))
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let id = Uuid::now_v7();
        let method = head.method.as_str();
        let Some(redactor) = &self.redactor else {
            return CapturedRequest { id, captured_at_us, ip, method, target, headers, body }
                .encode();
        };
        let content_encoding = joined(head.headers.get_all(CONTENT_ENCODING));
        let form = BodyForm {
            content_type: head.headers.get(CONTENT_TYPE).map_or(b"", HeaderValue::as_bytes),
            content_encoding: &content_encoding,
            is_cut: false,
            max_bytes: self.max_body,
        };
        let redacted = redactor.body(body, form);
        let (body, notes) = written(&redacted, body.len() as u64);
        let is_wrong = |name: &str| notes.decoded_from.is_some() && CONTENT_ENCODING == name;
        let masked: Vec<(&str, Cow<'_, [u8]>)> = headers
            .filter(|(name, _)| !is_wrong(name))
            .map(|(name, value)| (name, redactor.header(name, value)))
            .collect();
        let headers = masked.iter().map(|(name, value)| (*name, &**value));
        let target = &redactor.target(target);
        let request = CapturedRequest { id, captured_at_us, ip, method, target, headers, body };
        encode_exchange(request, notes, None)
    }

    async fn store(&self, event: Bytes) -> Response<Full<Bytes>> {
        match self.out.offer(Batch::of(vec![event])).await {
            Ok(()) => Response::new(Full::from(RECEIVED)),
            Err(rejected @ Rejected::TooLarge { .. }) => {
                tracing::warn!(source = self.id, error = %rejected, "request refused");
                refuse(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("The request is too large: {rejected}\n"),
                )
            }
            Err(rejected) => {
                tracing::warn!(source = self.id, error = %rejected, "request refused for now");
                later()
            }
        }
    }
}

fn later() -> Response<Full<Bytes>> {
    let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, BUSY);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
    response
}

fn joined(values: GetAll<'_, HeaderValue>) -> Vec<u8> {
    values.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..])
}

/// A redacted body as it is written, and what has to be said of it; `length` is its true one.
pub(super) fn written<'a>(
    redacted: &'a Redacted<'_>,
    length: u64,
) -> (&'a [u8], BodyNotes<'static>) {
    let true_length = |is_cut: bool| is_cut.then_some(length);
    match redacted {
        Redacted::Body { bytes, is_cut, decoded_from } => {
            let notes = BodyNotes {
                truncated_from: true_length(*is_cut),
                decoded_from: *decoded_from,
                omitted: None,
            };
            (bytes, notes)
        }
        Redacted::Omitted(reason) => {
            let notes = BodyNotes {
                truncated_from: true_length(true),
                decoded_from: None,
                omitted: Some(reason),
            };
            (&[], notes)
        }
    }
}

/// Whether nothing but the framing is done to a request's body. Another coding is taken off nowhere here (RFC 9112, section
/// 6.1), and its name, which is about one connection, would be: whoever gets the body could not read it.
pub(super) fn is_only_framed(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TRANSFER_ENCODING).iter();
    let mut codings = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|coding| !coding.is_empty());
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    codings.next().is_none_or(is_chunked) && codings.next().is_none()
}

/// Headers that `Connection` names are about this connection alone (RFC 9110, section 7.6.1).
pub(super) fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(str::trim);
    let names = names.filter(|name| {
        !name.eq_ignore_ascii_case("close") && !name.eq_ignore_ascii_case("keep-alive")
    });
    names.filter_map(|name| HeaderName::try_from(name).ok()).collect()
}

fn refuse(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
