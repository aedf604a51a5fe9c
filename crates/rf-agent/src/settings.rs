//! Settings that several files' parts share.

mod port;

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::{StatusCode, Uri};
use rf_core::config::{ByteSize, Interval, Node, Problems, at_most};
use rf_core::node_info::DEFAULT_EVERY_SECS;
use rf_net::serve::MAX_CONNECTIONS;
use rf_queue::{
    Durability, MAX_STORE_BYTES, MIN_STORE_BYTES, QueueOptions, StoreOptions, WhenFull,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use crate::agent::{PlannedSink, PlannedSource};
use crate::script::letters_queue;
use crate::source::{COPIES_NICENESS, HoldsUp};

pub(crate) use port::Port;

/// What `nodeInfoEvery` may be.
const NODE_INFO_EVERY: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// `buffer` of a sink: its queue on disk.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BufferConfig {
    /// Bytes that this sink adds to the store's files; default 10 MiB for a proxy's sink, 64 MiB for a player's.
    #[serde(default)]
    pub max_bytes: Option<ByteSize>,
    /// What happens when it is full: the source is refused, the oldest events go, or the source waits.
    #[serde(default)]
    pub when_full: WhenFullConfig,
    /// Events that wait longer are dropped and counted; default: never.
    #[serde(default)]
    pub max_age: Option<Interval>,
}

/// `whenFull`.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WhenFullConfig {
    /// New events are refused: an HTTP client gets 503.
    #[default]
    Reject,
    /// The oldest events make room.
    DropOldest,
    /// The source waits.
    Block,
}

/// `durability`.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DurabilityConfig {
    /// What was acknowledged survives loss of power.
    #[default]
    Commit,
    /// What was acknowledged survives a killed process, not a loss of power.
    Process,
}

impl From<DurabilityConfig> for Durability {
    fn from(config: DurabilityConfig) -> Self {
        match config {
            DurabilityConfig::Commit => Self::Commit,
            DurabilityConfig::Process => Self::Process,
        }
    }
}

impl BufferConfig {
    /// The sink's queue, with `default_bytes` where the file says nothing.
    pub(crate) fn queue(&self, sink: &str, default_bytes: u64) -> QueueOptions {
        QueueOptions {
            name: sink.to_owned(),
            max_bytes: Some(
                self.max_bytes.map_or(default_bytes, ByteSize::bytes).min(MAX_STORE_BYTES),
            ),
            max_age: self.max_age.map(Duration::from),
            when_full: match self.when_full {
                WhenFullConfig::Reject => WhenFull::Reject,
                WhenFullConfig::DropOldest => WhenFull::DropOldest,
                WhenFullConfig::Block => WhenFull::Block,
            },
        }
    }
}

/// A status code such as `429`, or a class such as `"5xx"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusPattern {
    from: u16,
    to: u16,
}

impl StatusPattern {
    /// Exactly this code.
    pub const fn one(code: u16) -> Self {
        Self { from: code, to: code }
    }

    /// Every code of a class: 5 for 500 to 599.
    pub const fn class(class: u16) -> Self {
        Self { from: class * 100, to: class * 100 + 99 }
    }

    /// Whether the status is meant.
    pub fn matches(self, status: StatusCode) -> bool {
        (self.from..=self.to).contains(&status.as_u16())
    }

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().strip_suffix("xx") {
            Some(class) => {
                class.parse().ok().filter(|class| (1..=5).contains(class)).map(Self::class)
            }
            None => text.parse().ok().filter(|code| (100..=599).contains(code)).map(Self::one),
        }
    }
}

impl<'de> Deserialize<'de> for StatusPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusVisitor)
    }
}

struct StatusVisitor;

impl Visitor<'_> for StatusVisitor {
    type Value = StatusPattern;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status code from 100 to 599, or a class such as \"5xx\"")
    }

    fn visit_u64<E: Error>(self, code: u64) -> Result<StatusPattern, E> {
        self.visit_str(&code.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StatusPattern, E> {
        StatusPattern::parse(text)
            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

impl JsonSchema for StatusPattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatusPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "description": "a status code from 100 to 599, or a class such as \"5xx\"",
        })
    }
}

/// The value of a key, or the whole object where the key is missing: where a problem is reported.
pub(crate) fn at<'a>(node: &Node<'a>, key: &str) -> Node<'a> {
    node.get(key).unwrap_or(*node)
}

/// A URL of `http` or `https` with a host.
///
/// # Errors
/// What was `wanted`, and what keeps the text from being that; it is not quoted.
pub(crate) fn parse_url(text: &str, wanted: &str) -> Result<Uri, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        None => return Err(format!("{wanted}: it does not begin with http:// or https://")),
        Some("http" | "https") => {}
        Some(_) => return Err(format!("{wanted}: its scheme is neither http nor https")),
    }
    let uri: Uri = text.parse().map_err(|error| format!("{wanted}: {error}"))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(format!("{wanted}: it names no host"));
    }
    Ok(uri)
}

/// Reports ids that are used twice or cannot name a queue.
pub(crate) fn check_ids(nodes: &[Node<'_>], key: &str, problems: &mut Problems) {
    let mut seen: Vec<&str> = Vec::new();
    for node in nodes {
        let Some(at) = node.get(key) else { continue };
        let Some(id) = at.as_str() else { continue };
        if id.is_empty() {
            problems.error(&at, "expected a name, found an empty text");
        } else if seen.contains(&id) {
            problems.error(&at, format!("`{id}` is used twice: ids must be unique"));
        }
        seen.push(id);
    }
}

/// The tailnet comes with a later version; dialing around it could show data to others.
pub(crate) fn no_tailnet(node: &Node<'_>, key: &str, wanted: bool, problems: &mut Problems) {
    if wanted {
        problems.error(&at(node, key), "this program does not join a tailnet by itself: remove the key, and use the host's Tailscale, see docs/guides/tailnet.md");
    }
}

/// The default `dataDir`: the working directory, as the original.
pub(crate) fn working_directory() -> PathBuf {
    PathBuf::from(".")
}

/// `traceSteps` where the file says nothing.
pub(crate) fn default_trace_steps() -> usize {
    rf_core::trace::DEFAULT_STEPS
}

/// `nodeInfoEvery` where the file says nothing.
pub(crate) fn default_node_info_every() -> Interval {
    Duration::from_secs(DEFAULT_EVERY_SECS).into()
}

/// Reports a `nodeInfoEvery` that would flood the relay, or seem silent.
pub(crate) fn check_node_info_every(root: &Node<'_>, every: Interval, problems: &mut Problems) {
    if !NODE_INFO_EVERY.contains(&every.as_duration()) {
        problems.error(&at(root, "nodeInfoEvery"), "expected 1s to 1h");
    }
}

/// `maxConnections`, or as many as are of use.
pub(crate) fn check_connections(
    params: &Node<'_>,
    asked: NonZeroUsize,
    problems: &mut Problems,
) -> NonZeroUsize {
    let place = at(params, "maxConnections");
    let used = at_most(&place, asked.get(), MAX_CONNECTIONS.get(), problems);
    NonZeroUsize::new(used).unwrap_or(MAX_CONNECTIONS)
}

/// Where pages listen that ask for no token.
pub(crate) fn loopback() -> String {
    "127.0.0.1".to_owned()
}

/// Reports a buffer that is smaller than a store can be, and warns of one that is larger.
pub(crate) fn check_buffer(
    node: &Node<'_>,
    buffer: &BufferConfig,
    queue: &QueueOptions,
    problems: &mut Problems,
) {
    let place = at(&at(node, "buffer"), "maxBytes");
    if buffer.max_bytes.is_some_and(|asked| asked.bytes() > MAX_STORE_BYTES) {
        let message =
            format!("a database holds at most {MAX_STORE_BYTES} bytes: {MAX_STORE_BYTES} is used");
        problems.warn(&place, message);
    }
    if queue.max_bytes.is_some_and(|bytes| bytes < MIN_STORE_BYTES) {
        problems.error(&place, format!("expected at least {MIN_STORE_BYTES} bytes"));
    }
}

/// Two batches on their way and the rest of their segments: so their pages are read once, and not again when they leave.
const CACHE_BYTES: u32 = 4 * 1024 * 1024;

/// The agent's one store: its files may take what the buffers of all sinks add up to.
pub(crate) fn store_options(
    path: PathBuf,
    durability: DurabilityConfig,
    sinks: &[PlannedSink],
    sources: &[PlannedSource],
) -> StoreOptions {
    let mut queues: Vec<QueueOptions> = sinks.iter().map(|sink| sink.queue.clone()).collect();
    let max_bytes = queues.iter().filter_map(|queue| queue.max_bytes).fold(0, u64::saturating_add);
    let max_bytes = max_bytes.min(MAX_STORE_BYTES);
    // Letters of scripts that are retried: rare, so they get no room of their own, only what the store has left.
    queues.extend(sources.iter().filter(|source| source.script.is_some()).map(|source| {
        QueueOptions { max_bytes: Some(max_bytes), ..QueueOptions::new(letters_queue(&source.id)) }
    }));
    let mut options = StoreOptions::new(path, max_bytes.max(MIN_STORE_BYTES), queues);
    options.durability = durability.into();
    options.cache_bytes = CACHE_BYTES;
    options.niceness = niceness(sources.iter().map(|source| source.source.holds_up()));
    options
}

/// The store gives way to traffic that passes through this process, unless clients wait for it.
fn niceness(held_up: impl Iterator<Item = HoldsUp>) -> i32 {
    let held_up: Vec<HoldsUp> = held_up.collect();
    let gives_way = held_up.contains(&HoldsUp::PassingTraffic)
        && !held_up.contains(&HoldsUp::ClientsUntilStored);
    if gives_way { COPIES_NICENESS } else { 0 }
}

/// Keys that are accepted, so that the original's files go on working, and do nothing in this version.
pub(crate) fn no_effect_yet(root: &Node<'_>, keys: &[&str], problems: &mut Problems) {
    for key in keys {
        // The original's files name such keys also where they ask for nothing.
        if let Some(at) = root.get(key)
            && !matches!(at.shown().as_str(), "null" | "false" | "0" | "\"\"")
        {
            problems.warn(&at, "not in this version: the key has no effect");
        }
    }
}

/// Times that must not be zero.
pub(crate) fn not_zero(node: &Node<'_>, times: &[(&str, Interval)], problems: &mut Problems) {
    for (key, time) in times {
        if time.as_duration().is_zero() {
            problems.error(&at(node, key), "expected a time above zero");
        }
    }
}

/// The configured name, or the machine's.
pub(crate) fn host_name(configured: &str) -> String {
    if !configured.is_empty() {
        return configured.to_owned();
    }
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Says in a file's schema what `params` holds for each `type` of the component `definition`.
pub(crate) fn with_params(
    mut file: Schema,
    definition: &str,
    kinds: impl Iterator<Item = (&'static str, Schema)>,
) -> Schema {
    let kinds: Vec<_> = kinds.collect();
    let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
    let mut rules = Vec::new();
    let mut definitions = serde_json::Map::new();
    for (name, schema) in &kinds {
        let mut schema = schema.clone().to_value();
        // References point from the root of the whole file.
        if let Some(serde_json::Value::Object(own)) =
            schema.as_object_mut().and_then(|object| object.remove("$defs"))
        {
            definitions.extend(own);
        }
        let mut rule = serde_json::json!({ "properties": { "params": schema } });
        // No params are an empty object: whether they may be left out, their own keys say.
        if rule.pointer("/properties/params/required").is_some() {
            rule["required"] = serde_json::json!(["params"]);
        }
        rules.push(serde_json::json!({
            "if": { "properties": { "type": { "const": name } } },
            "then": rule,
        }));
    }
    if let Some(serde_json::Value::Object(known)) = file.ensure_object().get_mut("$defs") {
        known.extend(definitions);
        if let Some(serde_json::Value::Object(component)) = known.get_mut(definition) {
            component.insert("allOf".to_owned(), rules.into());
            component["properties"]["type"]["enum"] = names.into();
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_text_from_being_a_url_is_told() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let parsed = parse_url(text, "expected a URL");
            match (&parsed, expected) {
                (Ok(uri), Ok(host)) => assert_eq!(uri.host(), Some(host), "{text}"),
                (Err(told), Err(expected)) => {
                    assert_eq!(told, &format!("expected a URL: {expected}"), "{text}");
                }
                _ => panic!("{text}: {parsed:?}"),
            }
        };
        check("http://127.0.0.1:8081", Ok("127.0.0.1"));
        check("HTTPS://relay.example.com/below/", Ok("relay.example.com"));
        check("127.0.0.1:8081", Err("it does not begin with http:// or https://"));
        check("", Err("it does not begin with http:// or https://"));
        check("ftp://relay.example.com", Err("its scheme is neither http nor https"));
    }

    #[test]
    fn a_store_gives_way_to_traffic_unless_clients_wait_for_it() {
        use HoldsUp::{ClientsUntilStored, Nobody, PassingTraffic};
        let check = |held_up: &[HoldsUp], expected| {
            assert_eq!(niceness(held_up.iter().copied()), expected, "{held_up:?}");
        };
        check(&[], 0);
        check(&[Nobody], 0);
        check(&[PassingTraffic, Nobody], COPIES_NICENESS);
        check(&[PassingTraffic, ClientsUntilStored], 0);
    }
}
