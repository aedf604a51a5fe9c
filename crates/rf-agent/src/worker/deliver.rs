//! One batch until its end: tried, waited for, tried again, and given up only where the sink's shape allows it.

use std::sync::Arc;
use std::time::Duration;

use rf_core::backoff::Backoff;
use rf_core::clock::unix_ms;

use super::Worker;
use crate::sink::{SinkBatch, SinkError};

/// First and longest pause between tries of a sink that waits for a person: what is mended soon goes on soon.
const PAUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What became of a batch.
pub(super) enum DeliveryOutcome {
    /// The target has it.
    Delivered,
    /// Nothing of it is to be sent.
    Dropped,
    /// It will never be taken; why, and after how many tries.
    Dead(String, u32),
    /// The agent stops before it was delivered: it stays in the queue.
    Kept,
}

/// Writes the batch until its [`DeliveryOutcome`] is certain. A write in progress at the stop is finished, not cut: the target
/// may be taking it just now.
pub(super) async fn deliver(worker: &Worker, batch: &SinkBatch) -> DeliveryOutcome {
    let shape = worker.sink.shape();
    let mut backoff = Backoff::new(shape.backoff.0, shape.backoff.1);
    let mut paused = Backoff::new(PAUSED.0, PAUSED.1);
    let (mut attempts, mut tries) = (0, 0);
    loop {
        // An answer that comes during the try itself counts, too.
        let reached = worker.reached.notified();
        attempts += 1;
        tries += 1;
        let error = match worker.sink.write(batch).await {
            Ok(()) => return delivered(worker, batch, tries),
            Err(SinkError::TooLarge(reason)) if batch.events.len() > 1 => {
                return DeliveryOutcome::Dead(reason, attempts);
            }
            Err(error) => error,
        };
        // Away, or something before it that says so; not one that has said when it wants to be asked again.
        let is_away = matches!(error, SinkError::Away(_) | SinkError::Retry { after: None, .. });
        let pause = match error {
            SinkError::Permanent(reason) => return DeliveryOutcome::Dead(reason, attempts),
            SinkError::Dropped { reason, failed } => {
                return dropped(worker, batch, &reason, failed);
            }
            SinkError::TooLarge(reason) | SinkError::Paused(reason) => {
                worker.meter.paused(&reason);
                worker.trace.retried(batch, tries, &reason);
                let state = change(worker);
                tracing::error!(
                    sink = worker.id,
                    error = reason,
                    state,
                    "sink is paused until this is fixed; its events are kept"
                );
                paused.next_delay()
            }
            SinkError::Retry { reason, after } => {
                if let Some(why) = given_up(worker, batch, attempts) {
                    return DeliveryOutcome::Dead(format!("{why}: {reason}"), attempts);
                }
                let state = failed(worker, batch, tries, &reason);
                tracing::warn!(
                    sink = worker.id,
                    error = reason,
                    state,
                    "delivery failed, trying again"
                );
                backoff.next_delay().max(after.unwrap_or_default())
            }
            SinkError::Away(reason) => {
                attempts -= 1;
                if let Some(why) = too_old(worker, batch) {
                    return DeliveryOutcome::Dead(format!("{why}: {reason}"), attempts);
                }
                let state = failed(worker, batch, tries, &reason);
                tracing::warn!(
                    sink = worker.id,
                    error = reason,
                    state,
                    "destination cannot be reached, trying again"
                );
                backoff.next_delay()
            }
        };
        tokio::select! {
            () = worker.stop.cancelled() => return DeliveryOutcome::Kept,
            () = tokio::time::sleep(pause) => {}
            () = reached, if is_away => {}
        }
    }
}

/// Counts and notes that the target has the batch, and tells it where it had failed before.
fn delivered(worker: &Worker, batch: &SinkBatch, tries: u32) -> DeliveryOutcome {
    if worker.meter.health.mark_up() {
        tracing::info!(sink = worker.id, tries, state = "up", "sink works again");
    }
    let records = batch.events.len();
    tracing::debug!(sink = worker.id, batch = batch.id, records, tries, "batch delivered");
    let now = unix_ms();
    worker.meter.delivered(&batch.events, now);
    let (meter, trace) = (Arc::clone(&worker.meter), worker.trace.clone());
    let is_relay = worker.sink.wired_to().is_some();
    worker.notes.take(batch, move |batch| {
        meter.took(&batch.marks().captured_ms, now);
        trace.delivered(batch, tries, is_relay);
    });
    DeliveryOutcome::Delivered
}

/// Counts and notes that nothing of the batch is to be sent.
fn dropped(worker: &Worker, batch: &SinkBatch, reason: &str, failed: bool) -> DeliveryOutcome {
    worker.meter.dropped(batch.events.len(), failed);
    worker.trace.dropped(batch, reason);
    DeliveryOutcome::Dropped
}

/// Counts and notes a failed try; the state for the log.
fn failed(worker: &Worker, batch: &SinkBatch, tries: u32, reason: &str) -> Option<&'static str> {
    worker.meter.retried(batch.events.len(), reason);
    worker.trace.retried(batch, tries, reason);
    change(worker)
}

/// `down` at the first failure since the sink worked: that is told each time, its repeats are muted.
fn change(worker: &Worker) -> Option<&'static str> {
    worker.meter.health.mark_down().then_some("down")
}

fn given_up(worker: &Worker, batch: &SinkBatch, attempts: u32) -> Option<String> {
    let shape = worker.sink.shape();
    if shape.max_attempts.is_some_and(|most| attempts >= most) {
        return Some(format!("given up after {attempts} attempts"));
    }
    too_old(worker, batch)
}

fn too_old(worker: &Worker, batch: &SinkBatch) -> Option<String> {
    let age = batch.events.first().map(|event| age_of(event.at_ms)).unwrap_or_default();
    worker
        .sink
        .shape()
        .max_age
        .filter(|most| age > *most)
        .map(|most| format!("given up {age:?} after it was queued, the limit is {most:?}"))
}

/// How long ago an event was queued; zero where the clock has gone back since.
pub(super) fn age_of(at_ms: u64) -> Duration {
    Duration::from_millis(unix_ms().saturating_sub(at_ms))
}
