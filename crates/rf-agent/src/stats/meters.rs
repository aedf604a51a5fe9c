//! What sources and sinks count.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rf_core::clock::unix_ms;
use rf_core::node_info::{LATENCY_BOUNDS_MS, LastError, Latency};
use rf_queue::StoredEvent;

use super::losses::{Loss, Losses};

/// As much of the last message as the original shows.
const LAST_MESSAGE_CHARS: usize = 15;
/// Why a source is paused while somebody waits for room.
const BLOCKED: &str = "queue full: a queue with whenFull: block has no room";

/// A count of the running minute, and of all.
#[derive(Debug, Default)]
pub(crate) struct MinuteCount {
    all: AtomicU64,
    /// The minute since 1970, and what was counted before it.
    minute: AtomicU64,
    before: AtomicU64,
}

impl MinuteCount {
    fn add(&self, count: u64, now_ms: u64) {
        self.turn(now_ms);
        self.all.fetch_add(count, Ordering::Relaxed);
    }

    /// Two threads at the turn of a minute may count a few into the wrong one.
    fn turn(&self, now_ms: u64) {
        let minute = now_ms / 60_000;
        if self.minute.swap(minute, Ordering::Relaxed) != minute {
            self.before.store(self.all(), Ordering::Relaxed);
        }
    }

    pub(crate) fn all(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }

    pub(crate) fn this_minute(&self, now_ms: u64) -> u64 {
        self.turn(now_ms);
        self.all().saturating_sub(self.before.load(Ordering::Relaxed))
    }
}

/// Whether a source or sink works: its last success and last error, whether it is paused, and whether it is down.
#[derive(Debug, Default)]
pub(crate) struct Health {
    success_at_ms: AtomicU64,
    error: Mutex<Option<LastError>>,
    /// Looked at before the lock, since every success asks.
    is_paused: AtomicBool,
    paused: Mutex<Option<String>>,
    /// Why its own queue cannot be read or written.
    queue: Mutex<Option<String>>,
    /// How many wait for room in a queue that blocks.
    blocked: AtomicUsize,
    /// From the first failure to the next success, for the log.
    is_down: AtomicBool,
}

impl Health {
    fn record_success(&self, now_ms: u64) {
        self.success_at_ms.store(now_ms, Ordering::Relaxed);
        self.resume();
    }

    /// Ends a pause, if there is one.
    fn resume(&self) {
        if self.is_paused.load(Ordering::Relaxed) && self.is_paused.swap(false, Ordering::Relaxed) {
            *self.paused.lock() = None;
        }
    }

    fn pause(&self, reason: &str) {
        *self.paused.lock() = Some(reason.to_owned());
        self.is_paused.store(true, Ordering::Relaxed);
    }

    fn record_failure(&self, text: &str) {
        *self.error.lock() = Some(LastError { at_ms: unix_ms(), text: text.to_owned() });
    }

    /// Notes a failure; true when it is the first one since the last success.
    pub(crate) fn mark_down(&self) -> bool {
        !self.is_down.swap(true, Ordering::Relaxed)
    }

    /// It has failed, and has not worked since.
    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Notes a success; true when it is the first one after a failure.
    pub(crate) fn mark_up(&self) -> bool {
        self.is_down.load(Ordering::Relaxed) && self.is_down.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn last_success_at_ms(&self) -> Option<u64> {
        Some(self.success_at_ms.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    pub(crate) fn last_error(&self) -> Option<LastError> {
        self.error.lock().clone()
    }

    pub(crate) fn paused(&self) -> Option<String> {
        let blocked = || (self.blocked.load(Ordering::Relaxed) > 0).then(|| BLOCKED.to_owned());
        self.queue.lock().clone().or_else(|| self.paused.lock().clone()).or_else(blocked)
    }

    /// What is wrong now: why it is paused, or that nothing went well after the last error. The text of an error is left
    /// out, since the next try may have another.
    pub(crate) fn trouble(&self) -> Option<String> {
        let success = self.success_at_ms.load(Ordering::Relaxed);
        let fails = || self.error.lock().as_ref().is_some_and(|error| error.at_ms > success);
        self.paused().or_else(|| fails().then(|| "fails".to_owned()))
    }
}

/// Somebody waits for room in a queue that blocks, as long as this is there.
pub(crate) struct Blocked<'a>(&'a AtomicUsize);

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a source counted since the start.
#[derive(Debug, Default)]
pub(crate) struct SourceMeter {
    pub(crate) stored: MinuteCount,
    /// When an event was stored last. That its origin answered may be later.
    stored_at_ms: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// What no queue holds, nor ever will.
    pub(crate) losses: Losses,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) cut_lines: AtomicU64,
    pub(crate) health: Health,
}

impl SourceMeter {
    /// A batch was committed.
    pub(crate) fn stored(&self, events: u64, bytes: u64) {
        let now = unix_ms();
        self.stored.add(events, now);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if events > 0 {
            self.stored_at_ms.store(now, Ordering::Relaxed);
        }
        self.health.record_success(now);
    }

    /// When the last event was stored.
    pub(crate) fn last_stored_at_ms(&self) -> Option<u64> {
        Some(self.stored_at_ms.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// A batch was refused for now.
    pub(crate) fn refused(&self, events: u64, reason: &str) {
        self.refused.fetch_add(events, Ordering::Relaxed);
        self.health.record_failure(reason);
    }

    /// Its origin answers, also where it had nothing to give.
    pub(crate) fn works(&self) {
        self.health.record_success(unix_ms());
    }

    /// Its origin does not answer; it is asked again.
    pub(crate) fn failed(&self, reason: &str) {
        self.health.record_failure(reason);
    }

    /// Nothing comes until a person acts.
    pub(crate) fn paused(&self, reason: &str) {
        self.health.record_failure(reason);
        self.health.pause(reason);
    }

    /// The source is paused as long as the answer is held.
    pub(crate) fn blocked(&self) -> Blocked<'_> {
        self.health.blocked.fetch_add(1, Ordering::Relaxed);
        Blocked(&self.health.blocked)
    }

    /// Nothing comes until a queue has room.
    pub(crate) fn waits_for_room(&self, reason: &str) {
        self.health.pause(&format!("queue full: {reason}"));
    }

    /// An event can never be stored, and whoever brought it was refused.
    pub(crate) fn too_large(&self, reason: &str) {
        self.losses.count(Loss::TooLarge, 1);
        self.health.record_failure(reason);
    }

    /// Events became dead letters before they came to a queue.
    pub(crate) fn dead_lettered(&self, events: u64, reason: &str) {
        self.dead_lettered.fetch_add(events, Ordering::Relaxed);
        self.health.record_failure(reason);
    }

    /// Lines were longer than they may be; only their beginnings are kept.
    pub(crate) fn cut(&self, lines: usize) {
        self.cut_lines.fetch_add(lines as u64, Ordering::Relaxed);
    }
}

/// What a sink counted since the start.
#[derive(Debug, Default)]
pub(crate) struct SinkMeter {
    pub(crate) delivered: MinuteCount,
    pub(crate) batches: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    /// Events that a script of the sink wanted not to be sent.
    pub(crate) dropped_by_script: AtomicU64,
    /// Events that a script of the sink failed over, with `onError: drop`.
    pub(crate) dropped_on_error: AtomicU64,
    pub(crate) health: Health,
    latency: [AtomicU64; LATENCY_BOUNDS_MS.len() + 1],
    latency_sum_ms: AtomicU64,
    last_message: Mutex<String>,
}

impl SinkMeter {
    /// The target has a batch. To be told besides: how long its events [took](Self::took).
    pub(crate) fn delivered(&self, events: &[StoredEvent], now: u64) {
        self.delivered.add(events.len() as u64, now);
        self.batches.fetch_add(1, Ordering::Relaxed);
        let bytes: usize = events.iter().map(|event| event.content.len()).sum();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.health.record_success(now);
        if let Some(last) = events.last() {
            let start = last.content.get(..LAST_MESSAGE_CHARS * 4).unwrap_or(&last.content);
            let mut message = self.last_message.lock();
            message.clear();
            message.extend(String::from_utf8_lossy(start).chars().take(LAST_MESSAGE_CHARS));
        }
    }

    /// How long events that were delivered `now` have taken since they were captured, then.
    pub(crate) fn took(&self, captured_ms: &[u64], now: u64) {
        let (mut counts, mut sum_ms) = ([0; LATENCY_BOUNDS_MS.len() + 1], 0);
        for captured in captured_ms {
            let took = now.saturating_sub(*captured);
            counts[LATENCY_BOUNDS_MS.partition_point(|bound| *bound < took)] += 1;
            sum_ms += took;
        }
        for (all, count) in self.latency.iter().zip(counts).filter(|(_, count)| *count > 0) {
            all.fetch_add(count, Ordering::Relaxed);
        }
        self.latency_sum_ms.fetch_add(sum_ms, Ordering::Relaxed);
    }

    /// Events left the queue and were not sent: a script wanted it so, or `failed` over them.
    pub(crate) fn dropped(&self, events: usize, failed: bool) {
        let counter = if failed { &self.dropped_on_error } else { &self.dropped_by_script };
        counter.fetch_add(events as u64, Ordering::Relaxed);
        self.health.resume();
    }

    /// A batch is tried again.
    pub(crate) fn retried(&self, events: usize, reason: &str) {
        self.retried.fetch_add(events as u64, Ordering::Relaxed);
        self.health.record_failure(reason);
    }

    /// Its queue cannot be read or written, or can again.
    pub(crate) fn queue_refuses(&self, reason: Option<&str>) {
        *self.health.queue.lock() =
            reason.map(|reason| format!("its queue cannot be read or written: {reason}"));
    }

    /// Nothing is delivered until a person acts.
    pub(crate) fn paused(&self, reason: &str) {
        self.health.record_failure(reason);
        self.health.pause(reason);
    }

    /// An event became a dead letter.
    pub(crate) fn dead_lettered(&self, reason: &str) {
        self.dead_lettered.fetch_add(1, Ordering::Relaxed);
        self.health.record_failure(reason);
    }

    pub(crate) fn latency(&self) -> Option<Latency> {
        let counts: Vec<u64> =
            self.latency.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let any = counts.iter().any(|count| *count > 0);
        any.then(|| Latency { counts, sum_ms: self.latency_sum_ms.load(Ordering::Relaxed) })
    }

    pub(crate) fn last_message(&self) -> String {
        self.last_message.lock().clone()
    }
}

/// Counts that are not zero, by reason.
pub(crate) fn by_reason(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let some = counts.iter().filter(|(_, count)| *count > 0);
    some.map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_begins_anew() {
        let count = MinuteCount::default();
        count.add(3, 60_000);
        count.add(2, 119_999);
        assert_eq!((count.this_minute(119_999), count.all()), (5, 5));
        assert_eq!(count.this_minute(120_000), 0);
        count.add(1, 120_001);
        assert_eq!((count.this_minute(120_002), count.all()), (1, 6));
    }

    #[test]
    fn an_origin_that_has_nothing_to_give_brings_no_message() {
        let meter = SourceMeter::default();
        meter.works();
        meter.stored(0, 0);
        assert_eq!(meter.last_stored_at_ms(), None);
        assert!(meter.health.last_success_at_ms().is_some());
        meter.stored(1, 5);
        let stored = meter.last_stored_at_ms();
        assert!(stored.is_some());
        meter.works();
        assert_eq!(meter.last_stored_at_ms(), stored);
    }

    #[test]
    fn what_is_delivered_is_counted_with_its_latency() {
        let meter = SinkMeter::default();
        let now = unix_ms();
        let content = br#"{"ip":"203.0.113.7"}"#[..].into();
        meter.paused("401: wrong token");
        assert!(meter.health.paused().is_some());
        let events = [StoredEvent { id: 1, at_ms: 1, content, attempts: 0 }];
        meter.delivered(&events, now);
        meter.took(&[now - 40], now);
        assert_eq!(
            (meter.delivered.all(), meter.last_message().as_str()),
            (1, "{\"ip\":\"203.0.11")
        );
        assert_eq!(meter.health.paused(), None, "a success ends a pause");
        let latency = meter.latency().unwrap();
        assert_eq!(latency.counts.iter().sum::<u64>(), 1);
        assert_eq!(latency.sum_ms, 40);
    }
}
