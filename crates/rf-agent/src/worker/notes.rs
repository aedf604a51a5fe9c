//! What is counted and noted of each event of a delivered batch, beside the next one: with thousands of events that takes
//! long enough for a fast sink to wait for it.

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::sink::SinkBatch;

/// A batch of fewer events is noted at once, and so is one whose [marks](SinkBatch::marks) were read beforehand: that takes
/// less time than to begin it elsewhere.
const MANY: usize = 256;

/// Notes on delivered batches that are being taken.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// One for each batch that is still to leave the queue: a few at the most.
    under_way: Mutex<Vec<JoinHandle<()>>>,
}

impl Notes {
    /// Has `note` called for a batch, at once or away from the async threads.
    pub(super) fn take(&self, batch: &SinkBatch, note: impl FnOnce(&SinkBatch) + Send + 'static) {
        if batch.events.len() < MANY || batch.is_marked() {
            return note(batch);
        }
        let batch = batch.clone();
        self.under_way.lock().push(tokio::task::spawn_blocking(move || note(&batch)));
    }

    /// Returns once all are taken. To be called before a batch leaves the queue: what has left was counted and noted.
    pub(super) async fn finish(&self) {
        let under_way = std::mem::take(&mut *self.under_way.lock());
        for note in under_way {
            if let Err(error) = note.await {
                tracing::error!(%error, "a delivered batch was not counted in full");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::sync_channel;

    use rf_queue::StoredEvent;

    use super::*;

    fn batch(events: usize) -> SinkBatch {
        let event = |id| StoredEvent { id, at_ms: 0, content: "x".into(), attempts: 0 };
        SinkBatch::new("b", (0..events as u64).map(event).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn a_small_batch_or_a_marked_one_is_noted_at_once_and_any_other_before_it_leaves() {
        let (notes, noted) = (Notes::default(), Arc::new(AtomicUsize::new(0)));
        let counter = |noted: &Arc<AtomicUsize>| {
            let noted = Arc::clone(noted);
            move |batch: &SinkBatch| {
                noted.fetch_add(batch.events.len(), Ordering::Relaxed);
            }
        };
        notes.take(&batch(MANY - 1), counter(&noted));
        assert_eq!(noted.load(Ordering::Relaxed), MANY - 1);

        let marked = batch(MANY);
        marked.marks();
        notes.take(&marked, counter(&noted));
        assert_eq!(noted.load(Ordering::Relaxed), 2 * MANY - 1);

        let (go, held) = sync_channel::<()>(0);
        let count = counter(&noted);
        notes.take(&batch(MANY), move |batch| {
            held.recv().unwrap();
            count(batch);
        });
        assert_eq!(noted.load(Ordering::Relaxed), 2 * MANY - 1, "nobody waits for it");
        go.send(()).unwrap();
        notes.finish().await;
        assert_eq!(noted.load(Ordering::Relaxed), 3 * MANY - 1);
    }
}
