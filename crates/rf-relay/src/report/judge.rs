//! What is wrong, and why, in sentences.
//!
//! Pure functions: from figures and thresholds to sentences. The order of a list is worst first.

use std::time::Duration;

use rf_core::node_info::{DEFAULT_EVERY_SECS, LastError, QueueInfo, SinkInfo, SourceInfo};
use rf_queue::StoreTrouble;

use super::{BucketReport, DiskRoom, Level, Why, ago, bytes, count, percent, span};
use crate::config::{Thresholds, WhenFull};
use crate::nodes::{Node, drops, is_loss};
use crate::stats::{FORGET_AFTER_SECS, RefusedCall};

/// Who has been silent for so long is forgotten.
const REMEMBERED: Duration = Duration::from_secs(FORGET_AFTER_SECS);

/// A queue or bucket so full is bad, from `fillPercent` on it only warns.
const ALMOST_FULL_PERCENT: u64 = 95;

/// An event that is so far ahead of the clock was stored while a clock was wrong.
const AHEAD: Duration = Duration::from_secs(3600);

/// What is known of a bucket besides its report.
pub(super) struct BucketFacts<'a> {
    pub(super) failure: Option<&'a str>,
    pub(super) trouble: Option<&'a StoreTrouble>,
    pub(super) when_full: WhenFull,
    /// Events dropped, and batches refused, lately.
    pub(super) losses: (u64, u64),
    pub(super) now_ms: u64,
}

/// The sentences about a bucket.
pub(super) fn bucket(
    bucket: &BucketReport,
    facts: &BucketFacts<'_>,
    limits: &Thresholds,
) -> Vec<Why> {
    let mut why = Reasons::default();
    if let Some(failure) = facts.failure {
        why.add(Level::Bad, "unavailable", format!("cannot be opened: {failure}"));
    }
    if let Some(trouble) = facts.trouble {
        let lasts = ago(trouble.since_ms, facts.now_ms);
        let text = format!("its database does not work: {} (for {lasts})", trouble.text);
        why.add(Level::Bad, "disk", text);
    }
    let fill = bucket.fill();
    // One that drops its oldest is full by design.
    if facts.when_full == WhenFull::Reject && fill >= u64::from(limits.fill_percent) {
        let level = almost_full(fill);
        let text = format!(
            "is {fill} % full: {} of {} for events",
            bytes(bucket.used_bytes),
            bytes(bucket.events_limit())
        );
        why.add(level, "filling", text);
    }
    let (dropped, refused) = facts.losses;
    if dropped > 0 {
        let counts = [
            ("full", bucket.dropped_full),
            ("age", bucket.dropped_age),
            ("damaged", bucket.dropped_damaged),
        ];
        let text = format!("dropped {} lately{}", events(dropped), reasons(counts.into_iter()));
        why.add(Level::Bad, "drops", text);
    }
    if refused > 0 {
        let text = format!(
            "was full and refused {} {} lately; their senders keep them",
            count(refused),
            if refused == 1 { "batch" } else { "batches" }
        );
        why.add(Level::Warn, "refused", text);
    }
    if let Some(at_ms) = too_old(bucket.oldest_at_ms, facts.now_ms, limits) {
        let reader = match bucket.asked_at_ms {
            None => "nobody has ever asked for it".to_owned(),
            Some(asked) => format!("last asked for {} ago", ago(asked, facts.now_ms)),
        };
        let waits = ago(at_ms, facts.now_ms);
        // Slow, but moving.
        let (level, reader) = match bucket.tx_per_minute {
            0 => (Level::Bad, reader),
            rate => (Level::Warn, format!("{} per minute go out", events(rate))),
        };
        why.add(level, "oldest", format!("its oldest event has waited for {waits}; {reader}"));
    }
    if let Some(ahead) = ahead(bucket.oldest_at_ms, facts.now_ms) {
        why.add(Level::Warn, "clock", format!("its oldest event {ahead}"));
    }
    why.sorted()
}

/// After so long without a message a node is silent.
pub(super) fn silent_after(node: &Node, limits: &Thresholds) -> Duration {
    let every = match node.info.every_secs {
        0 => DEFAULT_EVERY_SECS,
        every => every,
    };
    limits.node_silent_after.max(Duration::from_secs(every.saturating_mul(3)))
}

/// The sentence about a node that does not tell of itself any more, and whose last call was refused, if it was.
pub(super) fn silent(silence: Duration, refused: Option<&RefusedCall>) -> Why {
    let reason = refused.map_or_else(
        || "stopped, or cannot reach the relay".to_owned(),
        |call| format!("it calls, but {}", wrong_token(call)),
    );
    let text = format!("silent for {}: {reason}", span(silence));
    Why { level: Level::Bad, key: "silent".to_owned(), text }
}

/// The sentence about a host in whose name somebody calls with a wrong token. Anybody can do that, so it is no more than a
/// warning.
pub(super) fn refused(call: &RefusedCall) -> Why {
    let text = format!("calls in its name are refused: {}", wrong_token(call));
    Why { level: Level::Warn, key: "token".to_owned(), text }
}

fn wrong_token(call: &RefusedCall) -> String {
    match &call.buckets {
        Some(buckets) => format!("its token for {buckets} is wrong"),
        None => "it names no bucket that exists".to_owned(),
    }
}

/// The sentence about a node that is not there, of a relay that has listened for so long.
pub(super) fn missing(listened: Duration) -> Why {
    let since = if listened < REMEMBERED {
        format!("in the {} since the relay started", span(listened))
    } else {
        "within the last hour".to_owned()
    };
    let text = format!("missing: expected (expectedNodes), and not heard of {since}");
    Why { level: Level::Bad, key: "silent".to_owned(), text }
}

/// The sentences about a node as a whole, from what it told last.
pub(super) fn node(node: &Node, now_ms: u64, limits: &Thresholds) -> Vec<Why> {
    let mut why = Reasons::default();
    let since_secs = (now_ms / 1000).saturating_sub(limits.losses_for.as_secs());
    let (dropped, dead) = node.past.losses_since(since_secs);
    if dropped > 0 {
        let lost = drops(&node.info).filter(|(reason, _)| is_loss(reason));
        let text = format!("dropped {} lately{}", events(dropped), reasons(lost));
        why.add(Level::Bad, "drops", text);
    }
    if dead > 0 {
        let what = if dead == 1 { "a dead letter" } else { "dead letters" };
        let text = format!("{} became {what} lately", events(dead));
        why.add(Level::Warn, "deadLetters", text);
    }
    let skew = Duration::from_millis(node.past.skew_ms.unsigned_abs());
    if limits.clock_skew.is_some_and(|limit| skew > limit) {
        let way = if node.past.skew_ms > 0 { "ahead of" } else { "behind" };
        why.add(Level::Warn, "clock", format!("its clock is {} {way} the relay's", span(skew)));
    }
    let disk = whole(node.info.disk_used_pct);
    if disk >= u64::from(limits.disk_percent) {
        let free = bytes(node.info.disk_free);
        why.add(almost_full(disk), "disk", format!("its disk is {disk} % full, {free} free"));
    }
    why.sorted()
}

/// The sentences about the relay itself: those about its disk, as of a node.
pub(super) fn relay(disk: Option<&DiskRoom>, limits: &Thresholds) -> Vec<Why> {
    let mut why = Reasons::default();
    if let Some(disk) = disk
        && disk.percent >= u64::from(limits.disk_percent)
    {
        let text = format!("its disk is {} % full, {} free", disk.percent, bytes(disk.free));
        why.add(almost_full(disk.percent), "disk", text);
    }
    why.sorted()
}

/// The sentences about a source.
pub(super) fn source(id: &str, source: &SourceInfo) -> Vec<Why> {
    let mut why = Reasons::default();
    if let Some(paused) = &source.paused {
        let text = format!("source {id} is paused: {paused}");
        why.add(Level::Bad, &format!("source {id} paused"), text);
    } else if let Some(error) = standing(source.last_error.as_ref(), source.last_success_at_ms) {
        let text = format!("source {id} fails: {}", error.text);
        why.add(Level::Warn, &format!("source {id} fails"), text);
    }
    why.sorted()
}

/// What is known of a sink besides what it told.
pub(super) struct SinkFacts {
    /// By the relay's clock.
    pub(super) oldest_at_ms: Option<u64>,
    pub(super) per_minute: u64,
    pub(super) now_ms: u64,
}

/// The sentences about a sink.
pub(super) fn sink(id: &str, sink: &SinkInfo, facts: &SinkFacts, limits: &Thresholds) -> Vec<Why> {
    let now_ms = facts.now_ms;
    let mut why = Reasons::default();
    let error = standing(sink.last_error.as_ref(), sink.last_success_at_ms);
    let stuck = too_old(facts.oldest_at_ms, now_ms, limits);
    if let Some(paused) = &sink.paused {
        let text = format!("sink {id} is paused until somebody acts: {paused}");
        why.add(Level::Bad, &format!("sink {id} paused"), text);
    } else if let Some(at_ms) = stuck {
        let cause = error.map(|error| format!(": {}", error.text)).unwrap_or_default();
        let text =
            format!("the oldest event of sink {id} has waited for {}{cause}", ago(at_ms, now_ms));
        let level = if facts.per_minute > 0 { Level::Warn } else { Level::Bad };
        why.add(level, &format!("sink {id} oldest"), text);
    } else if let Some(error) = error
        && sink.queue.events > 0
    {
        let text = format!("sink {id} cannot deliver and tries again: {}", error.text);
        why.add(Level::Warn, &format!("sink {id} fails"), text);
    }
    if let Some(ahead) = ahead(facts.oldest_at_ms, now_ms) {
        let text = format!("the oldest event of sink {id} {ahead}");
        why.add(Level::Warn, &format!("sink {id} clock"), text);
    }
    let fill = fill(&sink.queue);
    if fill >= u64::from(limits.fill_percent) {
        let text = format!(
            "the queue of sink {id} is {fill} % full: {} of {}",
            bytes(sink.queue.bytes),
            bytes(sink.queue.max_bytes)
        );
        why.add(almost_full(fill), &format!("sink {id} filling"), text);
    }
    why.sorted()
}

/// The error, if nothing went well after it.
pub(super) fn standing(
    error: Option<&LastError>,
    last_success_at_ms: Option<u64>,
) -> Option<&LastError> {
    error.filter(|error| last_success_at_ms.is_none_or(|success| success < error.at_ms))
}

/// Per cent of a queue.
pub(super) fn fill(queue: &QueueInfo) -> u64 {
    percent(queue.bytes, queue.max_bytes)
}

fn too_old(oldest_at_ms: Option<u64>, now_ms: u64, limits: &Thresholds) -> Option<u64> {
    let limit = limits.oldest_event?;
    oldest_at_ms.filter(|at| Duration::from_millis(now_ms.saturating_sub(*at)) > limit)
}

/// Of an event whose time is far ahead of the clock.
fn ahead(oldest_at_ms: Option<u64>, now_ms: u64) -> Option<String> {
    let by = Duration::from_millis(oldest_at_ms?.saturating_sub(now_ms));
    (by > AHEAD).then(|| {
        let by = span(by);
        format!("was stored while a clock was wrong: its time is {by} ahead, so it is unknown how long it has waited")
    })
}

fn almost_full(percent: u64) -> Level {
    if percent >= ALMOST_FULL_PERCENT { Level::Bad } else { Level::Warn }
}

/// A per cent that was told, which is within 0 and 100.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is a finite number from 0 to 100"
)]
fn whole(percent: f64) -> u64 {
    percent as u64
}

fn events(number: u64) -> String {
    if number == 1 { "1 event".to_owned() } else { format!("{} events", count(number)) }
}

/// ` (full)`: what it has dropped for, if it has ever been for one reason only. How often it was lately is not known of each.
fn reasons<'a>(drops: impl Iterator<Item = (&'a str, u64)>) -> String {
    let mut reasons: Vec<&str> =
        drops.filter(|(_, count)| *count > 0).map(|(reason, _)| reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    if let [only] = reasons[..] { format!(" ({only})") } else { String::new() }
}

#[derive(Default)]
struct Reasons(Vec<Why>);

impl Reasons {
    fn add(&mut self, level: Level, key: &str, text: String) {
        self.0.push(Why { level, key: key.to_owned(), text });
    }

    fn sorted(mut self) -> Vec<Why> {
        self.0.sort_by_key(|why| std::cmp::Reverse(why.level));
        self.0
    }
}
