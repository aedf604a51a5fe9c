//! How a queue is emptied into a sink: the only place that knows about batches, retries, rates and dead letters.
//!
//! An event leaves the queue in one of four ways, each in a transaction: delivered, or dropped by a script of the sink (both
//! [`rf_queue::Commit::removes`]), dead ([`rf_queue::Commit::dead`]), or dropped by the queue's own limits. Killed at any
//! point, what had not left is read again at the next start.
//!
//! Two loops: [`batched`] for sinks whose batches must be repeated as they were (a relay), strictly one after the other;
//! [`concurrent`] for sinks that take single events, several at a time.

mod batched;
mod concurrent;
mod deliver;
mod delivery;
mod done;
mod notes;
mod rate;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rf_queue::{CommitError, QueueId, Store, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::done::Done;
pub(crate) use self::notes::Notes;
use crate::sink::{Sink, Writes};
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
    pub(crate) notes: Notes,
    pub(crate) observer: Option<crate::agent::Observer>,
}

/// Why something was not done in the queue.
pub(crate) enum Interrupted {
    /// The store is closed.
    Closed,
    /// The database refused.
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
    /// Delivers until `stop`, then for up to [`FLUSH`] what is left. A queue that cannot be read or written is asked again
    /// until it can be, and what was delivered meanwhile is not delivered again.
    pub(crate) async fn run(self) {
        let turn = self.turn().await;
        if let Err(Interrupted::Store(reason)) = turn {
            self.refused(&reason, None);
        }
    }

    async fn turn(&self) -> Result<(), Interrupted> {
        Done::recover(self).await?;
        match &self.sink.shape().writes {
            Writes::Batches(batching) => batched::run(self, batching).await,
            Writes::Singles { concurrency } => concurrent::run(self, *concurrency).await,
        }
    }

    /// Asks the queue until it answers.
    ///
    /// # Errors
    /// [`Interrupted::Closed`]; its refusal once the agent stops.
    async fn retry_until_answered<T, E: Into<Interrupted>, F: Future<Output = Result<T, E>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, Interrupted> {
        let mut refused = false;
        loop {
            let error = match ask().await {
                Ok(answer) => {
                    if refused {
                        self.accepted();
                    }
                    return Ok(answer);
                }
                Err(error) => error.into(),
            };
            let Interrupted::Store(reason) = &error else { return Err(error) };
            if self.stop.is_cancelled() {
                return Err(error);
            }
            self.refused(reason, (!refused).then_some("down"));
            refused = true;
            self.pause(STORE_PAUSE).await;
        }
    }

    /// `state` is `down` the first time.
    fn refused(&self, reason: &str, state: Option<&'static str>) {
        self.meter.queue_refuses(Some(reason));
        tracing::error!(
            sink = self.id,
            error = reason,
            state,
            "the queue cannot be read or written, trying again"
        );
    }

    fn accepted(&self) {
        self.meter.queue_refuses(None);
        tracing::info!(sink = self.id, state = "up", "the queue can be read and written again");
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
        Instant::now() >= self.end()
    }

    /// When it is over, once the stop has come.
    pub(crate) fn end(&mut self) -> Instant {
        *self.until.get_or_insert_with(|| Instant::now() + FLUSH)
    }
}
