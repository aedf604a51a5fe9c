//! `http` sink of a player: sends each event as the request that it was captured from.
//!
//! At least once: the same event carries the same `Idempotency-Key` however often it is sent, and to whichever host.

#[cfg(test)]
pub(super) mod contract;
mod request;
mod targets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use http::header::HeaderName;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use rf_core::config::{Interval, Node, Problems, Secret, schema_of};
use rf_core::event::ReplayRequest;
use rf_net::body::read_capped;
use rf_net::client::{Client, ClientError, ClientOptions};
use rf_net::retry_after::retry_after;
use rf_queue::StoredEvent;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use uuid::Uuid;

use self::request::Changes;
pub(super) use self::request::is_of_connection;
use self::targets::{Target, Targets};
use super::{RateLimits, Shape, Sink, SinkBatch, SinkContext, SinkError, singles};
use crate::settings::{StatusPattern, at, not_zero};

/// Marks a repeat for the target (draft-ietf-httpapi-idempotency-key-header).
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The event's id, also for targets that give `Idempotency-Key` a meaning of their own.
pub(crate) const X_REPLAYFORGE_ID: HeaderName = HeaderName::from_static("x-replayforge-id");

/// An answer's body is read up to here, so that its connection can be used again; a longer one closes it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Hosts of one sink at the most.
const MAX_TARGETS: usize = 32;

/// `params` of an `http` sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpSinkConfig {
    /// Scheme and authority to send to, such as `http://127.0.0.1:8080`; a path is put before the event's own.
    #[serde(default)]
    pub(crate) target_host: String,
    /// Several of them instead: the first that is well gets each request.
    #[serde(default)]
    pub(crate) target_hosts: Vec<String>,
    /// Headers that are set, with fields of the event such as `{header.X-Tenant}`; an empty value takes a header away.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Method instead of the event's; empty: the event's.
    #[serde(default)]
    pub(crate) method: String,
    /// Changes of the path: the first one whose pattern fits is made.
    #[serde(default)]
    pub(crate) rewrite_path: Vec<RewriteConfig>,
    /// Sent as `Authorization: Basic` instead of the event's.
    #[serde(default)]
    pub(crate) basic_auth: Option<BasicAuthConfig>,
    /// Sent as `Authorization: Bearer` instead of the event's.
    #[serde(default)]
    pub(crate) bearer_token: Secret,
    /// Requests at a time. 1 keeps the order of the events.
    #[serde(default = "singles::one")]
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) concurrency: usize,
    /// Send the captured `Host` instead of the target's.
    #[serde(default)]
    pub(crate) preserve_host: bool,
    /// How long one request may take.
    #[serde(default = "singles::default_timeout")]
    pub(crate) timeout: Interval,
    /// Answers that are tried again, besides timeouts and failed connections. Every other answer counts as delivered.
    #[serde(default = "default_retry_statuses")]
    pub(crate) retry_statuses: Vec<StatusPattern>,
    /// After so many tries that reached the target an event becomes a dead letter; 0: never.
    #[serde(default = "singles::default_max_attempts")]
    pub(crate) max_attempts: u32,
    /// An event that fails and was queued longer ago than this becomes a dead letter; 0: never.
    #[serde(default = "singles::default_max_age")]
    pub(crate) max_age: Interval,
    /// A PEM file of authorities to trust besides the public ones.
    #[serde(default)]
    pub(crate) ca_file: Option<std::path::PathBuf>,
    /// Requests a second at the most; none: unlimited.
    #[serde(default)]
    pub(crate) max_events_per_second: Option<f64>,
}

/// A change of the path.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RewriteConfig {
    /// A regular expression, looked for in the path without its query.
    pub(crate) from: String,
    /// What stands instead of what it found, with `$1` or `${name}` for its groups.
    pub(crate) to: String,
}

/// A name and a password.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BasicAuthConfig {
    /// The name.
    pub(crate) username: String,
    /// The password.
    pub(crate) password: Secret,
}

fn default_retry_statuses() -> Vec<StatusPattern> {
    vec![
        StatusPattern::one(408),
        StatusPattern::one(425),
        StatusPattern::one(429),
        StatusPattern::class(5),
    ]
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
    let targets = check_targets(&config, params, problems);
    let changes = Changes::check(&config, params, problems);
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
    let shape = Shape {
        rate: RateLimits {
            events_per_second: config.max_events_per_second.filter(|rate| *rate > 0.0),
            ..RateLimits::default()
        },
        ..singles::shape(config.concurrency, config.max_attempts, config.max_age)
    };
    Some(Arc::new(HttpSink {
        id: context.name.to_owned(),
        targets: targets?,
        changes: changes?,
        config,
        shape,
        client,
        answers: Answers::default(),
    }))
}

fn check_targets(
    config: &HttpSinkConfig,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Targets> {
    let hosts = if config.target_hosts.is_empty() {
        vec![(&config.target_host, at(params, "targetHost"))]
    } else {
        if !config.target_host.is_empty() {
            problems.error(&at(params, "targetHost"), "expected either targetHost or targetHosts");
            return None;
        }
        if config.target_hosts.len() > MAX_TARGETS {
            problems
                .error(&at(params, "targetHosts"), format!("expected at most {MAX_TARGETS} hosts"));
            return None;
        }
        config.target_hosts.iter().zip(at(params, "targetHosts").items()).collect()
    };
    let mut targets = Vec::new();
    for (host, node) in hosts {
        match Target::parse(host) {
            Ok(target) => targets.push(target),
            Err(_) if host.is_empty() => {
                problems.error(&node, "targetHost is missing: expected a scheme and a host, such as http://127.0.0.1:8080");
                return None;
            }
            Err(reason) => {
                problems.error(&node, reason);
                return None;
            }
        }
    }
    Some(Targets::new(targets))
}

struct HttpSink {
    id: String,
    targets: Targets,
    changes: Changes,
    config: HttpSinkConfig,
    shape: Shape,
    client: Client,
    answers: Answers,
}

/// Answers that counted as delivered, by class: a person wants to know when a target refuses what it gets.
#[derive(Default)]
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
        let count = |class: &AtomicU64| class.load(Ordering::Relaxed);
        tracing::info!(
            sink = self.id,
            success = count(&self.answers.success),
            redirection = count(&self.answers.redirection),
            client_error = count(&self.answers.client_error),
            other = count(&self.answers.other),
            "http sink closed"
        );
    }
}

impl Sink for HttpSink {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            for event in batch.events.iter() {
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
        let mut away = None;
        for (index, target) in self.targets.in_turn() {
            let request = self
                .changes
                .request(&parsed, &event.content, id, target)
                .map_err(SinkError::Permanent)?;
            let error = match self.client.send(request, self.config.timeout.into()).await {
                Ok(response) => return self.judge(index, response).await,
                Err(error) => error,
            };
            self.targets.note(index, false);
            let reason = error.to_string();
            match error {
                ClientError::NoTarget => return Err(SinkError::Permanent(reason)),
                // Certainly not sent, so the next host may get it at once.
                ClientError::Connect { .. } => away = Some(SinkError::Away(reason)),
                _ => return Err(SinkError::Retry { reason, after: None }),
            }
        }
        Err(away.unwrap_or_else(|| SinkError::Away("there is no host".to_owned())))
    }

    /// For content that no proxy of ours wrote. Queue ids are never used again, so the key is the same for every repeat.
    fn derived_id(&self, event: &StoredEvent) -> Uuid {
        let sink = self.id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Uuid::from_u64_pair(sink ^ event.at_ms, event.id)
    }

    async fn judge(&self, index: usize, response: Response<Incoming>) -> Result<(), SinkError> {
        let status = response.status();
        let after = retry_after(response.headers(), SystemTime::now());
        // Read so that the connection can be used again; an answer that cannot be read has still been given.
        if let Err(error) =
            read_capped(response.into_body(), MAX_ANSWER_BYTES, self.config.timeout.into()).await
        {
            tracing::debug!(sink = self.id, %error, "the target's answer was not read to its end");
        }
        // A server that says of itself that it cannot serve; the next try goes to another one, if there is one.
        self.targets.note(index, !matches!(status.as_u16(), 502..=504));
        if !self.config.retry_statuses.iter().any(|pattern| pattern.matches(status)) {
            self.answers.count(status);
            if !status.is_success() {
                tracing::warn!(
                    sink = self.id,
                    status = status.as_u16(),
                    "the target did not answer with 2xx; the request counts as delivered"
                );
            }
            return Ok(());
        }
        let after = after.filter(|_| self.targets.is_only_one() || status.as_u16() == 429);
        Err(SinkError::Retry { reason: format!("the target answered {status}"), after })
    }
}
