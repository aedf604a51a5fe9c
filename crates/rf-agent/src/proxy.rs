//! The configuration file of a proxy: the original's keys, and ours beside them. The keys stand in `file`; here they are
//! checked, and become a plan.

mod file;
#[cfg(test)]
mod tests;

pub use self::file::{BatchConfig, ProxyFile, ProxySinkFile, ProxySinkKind, ProxySourceFile};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rf_core::config::{
    ByteSize, Document, Node, Problems, Secret, at_most, check_folder, did_you_mean,
};
use rf_core::node_info::Role;
use rf_core::protocol::MAX_NAMES;
use rf_core::trace::MAX_STEPS;
use rf_net::address::Place;
use rf_net::client::{Client, ClientOptions};
use rf_queue::{Import, StoreOptions};

use crate::agent::{Plan, PlannedSink, PlannedSource};
use crate::relay_client::{BucketKey, RelayClient};
use crate::script::batch::BatchScript;
use crate::script::config::Hook;
use crate::settings::{
    Listening, RouteKeys, at, check_buffer, check_ids, check_listening, check_named,
    check_node_info_every, check_relay_url, check_token, host_name, listens, no_effect_yet,
    no_tailnet, parse_url, reached, store_options,
};
use crate::sink::relay::{RECORD_BATCH, RelaySink, RelayTarget, STDOUT_URL, StdoutSink};
use crate::sink::{Batching, EventLimit, Overlap, RateLimits, Shape, Sink, Writes};
use crate::source::{SOURCES, SourceContext};
use crate::stats::{DEFAULT_STATUS_PORT, StatsPlan, ToldRelay};

/// The store's file in `dataDir`.
const STORE_FILE: &str = "proxy.sqlite3";
/// Sends a minute where the file says nothing, as the original.
const DEFAULT_SENDS_PER_MINUTE: i64 = 600;
/// What the original has for all sinks: many an API has a limit of requests, or a price for each. A relay has events at once.
const DEFAULT_LINGER_AT_AN_API: Duration = Duration::from_secs(5);
const DEFAULT_BUFFER_BYTES: u64 = 10 * 1024 * 1024;
/// Pauses between failed sends, as the original.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(300));
/// A batch may take so long to be answered.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Checks a proxy's file. Every problem is reported; `None` when there is an error.
pub fn check(document: &Document, problems: &mut Problems) -> Option<Plan> {
    let root = document.root();
    let mut file: ProxyFile = root.decode(problems)?;
    check_folder(&at(&root, "dataDir"), &file.data_dir, problems);
    file.trace_steps = at_most(&at(&root, "traceSteps"), file.trace_steps, MAX_STEPS, problems);
    no_effect_yet(&root, &["enablePprof"], problems);
    check_node_info_every(&root, file.node_info_every, problems);
    no_tailnet(&root, "tsnetHostname", !file.tsnet_hostname.is_empty(), problems);
    let source_nodes = root.get("sources").map(|node| node.items()).unwrap_or_default();
    let sink_nodes = root.get("sinks").map(|node| node.items()).unwrap_or_default();
    check_ids(&source_nodes, "id", problems);
    check_ids(&sink_nodes, "id", problems);
    if file.sources.is_empty() {
        problems.warn(&root, "no sources: nothing is captured");
    } else if file.sources.iter().all(|source| source.transform_script.is_empty()) {
        let named: Vec<&str> =
            file.sources.iter().map(|source| source.target_sink.as_str()).collect();
        check_named(&sink_nodes, "id", &named, &[], problems);
    }
    let host = host_name(&file.host_name);
    let sinks: Vec<Option<PlannedSink>> = file
        .sinks
        .iter()
        .zip(&sink_nodes)
        .map(|(sink, node)| check_sink(&file, sink, &host, node, problems))
        .collect();
    let sources: Vec<Option<PlannedSource>> = file
        .sources
        .iter()
        .zip(&source_nodes)
        .map(|(source, node)| check_source(&file, source, node, problems))
        .collect();
    let listening = listening(&file, &root, &sources, &source_nodes);
    check_listening(&listening, problems);
    check_urls(&file, &sink_nodes, &sources, &listening, problems);
    let sinks = sinks.into_iter().collect::<Option<Vec<_>>>()?;
    let sources = sources.into_iter().collect::<Option<Vec<_>>>()?;
    if problems.has_errors() {
        return None;
    }
    let store = store_of(&file, &sinks, &sources);
    let stats = stats(&file, &host);
    Some(Plan { store, sources, sinks, server: None, stats })
}

/// All that listens.
fn listening<'a>(
    file: &ProxyFile,
    root: &Node<'a>,
    sources: &[Option<PlannedSource>],
    nodes: &[Node<'a>],
) -> Vec<Listening<'a>> {
    let of_source = |(source, node): (&Option<PlannedSource>, &Node<'a>)| {
        let source = source.as_ref()?;
        let (name, params) = (source_name(&source.id), at(node, "params"));
        let keys = ("listenPort", "listenAddress");
        Some(listens(name, source.source.places(), &params, keys))
    };
    let mut all: Vec<Listening<'a>> = sources.iter().zip(nodes).filter_map(of_source).collect();
    all.extend(status_port(file).map(|port| {
        let place = Place::tcp(&file.status_address, port);
        listens("the status page", vec![place], root, ("portStatusZ", "statusAddress"))
    }));
    all
}

/// Reports sinks that send to the proxy itself: no relay is there, and what a source takes comes back to its sink, again and
/// again.
fn check_urls(
    file: &ProxyFile,
    nodes: &[Node<'_>],
    sources: &[Option<PlannedSource>],
    listening: &[Listening<'_>],
    problems: &mut Problems,
) {
    for (sink, node) in file.sinks.iter().zip(nodes) {
        let Some(part) = reached(listening, &sink.url) else { continue };
        let feeds_it = |source: &PlannedSource| {
            part.name == source_name(&source.id) && source.routes.contains(&sink.id)
        };
        if !sink.not_relay || sources.iter().flatten().any(feeds_it) {
            let text = format!("this leads back to the proxy itself: {} listens there", part.name);
            problems.error(&at(node, "url"), text);
        }
    }
}

fn source_name(id: &str) -> String {
    format!("source `{id}`")
}

fn status_port(file: &ProxyFile) -> Option<u16> {
    let port = file.port_status_z.filter(|port| *port > 0);
    port.or(file.enable_status_z.then_some(DEFAULT_STATUS_PORT))
}

/// What the proxy tells of itself, and whom: each relay that it ships to, once for each token.
fn stats(file: &ProxyFile, host: &str) -> StatsPlan {
    let port = status_port(file);
    let mut seen: Vec<(&str, &Secret)> = Vec::new();
    let mut relays = Vec::new();
    for sink in file.sinks.iter().filter(|sink| !sink.not_relay && sink.url != STDOUT_URL) {
        let is_known = seen
            .iter()
            .any(|(url, token)| *url == sink.url && token.matches(sink.auth_bearer.expose()));
        if !is_known {
            seen.push((&sink.url, &sink.auth_bearer));
            relays.extend(told_relay(file, sink, host));
        }
    }
    StatsPlan {
        role: Role::Proxy,
        env_name: file.env_name.clone(),
        host_name: host.to_owned(),
        trace_steps: file.trace_steps,
        every: file.node_info_every.into(),
        data_dir: file.data_dir.clone(),
        status: port.map(|port| (file.status_address.clone(), port)),
        status_hosts: file.status_hosts.clone(),
        relays,
        logs: Arc::default(),
    }
}

/// The sink was checked: what cannot be made of its keys was reported there.
fn told_relay(file: &ProxyFile, sink: &ProxySinkFile, host: &str) -> Option<ToldRelay> {
    let slash = if sink.url.ends_with('/') { "" } else { "/" };
    let base = format!("{}{slash}", sink.url).parse().ok()?;
    let options = ClientOptions { ca_file: sink.ca_file.clone(), ..ClientOptions::default() };
    let client = RelayClient::new(base, Client::new(&options).ok()?, &file.env_name, host).ok()?;
    let bucket = BucketKey { name: sink.buckets.first()?.clone(), token: sink.auth_bearer.clone() };
    Some(ToldRelay { client: Arc::new(client), bucket })
}

fn store_of(file: &ProxyFile, sinks: &[PlannedSink], sources: &[PlannedSource]) -> StoreOptions {
    let mut options =
        store_options(file.data_dir.join(STORE_FILE), file.durability, sinks, sources);
    options.imports = sinks
        .iter()
        .map(|sink| Import {
            path: file.data_dir.join(format!("{}-sink.sqlite3", sink.id)),
            queue: sink.id.clone(),
        })
        .collect();
    options
}

fn check_source(
    file: &ProxyFile,
    source: &ProxySourceFile,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Option<PlannedSource> {
    let target = source.target_sink.as_str();
    let keys = RouteKeys {
        source: &source.id,
        sink_key: "id",
        expected: "targetSink, the id of a sink",
        sinks: if target.is_empty() { Vec::new() } else { vec![(target, at(node, "targetSink"))] },
        script: source.script(),
        hook_interval: source.hook_interval,
    };
    let sinks = file.sinks.iter().map(|sink| sink.id.clone()).collect();
    let routes = keys.check(sinks, node, problems);
    let kind_at = at(node, "type");
    let Some(kind) = SOURCES.iter().find(|kind| kind.name == source.kind) else {
        let known: Vec<&str> = SOURCES.iter().map(|kind| kind.name).collect();
        let meant = did_you_mean(&source.kind, known.iter().copied());
        let known = known.join(", ");
        let text = format!("there is no source type `{}`{meant}; known: {known}", source.kind);
        problems.error(&kind_at, text);
        return None;
    };
    let params = node.object("params");
    let host_name = host_name(&file.host_name);
    let context = SourceContext {
        id: &source.id,
        env_name: &file.env_name,
        host_name: &host_name,
        hook_interval: source.hook_interval.map(Duration::from),
    };
    let built = (kind.build)(&context, &params, problems)?;
    Some(routes.plan(&source.id, &source.kind, built))
}

fn check_sink(
    file: &ProxyFile,
    sink: &ProxySinkFile,
    host: &str,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Option<PlannedSink> {
    no_tailnet(node, "useTsnet", sink.use_tsnet, problems);
    let queue = sink.buffer.queue(&sink.id, DEFAULT_BUFFER_BYTES);
    check_buffer(node, &sink.buffer, &queue, problems);
    let built = build_sink(file, sink, host, node, problems)?;
    let kind = if sink.url == STDOUT_URL || sink.not_relay { "http" } else { "relay" };
    Some(PlannedSink { id: sink.id.clone(), kind: kind.to_owned(), sink: built, queue })
}

fn build_sink(
    file: &ProxyFile,
    sink: &ProxySinkFile,
    host: &str,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn Sink>> {
    let shape = shape(sink);
    let script = sink.script().check(Hook::TransformBatch, &[], node, problems);
    if sink.url == STDOUT_URL {
        return Some(Arc::new(StdoutSink { shape }));
    }
    let url_at = at(node, "url");
    let uri =
        batch_uri(&sink.url, sink.not_relay).map_err(|reason| problems.error(&url_at, reason)).ok();
    if !sink.not_relay && sink.buckets.is_empty() {
        problems.error(
            node,
            format!(
                "sink `{}` has no buckets: expected the names of the relay's buckets, or notRelay if it is no relay",
                sink.id
            ),
        );
        return None;
    }
    if !sink.not_relay && sink.buckets.len() > MAX_NAMES {
        problems.error(&at(node, "buckets"), format!("expected at most {MAX_NAMES} names"));
    }
    if !sink.not_relay {
        check_token(node, "authBearer", &sink.auth_bearer, "a relay accepts nothing", problems);
        check_relay_url(&url_at, &sink.url, RECORD_BATCH, problems);
    }
    let client =
        Client::new(&ClientOptions { ca_file: sink.ca_file.clone(), ..ClientOptions::default() });
    let client =
        client.map_err(|error| problems.error(&at(node, "caFile"), error.to_string())).ok()?;
    let target = RelayTarget {
        uri: uri?,
        is_relay: !sink.not_relay,
        token: &sink.auth_bearer,
        buckets: &sink.buckets,
        env_name: &file.env_name,
        host_name: host,
        timeout: SEND_TIMEOUT,
    };
    let built = RelaySink::new(&target, shape, client)
        .map_err(|key| {
            let text =
                format!("{key} cannot be sent as a header: expected a text without line breaks");
            problems.error(&at(node, key), text);
        })
        .ok()?;
    let built = built.with_script(script.map(|options| BatchScript::new(&sink.id, options)));
    Some(Arc::new(built))
}

fn shape(sink: &ProxySinkFile) -> Shape {
    let size = |configured: Option<ByteSize>, default: usize| {
        configured.map(ByteSize::as_usize).filter(|size| *size > 0).unwrap_or(default)
    };
    let sends = if sink.max_messages_per_minute == 0 {
        DEFAULT_SENDS_PER_MINUTE
    } else {
        sink.max_messages_per_minute
    };
    Shape {
        writes: Writes::Batches(Batching {
            max_events: if sink.config.batch_max_events == 0 {
                1000
            } else {
                sink.config.batch_max_events
            },
            goal_bytes: size(sink.config.batch_goal_bytes, 17 * 1024 * 1024 / 4),
            event_limit: Some(EventLimit {
                bytes: size(sink.config.max_payload_bytes, 5 * 1024 * 1024),
                name: "config.maxPayloadBytes",
            }),
            linger: linger(sink),
            overlap: Overlap::Ahead,
        }),
        max_attempts: None,
        max_age: None,
        backoff: BACKOFF,
        rate: RateLimits {
            writes_per_minute: u32::try_from(sends).ok().map(f64::from),
            events_per_second: sink.max_events_per_second.filter(|rate| *rate > 0.0),
            bytes_per_second: sink
                .max_bytes_per_second
                .map(|size| size.bytes() as f64)
                .filter(|rate| *rate > 0.0),
        },
    }
}

fn linger(sink: &ProxySinkFile) -> Duration {
    let is_api = sink.not_relay && sink.url != STDOUT_URL;
    let default = if is_api { DEFAULT_LINGER_AT_AN_API } else { Duration::ZERO };
    let configured = sink.config.batch_timeout_secs.map(Duration::from);
    configured.filter(|time| !time.is_zero()).unwrap_or(default)
}

/// Where batches are posted: under the relay's URL, or to an API's URL as it stands.
fn batch_uri(url: &str, not_relay: bool) -> Result<Uri, String> {
    let slash = if url.ends_with('/') { "" } else { "/" };
    let full = if not_relay { url.to_owned() } else { format!("{url}{slash}{RECORD_BATCH}") };
    parse_url(&full, "expected a URL such as https://relay.example.com/")
}

/// Where the dead letters of a proxy with this file lie.
pub fn store_path(document: &Document, problems: &mut Problems) -> Option<PathBuf> {
    let file: ProxyFile = document.root().decode(problems)?;
    Some(file.data_dir.join(STORE_FILE))
}

/// JSON Schema of a proxy's file, with the `params` of each type of source.
pub fn schema() -> schemars::Schema {
    let kinds = SOURCES.iter().map(|kind| (kind.name, (kind.schema)()));
    crate::settings::with_params(
        rf_core::config::schema_of::<ProxyFile>(),
        "ProxySourceFile",
        kinds,
    )
}
