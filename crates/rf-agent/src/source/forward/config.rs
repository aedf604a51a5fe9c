//! The keys of `params` when `forwardTo` is there, checked.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderName};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri};
use rf_core::config::{ByteSize, Interval, Node, Problems, schema_of};
use rf_net::address::Place;
use rf_net::client::{ClientOptions, url_login};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;

use super::selection::{RuleConfig, Selection};
use super::{ForwardSource, Upstream};
use crate::redact::{Defaults, RedactConfig, Redactor};
use crate::settings::{at, check_base_url, check_connections, host_name, not_zero, parse_url};
use crate::source::claimed_port::ClaimedPort;
use crate::source::defaults::all_interfaces;
use crate::source::http::{
    default_idle_timeout, default_max_connections, default_request_timeout, header_names,
};
use crate::source::{Source, SourceContext};

/// Silent connections are asked for by the kernel after this, so that a peer without power is noticed.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Unused connections that a thread keeps to the upstream.
const MAX_IDLE_CONNECTIONS: usize = 256;

/// `params` of an `http` source with `forwardTo`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ForwardConfig {
    /// Where requests are sent on to, such as `http://127.0.0.1:8080`; with this key the source is a reverse proxy that
    /// keeps a copy. A path is put before each request's own.
    pub(super) forward_to: String,
    /// Port to listen on; 0 takes any free one and logs which.
    pub(super) listen_port: u16,
    /// Address to listen on: all interfaces by default.
    #[serde(default = "all_interfaces")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub(super) listen_address: String,
    /// Connections at a time; at the limit, accepting pauses.
    #[serde(default = "default_max_connections")]
    pub(super) max_connections: NonZeroUsize,
    /// How long a request's head, and each piece of its body, may take.
    #[serde(default = "default_request_timeout")]
    pub(super) request_timeout: Interval,
    /// How long a connection may stay unused.
    #[serde(default = "default_idle_timeout")]
    pub(super) idle_timeout: Interval,
    /// How long a client may take none of the bytes of its answer; then its connection is cut. Not after an upgrade.
    #[serde(default = "default_client_timeout")]
    pub(super) client_timeout: Interval,
    /// How long dialing the upstream may take; then the client gets 504.
    #[serde(default = "default_connect_timeout")]
    pub(super) connect_timeout: Interval,
    /// How long the upstream may take from the end of a request to the head of its answer; then the client gets 504.
    #[serde(default = "default_upstream_timeout")]
    pub(super) upstream_timeout: Interval,
    /// How long an unused connection to the upstream is kept; less than the upstream keeps it.
    #[serde(default = "default_upstream_idle_timeout")]
    pub(super) upstream_idle_timeout: Interval,
    /// Send the client's `Host` to the upstream instead of the upstream's own.
    #[serde(default = "yes")]
    pub(super) preserve_host: bool,
    /// Which headers tell the upstream of the client.
    #[serde(default)]
    pub(super) forwarded_headers: ForwardedHeaders,
    /// Keep what such headers of the client say and add to it; false: take them off, whichever are added.
    #[serde(default = "yes")]
    pub(super) trust_forwarded: bool,
    /// A PEM file of authorities to trust besides the public ones, for an upstream with TLS.
    #[serde(default)]
    pub(super) ca_file: Option<PathBuf>,
    /// Keep copies; false: only forward.
    #[serde(default = "yes")]
    pub(super) capture: bool,
    /// Keep status, headers and body of the answer, and how long it took.
    #[serde(default)]
    pub(super) capture_response: bool,
    /// So much of a body is kept, of a request's and of an answer's; the rest is counted.
    #[serde(default = "default_max_capture")]
    pub(super) max_capture_bytes: ByteSize,
    /// Memory for all copies that are being made or wait for the queue; when it is full, copies are dropped and counted.
    #[serde(default = "default_capture_memory")]
    pub(super) capture_memory_bytes: ByteSize,
    /// The share of requests that is copied, from 0 to 1.
    #[serde(default = "everything")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) sample: f64,
    /// A header by whose value is chosen, so that all requests with the same value are copied or none of them.
    #[serde(default)]
    pub(super) sample_by: String,
    /// Only requests that match one of these are copied; none: all.
    #[serde(default)]
    pub(super) include: Vec<RuleConfig>,
    /// Requests that match one of these are not copied.
    #[serde(default)]
    pub(super) exclude: Vec<RuleConfig>,
    /// Headers that are left out of the copies.
    #[serde(default)]
    pub(super) drop_headers: Vec<String>,
    /// What is masked in the copies, besides the defaults.
    #[serde(default)]
    pub(super) redact: RedactConfig,
}

/// `forwardedHeaders`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum ForwardedHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// Nothing is added.
    None,
}

/// Long, since many a server waits for ever: a film that is paused, a laptop that sleeps for a moment.
fn default_client_timeout() -> Interval {
    Interval::from(Duration::from_secs(300))
}

fn default_connect_timeout() -> Interval {
    Interval::from(Duration::from_secs(5))
}

fn default_upstream_timeout() -> Interval {
    Interval::from(Duration::from_secs(60))
}

/// Under the 5 s after which common application servers close: a request must not meet a connection that just closes.
fn default_upstream_idle_timeout() -> Interval {
    Interval::from(Duration::from_secs(4))
}

fn default_max_capture() -> ByteSize {
    ByteSize::mib(1)
}

fn default_capture_memory() -> ByteSize {
    ByteSize::mib(32)
}

fn yes() -> bool {
    true
}

fn everything() -> f64 {
    1.0
}

/// JSON Schema of [`ForwardConfig`].
pub(in crate::source) fn schema() -> Schema {
    schema_of::<ForwardConfig>()
}

/// The checked file.
pub(super) struct Settings {
    pub(super) max_connections: NonZeroUsize,
    pub(super) request_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) client_timeout: Duration,
    pub(super) upstream_timeout: Duration,
    pub(super) preserve_host: bool,
    pub(super) forwarded_headers: ForwardedHeaders,
    pub(super) trust_forwarded: bool,
    pub(super) target: Target,
    pub(super) client: ClientOptions,
    /// None: nothing is copied.
    pub(super) capture: Option<Arc<CaptureSettings>>,
}

/// What is copied, and how it is written.
pub(super) struct CaptureSettings {
    pub(super) with_answer: bool,
    pub(super) max_body_bytes: usize,
    pub(super) memory_bytes: usize,
    pub(super) selection: Selection,
    pub(super) drop_headers: Vec<HeaderName>,
    /// None: nothing is masked.
    pub(super) redactor: Option<Redactor>,
}

/// Checks the configuration and makes the source.
pub(in crate::source) fn build(
    context: &SourceContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Box<dyn Source>> {
    let mut config: ForwardConfig = params.decode(problems)?;
    let before = problems.error_count();
    config.max_connections = check_connections(params, config.max_connections, problems);
    let times = [
        ("requestTimeout", config.request_timeout),
        ("idleTimeout", config.idle_timeout),
        ("clientTimeout", config.client_timeout),
        ("connectTimeout", config.connect_timeout),
        ("upstreamTimeout", config.upstream_timeout),
        ("upstreamIdleTimeout", config.upstream_idle_timeout),
    ];
    not_zero(params, &times, problems);
    let target = Target::parse(&config.forward_to)
        .map_err(|reason| problems.error(&at(params, "forwardTo"), reason))
        .ok();
    let own = Place::tcp(&config.listen_address, config.listen_port);
    if target.as_ref().is_some_and(|target| target.is_at(&own, &host_name(""))) {
        let text =
            "this is where the source itself listens: each request would come back to it endlessly";
        problems.error(&at(params, "forwardTo"), text);
    }
    let client = ClientOptions {
        connect_timeout: config.connect_timeout.into(),
        idle_timeout: config.upstream_idle_timeout.into(),
        max_idle_per_host: MAX_IDLE_CONNECTIONS,
        ca_file: config.ca_file.clone(),
        keepalive: Some(TCP_KEEPALIVE),
    };
    // Built here once to find out whether it can be.
    if let Err(error) = Upstream::new(&client, config.upstream_timeout.into()) {
        problems.error(&at(params, "caFile"), error.to_string());
    }
    let capture = check_capture(&config, params, problems);
    if problems.error_count() > before {
        return None;
    }
    let (target, capture) = (target?, capture?);
    let settings = Settings {
        max_connections: config.max_connections,
        request_timeout: config.request_timeout.into(),
        idle_timeout: config.idle_timeout.into(),
        client_timeout: config.client_timeout.into(),
        upstream_timeout: config.upstream_timeout.into(),
        preserve_host: config.preserve_host,
        forwarded_headers: config.forwarded_headers,
        trust_forwarded: config.trust_forwarded,
        target,
        client,
        capture: config.capture.then(|| Arc::new(capture)),
    };
    let port = ClaimedPort::new(config.listen_address, config.listen_port);
    Some(Box::new(ForwardSource { id: context.id.to_owned(), port, settings }))
}

pub(super) fn check_capture(
    config: &ForwardConfig,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<CaptureSettings> {
    let before = problems.error_count();
    let mut drop_headers = header_names(&config.drop_headers, params, problems);
    drop_headers.push(CONNECTION);
    let selection = Selection::build(config, params, problems);
    let redactor = config.redact.build(Defaults::On, &at(params, "redact"), problems);
    if problems.error_count() > before {
        return None;
    }
    Some(CaptureSettings {
        with_answer: config.capture_response,
        max_body_bytes: config.max_capture_bytes.as_usize(),
        memory_bytes: config.capture_memory_bytes.as_usize(),
        selection: selection?,
        drop_headers,
        redactor,
    })
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at the end.
    prefix: String,
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = "expected a scheme and a host, such as http://127.0.0.1:8080";
        let uri = parse_url(text, wanted)?;
        if url_login(&uri).is_some() {
            return Err("expected a URL without name and password: requests are sent on with the headers that they come with".to_owned());
        }
        check_base_url(&uri, text)?;
        let parts = uri.into_parts();
        let scheme = parts
            .scheme
            .filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS)
            .ok_or(wanted)?;
        let authority = parts.authority.ok_or(wanted)?;
        let path = parts.path_and_query.map(|path| path.path().trim_end_matches('/').to_owned());
        Ok(Self { scheme, authority, prefix: path.unwrap_or_default() })
    }

    /// The URL at the upstream for the target of a request; `None` when it cannot be one.
    pub(super) fn uri<B>(&self, request: &Request<B>) -> Option<Uri> {
        let path = match request.uri().path_and_query() {
            // `OPTIONS *` is about the server, whatever the path before it.
            Some(path) if self.prefix.is_empty() || path == "*" => path.clone(),
            Some(path) => PathAndQuery::try_from(format!("{}{path}", self.prefix)).ok()?,
            None => PathAndQuery::from_static("/"),
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).ok()
    }

    /// Host and port, for messages.
    pub(super) fn name(&self) -> &str {
        self.authority.as_str()
    }

    /// Whether requests would go to a listener of this machine, which is called `machine`.
    fn is_at(&self, listener: &Place, machine: &str) -> bool {
        let usual = if self.scheme == Scheme::HTTPS { 443 } else { 80 };
        let port = self.authority.port_u16().unwrap_or(usual);
        let host = self.authority.host();
        let host = if host.eq_ignore_ascii_case(machine) { "localhost" } else { host };
        listener.is_reached(host, port)
    }
}

/// The client's address as the upstream is told it.
pub(super) fn client_ip(peer: SocketAddr) -> String {
    peer.ip().to_canonical().to_string()
}
