//! How a queue is emptied into a sink: the only place that knows about batches, retries, rates and dead letters.
//!
//! An event leaves the queue in one of three ways, each in a transaction: delivered ([`rf_queue::Commit::removes`]), dead
//! ([`rf_queue::Commit::dead`]), or dropped by the queue's own limits. Killed at any point, what had not left is read again
//! at the next start.
//!
//! Two loops: [`batched`] for sinks whose batches must be repeated as they were (a relay), strictly one after the other;
//! [`concurrent`] for sinks that take single events, several at a time.

mod batched;
mod concurrent;
mod deliver;
mod delivery;
mod rate;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rf_queue::{Bury, CommitError, QueueId, Store, StoreError, StoredEvent};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::sink::Sink;
use crate::stats::SinkMeter;
use crate::trace::Trace;

/// How long a stopping worker goes on delivering what is queued, as long as every try succeeds. The rest stays on disk.
const FLUSH: Duration = Duration::from_secs(5);
/// Pause after the queue's database refused.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// A sink with its queue.
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) store: Store,
    pub(crate) queue: QueueId,
    pub(crate) stop: CancellationToken,
    pub(crate) meter: Arc<SinkMeter>,
    /// Told when a target that could not be reached has answered somebody else.
    pub(crate) reached: Arc<Notify>,
    pub(crate) trace: Trace,
    pub(crate) observer: Option<crate::agent::Observer>,
}

/// Why a worker's turn was cut short.
pub(crate) enum Interrupted {
    /// The store is closed.
    Closed,
    /// The database refused; after a pause the worker starts over from what is on disk.
    Store(String),
}

impl From<StoreError> for Interrupted {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::Closed,
            StoreError::Failed(reason) => Self::Store(reason),
        }
    }
}

impl From<CommitError> for Interrupted {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Closed => Self::Closed,
            other => Self::Store(other.to_string()),
        }
    }
}

impl Worker {
    /// Delivers until `stop`, then for up to [`FLUSH`] what is left.
    pub(crate) async fn run(self) {
        loop {
            let turn = if self.sink.shape().stable {
                batched::run(&self).await
            } else {
                concurrent::run(&self).await
            };
            match turn {
                Ok(()) | Err(Interrupted::Closed) => return,
                Err(Interrupted::Store(reason)) => {
                    tracing::error!(
                        sink = self.id,
                        error = reason,
                        "the queue cannot be read or written, trying again"
                    );
                    if self.pause(STORE_PAUSE).await {
                        return;
                    }
                }
            }
        }
    }

    /// An event is given up: counted, noted, told, and in the next commit of the worker.
    fn give_up(&self, event: &StoredEvent, reason: String, attempts: u32) -> Bury {
        self.meter.dead_lettered(&reason);
        self.trace.buried(&event.content, attempts, &reason);
        tracing::error!(sink = self.id, reason, "event moved to the dead letters");
        Bury { queue: self.queue, id: event.id, reason, attempts }
    }

    /// Waits; true when the agent stops meanwhile.
    async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => true,
            () = tokio::time::sleep(time) => false,
        }
    }
}

/// The end of the flush: never, until the stop has come.
pub(crate) struct FlushTimer {
    stop: CancellationToken,
    until: Option<Instant>,
}

impl FlushTimer {
    pub(crate) fn new(stop: &CancellationToken) -> Self {
        Self { stop: stop.clone(), until: None }
    }

    /// Whether no new batch may be begun.
    pub(crate) fn is_over(&mut self) -> bool {
        if !self.stop.is_cancelled() {
            return false;
        }
        let until = *self.until.get_or_insert_with(|| Instant::now() + FLUSH);
        Instant::now() >= until
    }
}
