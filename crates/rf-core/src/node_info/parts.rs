//! Sources, sinks, and what both have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MAX_LISTED, MAX_LOG_LINES, MAX_NAME_CHARS, MAX_TEXT_CHARS};
use crate::lenient::{lenient, number, optional_number};

/// Upper bounds of [`Latency::counts`]; the last count is for what took longer.
pub const LATENCY_BOUNDS_MS: [u64; 17] = [
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000,
    3_600_000,
];

/// A source and what it counted since the agent's start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceInfo {
    /// Its `type`, such as `http`; `relay` for the buckets of a player.
    #[serde(rename = "type", deserialize_with = "lenient")]
    pub kind: String,
    /// The sinks that it feeds, by id.
    #[serde(deserialize_with = "lenient")]
    pub sinks: Vec<String>,
    /// The relay and buckets that it pulls from.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub wired_to: Option<Wiring>,
    /// Events that came in.
    #[serde(deserialize_with = "number")]
    pub received: u64,
    /// Events that its script, or itself, emitted to sinks.
    #[serde(deserialize_with = "number")]
    pub emitted: u64,
    /// Events that were committed to the queues of sinks.
    #[serde(deserialize_with = "number")]
    pub stored: u64,
    /// Events that were refused for now and will be offered again: a queue was full.
    #[serde(deserialize_with = "number")]
    pub refused: u64,
    /// Events that were dropped, by reason, such as `script` or `tooLarge`.
    #[serde(deserialize_with = "lenient")]
    pub dropped: BTreeMap<String, u64>,
    /// Events that became dead letters here.
    #[serde(deserialize_with = "number")]
    pub dead_lettered: u64,
    /// Dead letters of its script in the store now. Those of other sources are told with the sink that they were for.
    #[serde(deserialize_with = "number")]
    pub dead_letters: u64,
    /// Lines that were longer than `maxLineBytes`, and were cut there.
    #[serde(deserialize_with = "number")]
    pub cut_lines: u64,
    /// Bytes of the events that came in.
    #[serde(deserialize_with = "number")]
    pub bytes: u64,
    /// Why it does nothing until a person acts.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub paused: Option<String>,
    /// When it last took an event, or was told by its origin that there is none.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_number")]
    pub last_success_at_ms: Option<u64>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub last_error: Option<LastError>,
    /// The newest lines that it logged, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "lenient")]
    pub recent_logs: Vec<LogLine>,
}

/// A sink and what it counted since the agent's start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SinkInfo {
    /// Its `type`, such as `http`; `relay` where a proxy ships to a relay.
    #[serde(rename = "type", deserialize_with = "lenient")]
    pub kind: String,
    /// The relay and buckets that it ships to.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub wired_to: Option<Wiring>,
    /// Where else it delivers to, without user, password and query: `http://host:port`.
    #[serde(deserialize_with = "lenient")]
    pub target: String,
    /// Events that a relay has accepted.
    #[serde(deserialize_with = "number")]
    pub shipped: u64,
    /// Events that any other target has taken.
    #[serde(deserialize_with = "number")]
    pub delivered: u64,
    /// Events that were tried again.
    #[serde(deserialize_with = "number")]
    pub retried: u64,
    /// Events that were dropped, by reason: `full`, `age`, `damaged`, `script`, `scriptError`.
    #[serde(deserialize_with = "lenient")]
    pub dropped: BTreeMap<String, u64>,
    /// Events that became dead letters.
    #[serde(deserialize_with = "number")]
    pub dead_lettered: u64,
    /// Dead letters in the store now, in all.
    #[serde(deserialize_with = "number")]
    pub dead_letters: u64,
    /// Bytes of the events that were shipped or delivered.
    #[serde(deserialize_with = "number")]
    pub bytes: u64,
    /// What waits.
    #[serde(deserialize_with = "lenient")]
    pub queue: QueueInfo,
    /// Why it does nothing until a person acts, as when a token is refused.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub paused: Option<String>,
    /// When something was last shipped or delivered.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_number")]
    pub last_success_at_ms: Option<u64>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub last_error: Option<LastError>,
    /// From capture to here.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient")]
    pub latency: Option<Latency>,
    /// The newest lines that it logged, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "lenient")]
    pub recent_logs: Vec<LogLine>,
}

/// Which buckets of which relay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wiring {
    /// Scheme, host and port of the relay, as the agent knows it.
    #[serde(deserialize_with = "lenient")]
    pub relay: String,
    /// Names of buckets.
    #[serde(deserialize_with = "lenient")]
    pub buckets: Vec<String>,
}

/// The queue of a sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueInfo {
    /// Events that wait.
    #[serde(deserialize_with = "number")]
    pub events: u64,
    /// Bytes that they take of `max_bytes`.
    #[serde(deserialize_with = "number")]
    pub bytes: u64,
    /// What they may take.
    #[serde(deserialize_with = "number")]
    pub max_bytes: u64,
    /// When the oldest was stored.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_number")]
    pub oldest_at_ms: Option<u64>,
}

/// What went wrong last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LastError {
    /// When.
    #[serde(deserialize_with = "number")]
    pub at_ms: u64,
    /// What, for a person; no payload, token or header.
    #[serde(deserialize_with = "lenient")]
    pub text: String,
}

/// A line of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogLine {
    /// When.
    #[serde(deserialize_with = "number")]
    pub at_ms: u64,
    /// `error`, `warn`, `info`.
    #[serde(deserialize_with = "lenient")]
    pub level: String,
    /// What.
    #[serde(deserialize_with = "lenient")]
    pub text: String,
}

/// How long events took, as a histogram.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Latency {
    /// How many took at most each of [`LATENCY_BOUNDS_MS`] and more than the one before; the last: longer than all.
    #[serde(deserialize_with = "lenient")]
    pub counts: Vec<u64>,
    /// Milliseconds of all together.
    #[serde(deserialize_with = "number")]
    pub sum_ms: u64,
}

impl Latency {
    /// Counts one event.
    pub fn add(&mut self, took_ms: u64) {
        self.counts.resize(LATENCY_BOUNDS_MS.len() + 1, 0);
        let place = LATENCY_BOUNDS_MS.partition_point(|bound| *bound < took_ms);
        self.counts[place] += 1;
        self.sum_ms = self.sum_ms.saturating_add(took_ms);
    }

    /// The bound below which `share` (0 to 1) of the events lie; `None` when there are none, or it lies above all bounds.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> Option<u64> {
        let total: u64 = self.counts.iter().sum();
        let mut below = 0;
        for (bound, count) in LATENCY_BOUNDS_MS.iter().zip(&self.counts) {
            below += count;
            #[expect(clippy::cast_precision_loss, reason = "a share of a count need not be exact")]
            if *count > 0 && below as f64 >= share * total as f64 {
                return Some(*bound);
            }
        }
        None
    }

    fn within_bounds(&mut self) {
        self.counts.resize(LATENCY_BOUNDS_MS.len() + 1, 0);
        // Such counts are no counts, and their sum must not overflow.
        self.counts.iter_mut().for_each(|count| *count = (*count).min(u64::from(u32::MAX) << 16));
    }
}

impl SourceInfo {
    pub(super) fn within_bounds(&mut self) {
        cut(&mut self.kind, MAX_NAME_CHARS);
        cut_names(&mut self.sinks);
        self.wired_to.iter_mut().for_each(Wiring::within_bounds);
        keep_first(&mut self.dropped, MAX_LISTED);
        self.paused.iter_mut().for_each(|text| cut(text, MAX_TEXT_CHARS));
        self.last_error.iter_mut().for_each(|error| cut(&mut error.text, MAX_TEXT_CHARS));
        cut_logs(&mut self.recent_logs);
    }
}

impl SinkInfo {
    pub(super) fn within_bounds(&mut self) {
        cut(&mut self.kind, MAX_NAME_CHARS);
        cut(&mut self.target, MAX_TEXT_CHARS);
        self.wired_to.iter_mut().for_each(Wiring::within_bounds);
        keep_first(&mut self.dropped, MAX_LISTED);
        self.paused.iter_mut().for_each(|text| cut(text, MAX_TEXT_CHARS));
        self.last_error.iter_mut().for_each(|error| cut(&mut error.text, MAX_TEXT_CHARS));
        self.latency.iter_mut().for_each(Latency::within_bounds);
        cut_logs(&mut self.recent_logs);
    }
}

impl Wiring {
    fn within_bounds(&mut self) {
        cut(&mut self.relay, MAX_TEXT_CHARS);
        cut_names(&mut self.buckets);
    }
}

fn cut_names(names: &mut Vec<String>) {
    names.truncate(MAX_LISTED);
    names.iter_mut().for_each(|name| cut(name, MAX_NAME_CHARS));
}

fn cut_logs(lines: &mut Vec<LogLine>) {
    lines.drain(..lines.len().saturating_sub(MAX_LOG_LINES));
    for line in lines {
        cut(&mut line.level, MAX_NAME_CHARS);
        cut(&mut line.text, MAX_TEXT_CHARS);
    }
}

/// Keeps the first `most` entries; names that are too long are no names.
pub(super) fn keep_first<V>(map: &mut BTreeMap<String, V>, most: usize) {
    map.retain(|name, _| name.chars().count() <= MAX_NAME_CHARS);
    while map.len() > most {
        map.pop_last();
    }
}

/// Cuts a text off after `most` characters.
pub(super) fn cut(text: &mut String, most: usize) {
    if let Some((at, _)) = text.char_indices().nth(most) {
        text.truncate(at);
    }
}
