//! The metrics that agents tell of themselves and relays tell of agents, in tables: name, kind, help, and where the values
//! come from. The manual's list is `docs/reference/metrics.md`, which a test holds against these.

use std::collections::BTreeMap;
use std::fmt;

use super::text::Kind;
use crate::node_info::{LATENCY_BOUNDS_MS, NodeInfo, SinkInfo, SourceInfo};

/// A number as it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value(f64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Value {
    /// A share of 1, from percent.
    #[must_use]
    pub fn of_percent(percent: f64) -> Self {
        Self(percent / 100.0)
    }

    /// Seconds, from milliseconds.
    #[must_use]
    pub fn of_ms(ms: u64) -> Self {
        Self(seconds(ms))
    }

    /// Seconds, from milliseconds that may lie before 0.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows floats only")]
    pub fn of_signed_ms(ms: i64) -> Self {
        Self(ms as f64 / 1000.0)
    }
}

impl From<u64> for Value {
    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows floats only")]
    fn from(value: u64) -> Self {
        Self(value as f64)
    }
}

/// By reason; a metric that knows no reasons has one value with none, or no value at all.
pub type ByReason<'a> = Vec<(&'a str, Value)>;

/// A metric of an agent and its machine.
#[derive(Debug)]
pub struct AgentFamily {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// A sentence about it.
    pub help: &'static str,
    pub(super) value: fn(&NodeInfo) -> Value,
}

/// A metric of sources.
#[derive(Debug)]
pub struct SourceFamily {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// A sentence about it.
    pub help: &'static str,
    pub(super) values: fn(&SourceInfo) -> ByReason<'_>,
}

/// A metric of sinks.
#[derive(Debug)]
pub struct SinkFamily {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// A sentence about it.
    pub help: &'static str,
    pub(super) values: for<'a> fn(&SinkFacts<'a>) -> ByReason<'a>,
}

/// A sink, and what its age is reckoned with.
#[derive(Debug)]
pub(super) struct SinkFacts<'a> {
    pub(super) sink: &'a SinkInfo,
    pub(super) skew_ms: i64,
    pub(super) now_ms: u64,
}

/// Of an agent and its machine.
pub const AGENTS: &[AgentFamily] = &[
    agent("replayforge_node_cpu_ratio", "Share of the machine's processors in use.", |n| {
        Value::of_percent(n.cpu_percent_host)
    }),
    agent("replayforge_node_memory_ratio", "Share of the machine's memory in use.", |n| {
        Value::of_percent(n.memory_host_used_pct)
    }),
    agent("replayforge_node_disk_ratio", "Share of the file system of dataDir in use.", |n| {
        Value::of_percent(n.disk_used_pct)
    }),
    agent("replayforge_node_process_memory_bytes", "Memory of the agent.", |n| {
        n.memory_process.into()
    }),
    AgentFamily {
        name: "replayforge_node_logged_errors_total",
        kind: Kind::Counter,
        help: "Errors that it logged.",
        value: |n| n.error_count.into(),
    },
];

/// Of sources.
pub const SOURCES: &[SourceFamily] = &[
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
    source(
        "replayforge_source_dropped_events_total",
        "Events that were dropped, by reason.",
        |s| by_reason(&s.dropped),
    ),
    source(
        "replayforge_source_dead_lettered_events_total",
        "Events that became dead letters.",
        |s| one(s.dead_lettered),
    ),
    SourceFamily {
        name: "replayforge_source_dead_letters",
        kind: Kind::Gauge,
        help: "Dead letters of its script in the store.",
        values: |s| one(s.dead_letters),
    },
    source("replayforge_source_received_bytes_total", "Bytes of the events that came in.", |s| {
        one(s.bytes)
    }),
    SourceFamily {
        name: "replayforge_source_paused",
        kind: Kind::Gauge,
        help: "1 while it is paused.",
        values: |s| one(u64::from(s.paused.is_some())),
    },
    SourceFamily {
        name: "replayforge_source_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When it last stored events, or its origin had none, by its own clock.",
        values: |s| moment(s.last_success_at_ms),
    },
    SourceFamily {
        name: "replayforge_source_last_error_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When something last went wrong, by its own clock.",
        values: |s| moment(s.last_error.as_ref().map(|error| error.at_ms)),
    },
];

/// Of sinks, besides the latency.
pub const SINKS: &[SinkFamily] = &[
    sink("replayforge_sink_queue_events", Kind::Gauge, "Events that wait.", |f| {
        one(f.sink.queue.events)
    }),
    sink("replayforge_sink_queue_bytes", Kind::Gauge, "Bytes of them.", |f| {
        one(f.sink.queue.bytes)
    }),
    sink("replayforge_sink_queue_max_bytes", Kind::Gauge, "What they may take.", |f| {
        one(f.sink.queue.max_bytes)
    }),
    sink("replayforge_sink_queue_ratio", Kind::Gauge, "Share of that in use.", |f| {
        vec![("", f.fill())]
    }),
    sink(
        "replayforge_sink_oldest_event_age_seconds",
        Kind::Gauge,
        "How long the oldest event has waited; 0 when there is none.",
        |f| one_seconds(f.age_ms()),
    ),
    sink("replayforge_sink_paused", Kind::Gauge, "1 while it is paused.", |f| {
        one(u64::from(f.sink.paused.is_some()))
    }),
    sink("replayforge_sink_dead_letters", Kind::Gauge, "Dead letters in the store.", |f| {
        one(f.sink.dead_letters)
    }),
    sink(
        "replayforge_sink_shipped_events_total",
        Kind::Counter,
        "Events that a relay has accepted.",
        |f| one(f.sink.shipped),
    ),
    sink(
        "replayforge_sink_delivered_events_total",
        Kind::Counter,
        "Events that another target has accepted.",
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
        "Events that were dropped, by reason.",
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
    sink(
        "replayforge_sink_last_success_timestamp_seconds",
        Kind::Gauge,
        "When it last shipped or delivered something, by its own clock.",
        |f| moment(f.sink.last_success_at_ms),
    ),
    sink(
        "replayforge_sink_last_error_timestamp_seconds",
        Kind::Gauge,
        "When a try last failed, by its own clock.",
        |f| moment(f.sink.last_error.as_ref().map(|error| error.at_ms)),
    ),
];

/// Events from capture until a sink had shipped or delivered them.
pub const LATENCY: (&str, Kind, &str) = (
    "replayforge_sink_latency_seconds",
    Kind::Histogram,
    "From capture until a sink had shipped or delivered.",
);

const fn agent(
    name: &'static str,
    help: &'static str,
    value: fn(&NodeInfo) -> Value,
) -> AgentFamily {
    AgentFamily { name, kind: Kind::Gauge, help, value }
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
    /// By the clock of who tells.
    fn age_ms(&self) -> u64 {
        let oldest = self.sink.queue.oldest_at_ms;
        age_ms(oldest.map(|at| at.saturating_add_signed(-self.skew_ms)), self.now_ms)
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows floats only")]
    fn fill(&self) -> Value {
        let queue = &self.sink.queue;
        Value(queue.bytes as f64 / queue.max_bytes.max(1) as f64)
    }
}

/// One value without a reason.
#[must_use]
pub fn one(value: u64) -> ByReason<'static> {
    vec![("", value.into())]
}

/// The same, seconds from milliseconds.
#[must_use]
pub fn one_seconds(ms: u64) -> ByReason<'static> {
    vec![("", Value::of_ms(ms))]
}

/// How long ago, by a clock that may have been behind then.
#[must_use]
pub fn age_ms(at_ms: Option<u64>, now_ms: u64) -> u64 {
    at_ms.map_or(0, |at| now_ms.saturating_sub(at))
}

/// Nothing for what has not happened yet.
fn moment(at_ms: Option<u64>) -> ByReason<'static> {
    at_ms.map(one_seconds).unwrap_or_default()
}

fn by_reason(counts: &BTreeMap<String, u64>) -> ByReason<'_> {
    // One that has no name would be a label without a value, which is no label.
    let named = counts.iter().filter(|(reason, _)| !reason.is_empty());
    named.map(|(reason, count)| (reason.as_str(), (*count).into())).collect()
}

/// The bound of a latency's count, as a label.
pub(super) fn latency_bound(at: usize) -> String {
    LATENCY_BOUNDS_MS.get(at).map_or("+Inf".to_owned(), |ms| format!("{:?}", seconds(*ms)))
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows floats only")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
