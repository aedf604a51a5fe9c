//! Every metric, in tables: name, kind, help, and where its values come from. The manual's list is
//! `docs/reference/metrics.md`, which a test holds against these.

use std::collections::BTreeMap;
use std::fmt;

use rf_core::node_info::{LATENCY_BOUNDS_MS, SinkInfo, SourceInfo};

use super::text::Kind;
use crate::report::{BucketReport, Level, NodeReport, Presence};

/// A number as it is written.
pub(super) struct Value(f64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// By reason; a metric that knows no reasons has one value with none.
type ByReason<'a> = Vec<(&'a str, Value)>;

/// A metric of buckets.
pub(super) struct BucketFamily {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) values: fn(&BucketReport, u64) -> ByReason<'static>,
}

/// A metric of nodes.
pub(super) struct NodeFamily {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) value: fn(&NodeReport) -> Option<Value>,
}

/// A metric of sources.
pub(super) struct SourceFamily {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) values: fn(&SourceInfo) -> ByReason<'_>,
}

/// A metric of sinks.
pub(super) struct SinkFamily {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) values: for<'a> fn(&SinkFacts<'a>) -> ByReason<'a>,
}

/// A sink, and what its age is reckoned with.
pub(super) struct SinkFacts<'a> {
    pub(super) sink: &'a SinkInfo,
    pub(super) skew_ms: i64,
    pub(super) now_ms: u64,
}

pub(super) const BUCKETS: &[BucketFamily] =
    &[
        bucket(
            "replayforge_bucket_level",
            Kind::Gauge,
            "How the bucket is: 0 ok, 1 warn, 2 bad.",
            |b, _| one(level(b.level)),
        ),
        bucket("replayforge_bucket_events", Kind::Gauge, "Events that wait.", |b, _| one(b.events)),
        bucket("replayforge_bucket_used_bytes", Kind::Gauge, "Bytes on disk.", |b, _| {
            one(b.used_bytes)
        }),
        bucket("replayforge_bucket_max_bytes", Kind::Gauge, "The limit of that.", |b, _| {
            one(b.max_bytes)
        }),
        bucket(
            "replayforge_bucket_oldest_event_age_seconds",
            Kind::Gauge,
            "How long the oldest event has waited; 0 when there is none.",
            |b, now| one_seconds(age(b.oldest_at_ms, now)),
        ),
        bucket("replayforge_bucket_holders", Kind::Gauge, "Players that hold a lease.", |b, _| {
            one(b.holders)
        }),
        bucket(
            "replayforge_bucket_received_events_total",
            Kind::Counter,
            "Events that came in.",
            |b, _| one(b.received),
        ),
        bucket(
            "replayforge_bucket_sent_events_total",
            Kind::Counter,
            "Events that went out.",
            |b, _| one(b.sent),
        ),
        bucket(
            "replayforge_bucket_refused_batches_total",
            Kind::Counter,
            "Batches that were refused because it was full.",
            |b, _| one(b.refused),
        ),
        bucket(
            "replayforge_bucket_dropped_events_total",
            Kind::Counter,
            "Events that are gone, by reason.",
            |b, _| vec![("full", number(b.dropped_full)), ("age", number(b.dropped_age))],
        ),
    ];

pub(super) const NODES: &[NodeFamily] = &[
    node(
        "replayforge_node_up",
        Kind::Gauge,
        "1 while the node is heard of, 0 when it is silent or missing.",
        |n| Some(number(u64::from(matches!(n.presence, Presence::Here | Presence::CallsOnly)))),
    ),
    node("replayforge_node_level", Kind::Gauge, "How the node is: 0 ok, 1 warn, 2 bad.", |n| {
        Some(number(level(n.level)))
    }),
    node(
        "replayforge_node_last_seen_timestamp_seconds",
        Kind::Gauge,
        "When it was last heard of, in seconds since 1970.",
        |n| Some(Value(seconds(n.last_seen_ms?))),
    ),
    node(
        "replayforge_node_start_time_seconds",
        Kind::Gauge,
        "When it was started, by its own clock.",
        |n| here(n).filter(|n| n.started_at_ms > 0).map(|n| Value(seconds(n.started_at_ms))),
    ),
    node(
        "replayforge_node_clock_skew_seconds",
        Kind::Gauge,
        "How far its clock is ahead of the relay's.",
        |n| here(n).map(|n| signed_seconds(n.skew_ms)),
    ),
    node(
        "replayforge_node_cpu_ratio",
        Kind::Gauge,
        "Share of the machine's processors in use.",
        |n| here(n).map(|n| Value(n.cpu_percent / 100.0)),
    ),
    node(
        "replayforge_node_memory_ratio",
        Kind::Gauge,
        "Share of the machine's memory in use.",
        |n| here(n).map(|n| Value(n.memory_percent / 100.0)),
    ),
    node(
        "replayforge_node_disk_ratio",
        Kind::Gauge,
        "Share of the file system of dataDir in use.",
        |n| here(n).map(|n| Value(n.disk_percent / 100.0)),
    ),
    node("replayforge_node_process_memory_bytes", Kind::Gauge, "Memory of the agent.", |n| {
        here(n).map(|n| number(n.memory_process))
    }),
    node("replayforge_node_logged_errors_total", Kind::Counter, "Errors that it logged.", |n| {
        here(n).map(|n| number(n.errors))
    }),
];

pub(super) const SOURCES: &[SourceFamily] = &[
    source("replayforge_source_received_events_total", "Events that came in.", |s| one(s.received)),
    source("replayforge_source_emitted_events_total", "Events that were emitted to sinks.", |s| {
        one(s.emitted)
    }),
    source(
        "replayforge_source_stored_events_total",
        "Events that were committed to queues of sinks.",
        |s| one(s.stored),
    ),
    source(
        "replayforge_source_refused_events_total",
        "Events that were refused for now, a queue being full.",
        |s| one(s.refused),
    ),
    source("replayforge_source_dropped_events_total", "Events that are gone, by reason.", |s| {
        by_reason(&s.dropped)
    }),
    source(
        "replayforge_source_dead_lettered_events_total",
        "Events that became dead letters.",
        |s| one(s.dead_lettered),
    ),
    source("replayforge_source_received_bytes_total", "Bytes of the events that came in.", |s| {
        one(s.bytes)
    }),
    SourceFamily {
        name: "replayforge_source_paused",
        kind: Kind::Gauge,
        help: "1 when it does nothing until a person acts.",
        values: |s| one(u64::from(s.paused.is_some())),
    },
];

pub(super) const SINKS: &[SinkFamily] = &[
    sink("replayforge_sink_queue_events", Kind::Gauge, "Events that wait.", |f| {
        one(f.sink.queue.events)
    }),
    sink("replayforge_sink_queue_bytes", Kind::Gauge, "Bytes of them.", |f| {
        one(f.sink.queue.bytes)
    }),
    sink("replayforge_sink_queue_max_bytes", Kind::Gauge, "What they may take.", |f| {
        one(f.sink.queue.max_bytes)
    }),
    sink(
        "replayforge_sink_oldest_event_age_seconds",
        Kind::Gauge,
        "How long the oldest event has waited; 0 when there is none.",
        |f| one_seconds(f.age()),
    ),
    sink(
        "replayforge_sink_paused",
        Kind::Gauge,
        "1 when it does nothing until a person acts.",
        |f| one(u64::from(f.sink.paused.is_some())),
    ),
    sink("replayforge_sink_dead_letters", Kind::Gauge, "Dead letters that lie there.", |f| {
        one(f.sink.dead_letters)
    }),
    sink(
        "replayforge_sink_shipped_events_total",
        Kind::Counter,
        "Events that a relay has taken.",
        |f| one(f.sink.shipped),
    ),
    sink(
        "replayforge_sink_delivered_events_total",
        Kind::Counter,
        "Events that another target has taken.",
        |f| one(f.sink.delivered),
    ),
    sink(
        "replayforge_sink_retried_events_total",
        Kind::Counter,
        "Events that were tried again.",
        |f| one(f.sink.retried),
    ),
    sink(
        "replayforge_sink_dropped_events_total",
        Kind::Counter,
        "Events that are gone, by reason.",
        |f| by_reason(&f.sink.dropped),
    ),
    sink(
        "replayforge_sink_dead_lettered_events_total",
        Kind::Counter,
        "Events that became dead letters.",
        |f| one(f.sink.dead_lettered),
    ),
    sink(
        "replayforge_sink_sent_bytes_total",
        Kind::Counter,
        "Bytes of the events that were shipped or delivered.",
        |f| one(f.sink.bytes),
    ),
];

const fn bucket(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    values: fn(&BucketReport, u64) -> ByReason<'static>,
) -> BucketFamily {
    BucketFamily { name, kind, help, values }
}

const fn node(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&NodeReport) -> Option<Value>,
) -> NodeFamily {
    NodeFamily { name, kind, help, value }
}

const fn source(
    name: &'static str,
    help: &'static str,
    values: fn(&SourceInfo) -> ByReason<'_>,
) -> SourceFamily {
    SourceFamily { name, kind: Kind::Counter, help, values }
}

const fn sink(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    values: for<'a> fn(&SinkFacts<'a>) -> ByReason<'a>,
) -> SinkFamily {
    SinkFamily { name, kind, help, values }
}

impl SinkFacts<'_> {
    /// By the relay's clock.
    fn age(&self) -> u64 {
        let oldest = self.sink.queue.oldest_at_ms;
        age(oldest.map(|at| at.saturating_add_signed(-self.skew_ms)), self.now_ms)
    }
}

/// Only what is told now.
fn here(node: &NodeReport) -> Option<&NodeReport> {
    (node.presence == Presence::Here).then_some(node)
}

fn one(value: u64) -> ByReason<'static> {
    vec![("", number(value))]
}

fn one_seconds(ms: u64) -> ByReason<'static> {
    vec![("", Value(seconds(ms)))]
}

fn by_reason(counts: &BTreeMap<String, u64>) -> ByReason<'_> {
    // One that has no name would be a label without a value, which is no label.
    let named = counts.iter().filter(|(reason, _)| !reason.is_empty());
    named.map(|(reason, count)| (reason.as_str(), number(*count))).collect()
}

fn level(level: Level) -> u64 {
    match level {
        Level::Ok => 0,
        Level::Warn => 1,
        Level::Bad => 2,
    }
}

fn age(at_ms: Option<u64>, now_ms: u64) -> u64 {
    at_ms.map_or(0, |at| now_ms.saturating_sub(at))
}

/// The bound of a latency's count, as a label.
pub(super) fn latency_bound(at: usize) -> String {
    LATENCY_BOUNDS_MS.get(at).map_or("+Inf".to_owned(), |ms| format!("{:?}", seconds(*ms)))
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows floats only")]
fn number(value: u64) -> Value {
    Value(value as f64)
}

/// Seconds of so many milliseconds.
#[expect(clippy::cast_precision_loss, reason = "Prometheus knows floats only")]
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows floats only")]
fn signed_seconds(ms: i64) -> Value {
    Value(ms as f64 / 1000.0)
}
