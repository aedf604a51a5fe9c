//! The names here are those of the manual.

use std::collections::BTreeSet;

use rf_core::metrics::{AGENTS, LATENCY, SINKS, SOURCES};

use super::*;

#[test]
fn the_manual_lists_every_metric_and_no_other() {
    let page = include_str!("../../../../../docs/reference/metrics.md");
    let listed: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("replayforge_"))
        .collect();
    let mut known: BTreeSet<&str> = [
        "replayforge_build_info",
        "replayforge_start_time_seconds",
        "replayforge_troubles",
        UNAUTHORIZED,
        LATENCY.0,
    ]
    .into();
    known.extend(DISK.iter().map(|(name, ..)| *name));
    known.extend(AGENTS.iter().map(|family| family.name));
    known.extend(BUCKETS.iter().map(|family| family.name));
    known.extend(NODES.iter().map(|family| family.name));
    known.extend(SOURCES.iter().map(|family| family.name));
    known.extend(SINKS.iter().map(|family| family.name));
    assert_eq!(listed, known);
}

#[test]
fn counters_end_in_total_and_nothing_else_does() {
    let kinds =
        BUCKETS.iter().map(|f| (f.name, f.kind)).chain(NODES.iter().map(|f| (f.name, f.kind)));
    let kinds = kinds.chain(AGENTS.iter().map(|f| (f.name, f.kind)));
    let kinds = kinds.chain(SOURCES.iter().map(|f| (f.name, f.kind)));
    for (name, kind) in kinds.chain(SINKS.iter().map(|f| (f.name, f.kind))) {
        assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
    }
}
