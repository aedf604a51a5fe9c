//! `http` sink of a proxy: ships batches to a relay, or to any HTTP API that takes a JSON array of strings.
//!
//! Never gives up: a relay that is away, full or refuses the token only delays. `RF-BATCH-ID` names each batch, and the
//! worker repeats a batch with the same id and the same events, also after a restart: the relay stores it once.

#[cfg(test)]
pub(super) mod contract;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName,
    PROXY_AUTHORIZATION,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use rf_core::config::Secret;
use rf_core::node_info::Wiring;
use rf_core::protocol::{RF_BATCH_ID, RF_BUCKETS, RF_ENV_NAME, RF_HOSTNAME, encode_batch};
use rf_net::body::read_capped;
use rf_net::client::{Client, ClientError};
use rf_net::encoding::{Coding, encode};
use rf_net::mask::{Mask, shown};
use rf_net::retry_after::retry_after;
use rf_script::Request as Steer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::http::{IDEMPOTENCY_KEY, is_of_connection};
use super::{Shape, Sink, SinkBatch, SinkError, SinkHost, SinkStartError, Traffic};
use crate::relay_client::{is_refusal, origin};
use crate::script::batch::{BatchScript, Posted, TransformError};

/// The URL that prints batches instead of sending them.
pub(crate) const STDOUT_URL: &str = ":dbg>stdout:";
/// Where a relay takes batches, behind its URL.
pub(crate) const RECORD_BATCH: &str = "record-batch";

/// Smaller bodies are not worth compressing.
const MIN_COMPRESSED_BYTES: usize = 1024;
/// As much of a refusal's text is shown.
const MAX_REFUSAL_BYTES: usize = 16 * 1024;
const SHOWN_REFUSAL_CHARS: usize = 200;
/// How answers of web servers (nginx, and those in Go) begin where TLS, or the certificate of the client, is missing. They have
/// status 400, and blame no event.
const TLS_IS_MISSING: [&str; 4] = [
    "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port",
    "<html>\r\n<head><title>400 No required SSL certificate was sent",
    "<html>\r\n<head><title>400 The SSL certificate error",
    "Client sent an HTTP request to an HTTPS server.",
];

/// Where and how batches are sent.
pub(crate) struct RelaySink {
    uri: Uri,
    /// The parts of a request that are the same for each batch.
    headers: HeaderMap,
    timeout: Duration,
    shape: Shape,
    client: Client,
    /// Set once an answer has named zstd: an original relay could not read a compressed batch.
    takes_zstd: AtomicBool,
    is_relay: bool,
    buckets: Vec<String>,
    script: Option<BatchScript>,
    traffic: Arc<Traffic>,
}

/// What a relay sink is made of, besides its shape.
pub(crate) struct RelayTarget<'a> {
    pub(crate) uri: Uri,
    pub(crate) is_relay: bool,
    pub(crate) token: &'a Secret,
    pub(crate) buckets: &'a [String],
    pub(crate) env_name: &'a str,
    pub(crate) host_name: &'a str,
    pub(crate) timeout: Duration,
}

impl RelaySink {
    /// Makes the sink; the error is the key whose value cannot be a header.
    pub(crate) fn new(
        target: &RelayTarget<'_>,
        shape: Shape,
        client: Client,
    ) -> Result<Self, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut put = |name: &'static str, key: &'static str, text: String| {
            let mut value = HeaderValue::try_from(text).map_err(|_bad| key)?;
            value.set_sensitive(name == AUTHORIZATION.as_str());
            headers.insert(HeaderName::from_static(name), value);
            Ok::<(), &'static str>(())
        };
        if !target.token.is_empty() {
            put("authorization", "authBearer", format!("Bearer {}", target.token.expose()))?;
        }
        if target.is_relay || !target.buckets.is_empty() {
            put(RF_BUCKETS, "buckets", target.buckets.join(","))?;
        }
        if !target.env_name.is_empty() {
            put(RF_ENV_NAME, "envName", target.env_name.to_owned())?;
        }
        put(RF_HOSTNAME, "hostName", target.host_name.to_owned())?;
        Ok(Self {
            uri: target.uri.clone(),
            headers,
            timeout: target.timeout,
            shape,
            client,
            takes_zstd: AtomicBool::new(false),
            is_relay: target.is_relay,
            buckets: target.buckets.to_vec(),
            script: None,
            traffic: Arc::default(),
        })
    }

    /// The same, with a script that has a say in what is posted where.
    pub(crate) fn with_script(mut self, script: Option<BatchScript>) -> Self {
        self.script = script;
        self
    }

    async fn transform_and_post(&self, batch: &SinkBatch) -> Result<(), SinkError> {
        let Some(script) = &self.script else {
            let contents = batch.events.iter().map(|event| &event.content[..]);
            return self.post(&batch.id, encode_batch(contents).into(), &Steer::default()).await;
        };
        let messages = batch.events.iter().map(|event| event.content.clone()).collect();
        match script.transform(messages, self.is_relay).await {
            Ok(Posted::Nothing { reason, failed }) => Err(SinkError::Dropped { reason, failed }),
            Ok(Posted::Messages(messages, steer)) => {
                let body = encode_batch(messages.iter().map(|message| &message[..]));
                self.post(&batch.id, body.into(), &steer).await
            }
            Err(TransformError::Script(reason)) => Err(SinkError::Permanent(reason)),
            Err(TransformError::Store(reason)) => Err(SinkError::Retry { reason, after: None }),
        }
    }

    async fn post(&self, batch_id: &str, body: Bytes, steer: &Steer) -> Result<(), SinkError> {
        let compress =
            self.takes_zstd.load(Ordering::Relaxed) && body.len() >= MIN_COMPRESSED_BYTES;
        let body = if compress { encode(Coding::Zstd, &body) } else { body };
        let sent = body.len() as u64;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        self.steer(&mut request, steer).map_err(SinkError::Permanent)?;
        let id = HeaderValue::try_from(batch_id)
            .map_err(|error| SinkError::Permanent(error.to_string()))?;
        let id_name =
            if self.is_relay { HeaderName::from_static(RF_BATCH_ID) } else { IDEMPOTENCY_KEY };
        request.headers_mut().insert(id_name, id);
        if compress {
            request.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"));
        }
        let mask = Mask::of(request.uri(), request.headers());
        let url = shown(request.uri());
        match self.client.send(request, self.timeout).await {
            Ok(response) => {
                self.traffic.sent.fetch_add(sent, Ordering::Relaxed);
                self.judge(response, &url, &mask).await
            }
            Err(error @ ClientError::NoTarget) => Err(SinkError::Permanent(error.to_string())),
            Err(error @ ClientError::Connect { .. }) => Err(SinkError::Away(error.to_string())),
            Err(error) => Err(SinkError::Retry { reason: error.to_string(), after: None }),
        }
    }

    /// What a script says about the request: its path goes behind the URL's, its headers take the place of ours. Those of the
    /// connection are left out, as by Go's client for the original: a script may copy all headers of an event, and with those
    /// that frame the body the other end could read less than the batch, and accept it.
    fn steer(&self, request: &mut Request<Full<Bytes>>, steer: &Steer) -> Result<(), String> {
        if !steer.path.is_empty() {
            *request.uri_mut() = self.steered(&steer.path).parse().map_err(|error| {
                let path = steer.path.split('?').next().unwrap_or_default();
                format!("request.path `{path}`: {error}")
            })?;
        }
        for (name, value) in &steer.headers {
            let key = HeaderName::try_from(name)
                .map_err(|_bad| format!("request.headers: `{name}` is not a header name"))?;
            let is_ours = [HOST, CONTENT_ENCODING].contains(&key);
            if is_ours || (is_of_connection(&key) && key != PROXY_AUTHORIZATION) {
                let url = shown(&self.uri);
                tracing::warn!(url, header = %key, "a header that a script has set is not sent: it belongs to the connection");
                continue;
            }
            let mut value = HeaderValue::try_from(value)
                .map_err(|_bad| format!("request.headers: the value of `{name}` cannot be sent"))?;
            // A script may have a token of its own.
            value.set_sensitive(true);
            request.headers_mut().insert(key, value);
        }
        Ok(())
    }

    /// The URL of the file with a script's path behind it, which takes the place of the one that is added for a relay.
    fn steered(&self, path: &str) -> String {
        let full = self.uri.to_string();
        let own = full.strip_suffix(RECORD_BATCH);
        let own = own.filter(|_| self.is_relay && !path.starts_with('?'));
        joined(own.unwrap_or(&full), path)
    }

    /// What an answer means. Its words end in logs and dead letters, so they go through the `mask`, and `url` has been shown.
    async fn judge(
        &self,
        response: Response<Incoming>,
        url: &str,
        mask: &Mask,
    ) -> Result<(), SinkError> {
        let status = response.status();
        let after = retry_after(response.headers(), SystemTime::now());
        let names_zstd = response
            .headers()
            .get_all(ACCEPT_ENCODING)
            .iter()
            .any(|value| value.as_bytes().windows(4).any(|w| w == b"zstd"));
        if names_zstd || !may_be_of_a_gateway(status) {
            self.takes_zstd.store(names_zstd, Ordering::Relaxed);
        }
        let body = read_capped(response.into_body(), MAX_REFUSAL_BYTES, self.timeout).await;
        let received = body.as_ref().map_or(0, Bytes::len);
        self.traffic.received.fetch_add(received as u64, Ordering::Relaxed);
        // A relay of the original says nothing more; whoever else says yes has not stored them.
        let is_taken = !self.is_relay || names_zstd || body.as_ref().is_ok_and(Bytes::is_empty);
        if status.is_success() && is_taken {
            return Ok(());
        }
        let body = body.unwrap_or_default();
        let text = mask.text(String::from_utf8_lossy(&body).trim());
        let text: String = text.chars().take(SHOWN_REFUSAL_CHARS).collect();
        let reason = format!("{url} answered {status}: {text}");
        let by = if wants_tls(&body) {
            Refuser::WantsTls
        } else if !self.is_relay || (names_zstd && is_refusal(&body)) {
            Refuser::Target
        } else {
            Refuser::Other
        };
        Err(refused(status, by, reason, after))
    }
}

/// Who has refused a batch. A relay's refusals are JSON, and like all its answers they name the codings that it reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refuser {
    /// The relay or API itself.
    Target,
    /// A web server that is spoken to without TLS, or without a certificate.
    WantsTls,
    /// Something that is not known as a relay: what stands before it, or a relay of the original, which refuses no events.
    Other,
}

/// What a refusal means for the events, or a yes that is no relay's. Only the target's own refusal can blame one of them.
fn refused(status: StatusCode, by: Refuser, reason: String, after: Option<Duration>) -> SinkError {
    let hint = match by {
        Refuser::Target => "",
        Refuser::WantsTls => " (is it https:// instead of http://, or is a certificate missing?)",
        Refuser::Other => " (not in the form of a relay: does something in front of it refuse?)",
    };
    match status {
        // What is wrong with the batch itself: the worker finds the event that is to blame.
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY
            if by == Refuser::Target =>
        {
            SinkError::Permanent(reason)
        }
        StatusCode::PAYLOAD_TOO_LARGE => SinkError::TooLarge(format!("{reason}{hint}")),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            SinkError::Paused(format!("{reason}{hint}"))
        }
        _ if status.is_success() => {
            let hint = "not in the form of a relay: is the url that of its `port`? For an API set notRelay";
            SinkError::Paused(format!("{reason} ({hint})"))
        }
        // 415: a relay that cannot read zstd any more, after a downgrade; the next try is plain.
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::UNSUPPORTED_MEDIA_TYPE => SinkError::Retry { reason, after },
        // Wrong token, wrong URL, or not what we talk to: no event is to blame, a person must act.
        _ if status.is_client_error() || status.is_redirection() => SinkError::Paused(reason),
        _ => SinkError::Retry { reason, after },
    }
}

/// Whether something before the relay may have answered, without asking it: that says nothing of what the relay reads. A repeat
/// that is not compressed any more may be too large there, while the relay has the batch.
fn may_be_of_a_gateway(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

fn wants_tls(body: &[u8]) -> bool {
    TLS_IS_MISSING.iter().any(|words| body.starts_with(words.as_bytes()))
}

impl Sink for RelaySink {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.transform_and_post(batch))
    }

    fn wired_to(&self) -> Option<Wiring> {
        let buckets = self.buckets.clone();
        self.is_relay.then(|| Wiring { relay: origin(&self.uri), buckets })
    }

    fn target(&self) -> String {
        origin(&self.uri)
    }

    fn url(&self) -> String {
        let mut url = shown(&self.uri);
        if self.is_relay && url.ends_with(RECORD_BATCH) {
            url.truncate(url.len() - RECORD_BATCH.len());
        }
        url
    }

    fn traffic(&self) -> Option<Arc<Traffic>> {
        Some(Arc::clone(&self.traffic))
    }

    fn start<'a>(&'a self, host: &'a SinkHost) -> BoxFuture<'a, Result<(), SinkStartError>> {
        Box::pin(async move {
            let Some(script) = &self.script else { return Ok(()) };
            script.start(host.store.clone()).await.map_err(|reason| SinkStartError {
                name: script.sink().to_owned(),
                reason: format!("script: {reason}"),
            })
        })
    }

    fn reload_on(&self, asked: watch::Receiver<u64>) {
        if let Some(script) = &self.script {
            script.reload_on(asked);
        }
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Some(script) = &self.script {
                script.reload(stop).await;
            }
        })
    }
}

/// A URL and what goes behind it, with one slash between them.
fn joined(url: &str, path: &str) -> String {
    if path.starts_with('?') {
        return format!("{url}{path}");
    }
    let url = url.strip_suffix('/').unwrap_or(url);
    let path = path.strip_prefix('/').unwrap_or(path);
    format!("{url}/{path}")
}

/// Prints events, one a line: the original's `:dbg>stdout:`.
pub(crate) struct StdoutSink {
    pub(crate) shape: Shape,
}

impl Sink for StdoutSink {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn url(&self) -> String {
        STDOUT_URL.to_owned()
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let lines = batch
                .events
                .iter()
                .flat_map(|event| [&event.content[..], b"\n"])
                .collect::<Vec<_>>()
                .concat();
            let printed = tokio::task::spawn_blocking(move || {
                use std::io::Write;
                let mut out = std::io::stdout().lock();
                out.write_all(&lines).and_then(|()| out.flush())
            });
            match printed.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(SinkError::Retry {
                    reason: format!("standard output: {error}"),
                    after: None,
                }),
                Err(error) => Err(SinkError::Retry { reason: error.to_string(), after: None }),
            }
        })
    }
}
