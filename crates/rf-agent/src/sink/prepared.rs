//! What is done of the next batches beforehand, away from the async threads, while the one before is being written.

use std::collections::VecDeque;

use parking_lot::Mutex;
use rf_queue::StoredEvent;
use tokio::task::JoinHandle;

use crate::sink::SinkBatch;

/// The work on the next batches, whose result is a `T` each.
#[derive(Debug)]
pub(crate) struct Prepared<T> {
    next: Mutex<VecDeque<Next<T>>>,
    /// So many batches are kept.
    most: usize,
    /// A batch with more content is not kept in memory twice.
    most_bytes: usize,
}

#[derive(Debug)]
struct Next<T> {
    /// Of the batch.
    id: String,
    work: JoinHandle<T>,
}

impl<T: Send + 'static> Prepared<T> {
    /// For `most` batches at a time, each of which is closed at `goal_bytes` of content.
    pub(crate) fn new(most: usize, goal_bytes: usize) -> Self {
        Self { next: Mutex::default(), most, most_bytes: 2 * goal_bytes }
    }

    /// Begins the work on a batch, in place of that on the oldest where there are too many.
    pub(crate) fn begin(
        &self,
        batch: &SinkBatch,
        work: impl FnOnce(&[StoredEvent]) -> T + Send + 'static,
    ) {
        let bytes: usize = batch.events.iter().map(|event| event.content.len()).sum();
        if bytes > self.most_bytes {
            return;
        }
        let (id, batch) = (batch.id.clone(), batch.clone());
        let work = tokio::task::spawn_blocking(move || {
            let done = work(&batch.events);
            // What will be noted of its events, while they are at hand.
            batch.marks();
            done
        });
        let mut next = self.next.lock();
        if next.len() >= self.most {
            next.pop_front();
        }
        next.push_back(Next { id, work });
    }

    /// Whether no work was begun that is still to be taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.next.lock().is_empty()
    }

    /// What was done of this batch, if anything was. Before it the one before may come again, or halves of it. A panic of the
    /// work is as if there had been none: it comes again where the batch is written.
    pub(crate) async fn take(&self, batch: &SinkBatch) -> Option<T> {
        let work = {
            let mut next = self.next.lock();
            let at = next.iter().position(|next| next.id == batch.id)?;
            next.remove(at)?.work
        };
        // What has not begun by now waits behind others' work: then it is done sooner where the batch is written.
        work.abort();
        work.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(id: &str, content: &'static [u8]) -> SinkBatch {
        let event = StoredEvent { id: 1, at_ms: 0, content: content.into(), attempts: 0 };
        SinkBatch::new(id, [event])
    }

    async fn taken(prepared: &Prepared<usize>, batch: &SinkBatch) -> Option<usize> {
        let is_done = || {
            let next = prepared.next.lock();
            next.iter().all(|next| next.work.is_finished())
        };
        while !is_done() {
            tokio::task::yield_now().await;
        }
        prepared.take(batch).await
    }

    #[tokio::test]
    async fn only_the_batch_that_was_prepared_is_and_once() {
        let prepared = Prepared::new(1, 4);
        let length = |events: &[StoredEvent]| events[0].content.len();
        let a = batch("a", b"12345678");
        prepared.begin(&a, length);
        assert_eq!(taken(&prepared, &batch("b", b"")).await, None);
        assert_eq!(taken(&prepared, &batch("a", b"")).await, Some(8));
        assert!(a.is_marked() && prepared.is_empty());
        assert_eq!(taken(&prepared, &batch("a", b"")).await, None);
        prepared.begin(&batch("large", b"123456789"), length);
        assert_eq!(taken(&prepared, &batch("large", b"")).await, None);
        prepared.begin(&batch("panics", b""), |_| panic!("at work"));
        assert_eq!(taken(&prepared, &batch("panics", b"")).await, None);
    }

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let prepared = Prepared::new(2, 4);
        for (id, number) in [("a", 1), ("b", 2), ("c", 3)] {
            prepared.begin(&batch(id, b"1"), move |_| number);
        }
        for (id, expected) in [("a", None), ("c", Some(3)), ("b", Some(2))] {
            assert_eq!(taken(&prepared, &batch(id, b"")).await, expected, "{id}");
        }
    }
}
