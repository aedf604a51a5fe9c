//! `http` sink of a player: sends each event as the request that it was captured from.
//!
//! At least once: the same event carries the same `Idempotency-Key` however often it is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{HOST, HeaderName};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use rf_core::config::{Interval, Node, Problems, schema_of};
use rf_core::event::ReplayRequest;
use rf_net::body::read_capped;
use rf_net::client::{Client, ClientError, ClientOptions};
use rf_net::retry_after::retry_after;
use rf_queue::StoredEvent;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;

use uuid::Uuid;

use super::{RateLimits, Shape, Sink, SinkBatch, SinkContext, SinkError};
use crate::settings::{StatusPattern, at, not_zero};

/// Marks a repeat for the target (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The event's id, also for targets that give `Idempotency-Key` a meaning of their own.
pub const X_REPLAYFORGE_ID: HeaderName = HeaderName::from_static("x-replayforge-id");

/// An answer's body is read up to here, so that its connection can be used again; a longer one closes it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// About one connection (RFC 9110, section 7.6.1), or made anew for the target.
const NOT_REPLAYED: [&str; 12] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "proxy-authorization",
    "proxy-authenticate",
    "content-length",
    "host",
    "expect",
];

/// `params` of an `http` sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpSinkConfig {
    /// Scheme and authority to send to, such as `http://127.0.0.1:8080`; a path is put before the event's own.
    pub target_host: String,
    /// Requests at a time. 1 keeps the order of the events.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: usize,
    /// Send the captured `Host` instead of the target's.
    #[serde(default)]
    pub preserve_host: bool,
    /// How long one request may take.
    #[serde(default = "default_timeout")]
    pub timeout: Interval,
    /// Answers that are tried again, besides timeouts and failed connections. Every other answer counts as delivered.
    #[serde(default = "default_retry_statuses")]
    pub retry_statuses: Vec<StatusPattern>,
    /// After so many tries that reached the target an event becomes a dead letter; 0: never.
    #[serde(default = "default_max_attempts")]
    pub max_attempts: u32,
    /// An event that fails and was queued longer ago than this becomes a dead letter; 0: never.
    #[serde(default = "default_max_age")]
    pub max_age: Interval,
    /// A PEM file of authorities to trust besides the public ones.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
    /// Requests a second at the most; none: unlimited.
    #[serde(default)]
    pub max_events_per_second: Option<f64>,
}

fn one() -> usize {
    1
}

fn default_timeout() -> Interval {
    Interval::from(Duration::from_secs(30))
}

fn default_retry_statuses() -> Vec<StatusPattern> {
    vec![
        StatusPattern::one(408),
        StatusPattern::one(425),
        StatusPattern::one(429),
        StatusPattern::class(5),
    ]
}

fn default_max_attempts() -> u32 {
    20
}

fn default_max_age() -> Interval {
    Interval::from(Duration::from_secs(24 * 3600))
}

/// JSON Schema of [`HttpSinkConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<HttpSinkConfig>()
}

/// Checks the configuration and makes the sink.
pub(super) fn build(
    context: &SinkContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn Sink>> {
    let config: HttpSinkConfig = params.decode(problems)?;
    not_zero(params, &[("timeout", config.timeout)], problems);
    let target = match Target::parse(&config.target_host) {
        Ok(target) => target,
        Err(reason) => {
            problems.error(&at(params, "targetHost"), reason);
            return None;
        }
    };
    let options = ClientOptions {
        max_idle_per_host: config.concurrency.max(8),
        ca_file: config.ca_file.clone(),
        ..ClientOptions::default()
    };
    let client = match Client::new(&options) {
        Ok(client) => client,
        Err(error) => {
            problems.error(&at(params, "caFile"), error.to_string());
            return None;
        }
    };
    let max_age = Duration::from(config.max_age);
    let shape = Shape {
        max_events: 1,
        goal_bytes: 1,
        max_event_bytes: usize::MAX,
        concurrency: config.concurrency,
        stable: false,
        max_attempts: (config.max_attempts > 0).then_some(config.max_attempts),
        max_age: (!max_age.is_zero()).then_some(max_age),
        backoff: (Duration::from_millis(200), Duration::from_secs(60)),
        rate: RateLimits {
            events_per_second: config.max_events_per_second.filter(|rate| *rate > 0.0),
            ..RateLimits::default()
        },
    };
    Some(Arc::new(HttpSink {
        id: context.name.to_owned(),
        target,
        config,
        shape,
        client,
        answers: Answers::default(),
    }))
}

/// Where requests go.
#[derive(Debug, Clone)]
struct Target {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at the end.
    prefix: String,
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = "expected a scheme and a host, such as http://127.0.0.1:8080";
        let uri: Uri = text.parse().map_err(|error| format!("{wanted}: {error}"))?;
        let parts = uri.into_parts();
        let scheme = parts
            .scheme
            .filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS)
            .ok_or(wanted)?;
        let authority = parts.authority.ok_or(wanted)?;
        let path = parts.path_and_query.map(|path| path.path().trim_end_matches('/').to_owned());
        Ok(Self { scheme, authority, prefix: path.unwrap_or_default() })
    }

    fn uri(&self, target: &str) -> Result<Uri, String> {
        // The asterisk form has no URL; the root is the nearest thing that can be asked.
        let target = if target == "/*" { "/" } else { target };
        let path = format!("{}{target}", self.prefix);
        let builder = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        builder
            .path_and_query(path)
            .build()
            .map_err(|error| format!("path `{target}` cannot be sent: {error}"))
    }
}

struct HttpSink {
    id: String,
    target: Target,
    config: HttpSinkConfig,
    shape: Shape,
    client: Client,
    answers: Answers,
}

/// Answers that counted as delivered, by class: a person wants to know when a target refuses what it gets.
#[derive(Debug, Default)]
struct Answers {
    success: AtomicU64,
    redirection: AtomicU64,
    client_error: AtomicU64,
    other: AtomicU64,
}

impl Answers {
    fn count(&self, status: StatusCode) {
        let class = match status.as_u16() / 100 {
            2 => &self.success,
            3 => &self.redirection,
            4 => &self.client_error,
            _ => &self.other,
        };
        class.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for HttpSink {
    fn drop(&mut self) {
        tracing::info!(sink = self.id, answers = ?self.answers, "http sink closed");
    }
}

impl Sink for HttpSink {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            for event in &batch.events {
                self.replay(event).await?;
            }
            Ok(())
        })
    }
}

impl HttpSink {
    async fn replay(&self, event: &StoredEvent) -> Result<(), SinkError> {
        let parsed = ReplayRequest::parse(&event.content)
            .map_err(|error| SinkError::Permanent(error.to_string()))?;
        let id = parsed.id.unwrap_or_else(|| self.derived_id(event));
        let request = self.request(parsed, id).map_err(SinkError::Permanent)?;
        let response = self.client.send(request, self.config.timeout.into()).await.map_err(
            |error| match error {
                ClientError::NoTarget => SinkError::Permanent(error.to_string()),
                ClientError::Connect { .. } => SinkError::Away(error.to_string()),
                other => SinkError::Retry { reason: other.to_string(), after: None },
            },
        )?;
        self.judge(response).await
    }

    /// For content that no proxy of ours wrote. Queue ids are never used again, so the key is the same for every repeat.
    fn derived_id(&self, event: &StoredEvent) -> Uuid {
        let sink = self.id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Uuid::from_u64_pair(sink ^ event.at_ms, event.id)
    }

    fn request(&self, event: ReplayRequest, id: Uuid) -> Result<Request<Full<Bytes>>, String> {
        let method = Method::from_bytes(event.method.as_bytes())
            .map_err(|error| format!("method `{}`: {error}", event.method))?;
        let mut request = Request::new(Full::new(event.body));
        *request.uri_mut() = self.target.uri(&event.target)?;
        *request.method_mut() = method;
        let headers = request.headers_mut();
        for (name, value) in event.headers {
            let is_host = name.eq_ignore_ascii_case("host");
            if NOT_REPLAYED.iter().any(|other| name.eq_ignore_ascii_case(other))
                && !(is_host && self.config.preserve_host)
            {
                continue;
            }
            let key = HeaderName::try_from(name.as_str())
                .map_err(|error| format!("header name `{name}`: {error}"))?;
            let value = HeaderValue::from_bytes(&value)
                .map_err(|error| format!("value of header `{name}`: {error}"))?;
            // A second Host would make the request ambiguous.
            if is_host {
                headers.insert(HOST, value)
            } else {
                headers.append(key, value).then_some(HeaderValue::from_static(""))
            };
        }
        let id = HeaderValue::try_from(id.to_string()).map_err(|error| error.to_string())?;
        // A key that the client itself had sent is the better one: its own retries carry it, too.
        headers.entry(IDEMPOTENCY_KEY).or_insert_with(|| id.clone());
        headers.insert(X_REPLAYFORGE_ID, id);
        Ok(request)
    }

    async fn judge(&self, response: Response<Incoming>) -> Result<(), SinkError> {
        let status = response.status();
        let after = retry_after(response.headers(), SystemTime::now());
        // Read so that the connection can be used again; an answer that cannot be read has still been given.
        if let Err(error) =
            read_capped(response.into_body(), MAX_ANSWER_BYTES, self.config.timeout.into()).await
        {
            tracing::debug!(sink = self.id, %error, "the target's answer was not read to its end");
        }
        if !self.config.retry_statuses.iter().any(|pattern| pattern.matches(status)) {
            self.answers.count(status);
            if !status.is_success() {
                tracing::warn!(
                    sink = self.id,
                    status = status.as_u16(),
                    "the target refused a request; it counts as delivered"
                );
            }
            return Ok(());
        }
        Err(SinkError::Retry { reason: format!("the target answered {status}"), after })
    }
}
