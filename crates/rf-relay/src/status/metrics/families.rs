//! The relay's own metrics, in tables as those of agents in [`rf_core::metrics`].

use rf_core::metrics::{ByReason, Kind, Value, age_ms, one, one_seconds};

use crate::report::{BucketReport, Level, NodeReport, Presence};

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

pub(super) const BUCKETS: &[BucketFamily] = &[
    bucket(
        "replayforge_bucket_level",
        Kind::Gauge,
        "State of the bucket: 0 ok, 1 warn, 2 bad.",
        |b, _| one(level(b.level)),
    ),
    bucket("replayforge_bucket_events", Kind::Gauge, "Events that wait.", |b, _| one(b.events)),
    bucket(
        "replayforge_bucket_used_bytes",
        Kind::Gauge,
        "Bytes of pages in use, without the write-ahead log.",
        |b, _| one(b.used_bytes),
    ),
    bucket(
        "replayforge_bucket_max_bytes",
        Kind::Gauge,
        "The limit of all files, with the write-ahead log.",
        |b, _| one(b.max_bytes),
    ),
    bucket(
        "replayforge_bucket_events_max_bytes",
        Kind::Gauge,
        "Bytes up to which events are accepted; the rest is reserved for the work in a full bucket.",
        |b, _| one(b.events_limit()),
    ),
    bucket(
        "replayforge_bucket_oldest_event_age_seconds",
        Kind::Gauge,
        "How long the oldest event has waited; 0 when there is none.",
        |b, now| one_seconds(age_ms(b.oldest_at_ms, now)),
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
        "Events that were dropped, by reason.",
        |b, _| {
            vec![
                ("full", b.dropped_full.into()),
                ("age", b.dropped_age.into()),
                ("damaged", b.dropped_damaged.into()),
            ]
        },
    ),
];

pub(super) const NODES: &[NodeFamily] = &[
    node(
        "replayforge_node_up",
        Kind::Gauge,
        "1 while the relay hears from the node, 0 when it is silent or missing.",
        |n| Some(u64::from(matches!(n.presence, Presence::Here | Presence::CallsOnly)).into()),
    ),
    node("replayforge_node_level", Kind::Gauge, "State of the node: 0 ok, 1 warn, 2 bad.", |n| {
        Some(level(n.level).into())
    }),
    node(
        "replayforge_node_last_seen_timestamp_seconds",
        Kind::Gauge,
        "When the relay last heard from it, in seconds since 1970.",
        |n| n.last_seen_ms.map(Value::of_ms),
    ),
    node(
        "replayforge_node_start_time_seconds",
        Kind::Gauge,
        "When it was started, by its own clock.",
        |n| here(n).filter(|n| n.started_at_ms > 0).map(|n| Value::of_ms(n.started_at_ms)),
    ),
    node(
        "replayforge_node_clock_skew_seconds",
        Kind::Gauge,
        "How far its clock is ahead of the relay's.",
        |n| here(n).map(|n| Value::of_signed_ms(n.skew_ms)),
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

/// Only what is told now.
fn here(node: &NodeReport) -> Option<&NodeReport> {
    (node.presence == Presence::Here).then_some(node)
}

fn level(level: Level) -> u64 {
    match level {
        Level::Ok => 0,
        Level::Warn => 1,
        Level::Bad => 2,
    }
}
