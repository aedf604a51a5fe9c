//! How sources that cannot refuse anybody hand their events over: they wait while a queue is full.
//!
//! After the stop they wait for a moment only, all batches of a source together, so that the agent's grace is left for
//! others. What nobody else has, and no queue took by then, is counted and told once.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rf_core::backoff::Backoff;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::lines::Line;
use crate::pipeline::{Batch, Kept, Output, Rejected};
use crate::stats::Loss;

/// Pauses between tries while a queue has no room.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long after the stop a queue with `whenFull: block` is waited for. A batch that it did not take then is the last one.
pub(super) const LAST_WAIT: Duration = Duration::from_secs(2);

/// What all batches of a source may take after the stop, where a queue takes them slowly.
const AFTER_STOP: Duration = Duration::from_secs(5);

/// What the log says of an event that can never fit.
pub(super) const BURIED: &str = "event moved to the dead letters: it can never fit into the queue; raise the sink's buffer.maxBytes or lower the source's limits";

/// What became of events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum HandedOver {
    /// They are durable: in the queues, but for those that can never fit, which are dead letters.
    Stored {
        /// The places of those in the list, in order. Logged; who can keep an event elsewhere must be told.
        refused: Vec<usize>,
    },
    /// The agent stops, and nobody knows of these that they have been stored; how many.
    Stopped(usize),
}

/// Hands the events of one source over, batch by batch.
pub(crate) struct HandOver<'a> {
    pub(crate) id: &'a str,
    pub(crate) out: &'a Output,
    pub(crate) stop: &'a CancellationToken,
    /// What the log calls the events, where nobody else has them.
    loses: Option<&'static str>,
    /// Events that were handed over and are in no queue, as far as is known.
    unstored: AtomicUsize,
    /// What is left of [`AFTER_STOP`].
    left: Mutex<Duration>,
    /// What a batch may take of it: [`LAST_WAIT`].
    last_wait: Duration,
}

impl<'a> HandOver<'a> {
    /// For events that somebody else has, too: what is not stored is no loss.
    pub(crate) fn new(id: &'a str, out: &'a Output, stop: &'a CancellationToken) -> Self {
        let (unstored, left) = (AtomicUsize::new(0), Mutex::new(AFTER_STOP));
        Self { id, out, stop, loses: None, unstored, left, last_wait: LAST_WAIT }
    }

    /// For events that nobody else has: what is not stored when this is dropped is lost. It is counted and told then, also
    /// where the source was cut off in the middle.
    pub(crate) fn losing(mut self, what: &'static str) -> Self {
        self.loses = Some(what);
        self
    }

    /// Stores the events in order, and waits for that as long as it takes; once the agent stops, it tries once more, unless
    /// a batch before was given up.
    ///
    /// An event that can never fit becomes a dead letter, so that it does not hold back the others for ever.
    pub(crate) async fn store(&self, events: Vec<Bytes>) -> HandedOver {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut refused = Vec::new();
        self.unstored.fetch_add(events.len(), Ordering::Relaxed);
        // Parts of the list, each with its place; the first one last.
        let mut parts = vec![(0, events)];
        while let Some((place, events)) = parts.pop() {
            let is_last_try = self.stop.is_cancelled();
            let waiting: usize = parts.iter().map(|(_, events)| events.len()).sum();
            let stopped = HandedOver::Stopped(events.len() + waiting);
            let Some(sent) = self.send(events.clone()).await else { return stopped };
            let rejected = match sent {
                Ok(kept) => {
                    backoff.reset();
                    self.unstored.fetch_sub(events.len(), Ordering::Relaxed);
                    if kept == Kept::Buried {
                        tracing::error!(source = self.id, bytes = events[0].len(), "{BURIED}");
                        refused.push(place);
                    }
                    continue;
                }
                Err(Rejected::TooLarge { .. }) if events.len() > 1 => {
                    split(place, events, &mut parts);
                    continue;
                }
                Err(rejected) => rejected,
            };
            if is_last_try || rejected == Rejected::Closed {
                return stopped;
            }
            tracing::warn!(source = self.id, error = %rejected, "events cannot be stored now, trying again");
            parts.push((place, events));
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = sleep(backoff.next_delay()) => {}
            }
        }
        HandedOver::Stored { refused }
    }

    /// One try. `None`: the agent stops, and this has been waited for long enough.
    async fn send(&self, events: Vec<Bytes>) -> Option<Result<Kept, Rejected>> {
        let (stops, left, began) = (self.stop.is_cancelled(), *self.left.lock(), Instant::now());
        if stops && left.is_zero() {
            return None;
        }
        tokio::select! {
            sent = self.out.send_or_bury(Batch::of(events)) => {
                if stops {
                    *self.left.lock() = left.saturating_sub(began.elapsed());
                }
                Some(sent)
            }
            () = after(self.stop, left.min(self.last_wait)) => {
                *self.left.lock() = Duration::ZERO;
                None
            }
        }
    }

    /// Counts the lines that were cut, and says that there are such.
    pub(crate) fn note_cut(&self, lines: &[Line]) {
        let cut = lines.iter().filter(|line| line.is_cut).count();
        if cut > 0 {
            self.out.meter().cut(cut);
            tracing::warn!(
                source = self.id,
                lines = cut,
                "lines longer than maxLineBytes were cut"
            );
        }
    }
}

impl Drop for HandOver<'_> {
    fn drop(&mut self) {
        let events = *self.unstored.get_mut();
        if let Some(what) = self.loses
            && events > 0
        {
            self.out.meter().losses.count(Loss::Stopping, events);
            tracing::error!(
                source = self.id,
                events,
                "{what} are lost: no queue accepted them before the stop"
            );
        }
    }
}

async fn after(stop: &CancellationToken, time: Duration) {
    stop.cancelled().await;
    sleep(time).await;
}

fn split(place: usize, mut events: Vec<Bytes>, parts: &mut Vec<(usize, Vec<Bytes>)>) {
    let half = events.len() / 2;
    let second = events.split_off(half);
    parts.extend([(place + half, second), (place, events)]);
}
