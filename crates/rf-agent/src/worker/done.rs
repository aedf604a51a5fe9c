//! What is over with: what the next commit takes out of the queue, and what is told of it once that is stored.

use bytes::Bytes;
use rf_queue::{Bury, Checkpoint, Commit, Remove, StoredEvent};

use super::{Interrupted, Worker};

/// Events that are delivered or given up, and not yet out of the queue.
#[derive(Debug, Default)]
pub(super) struct Done {
    commit: Commit,
    given_up: Vec<GivenUp>,
}

/// An event that becomes a dead letter.
#[derive(Debug)]
struct GivenUp {
    content: Bytes,
    reason: String,
    attempts: u32,
}

impl Done {
    pub(super) fn is_empty(&self) -> bool {
        self.commit.is_empty()
    }

    /// How many events it takes out of the queue.
    pub(super) fn events(&self) -> usize {
        self.commit.removes.iter().map(|remove| remove.ids.len()).sum::<usize>()
            + self.commit.dead.len()
    }

    /// These events are with the target.
    pub(super) fn delivered(&mut self, worker: &Worker, ids: impl Iterator<Item = u64>) {
        match self.commit.removes.first_mut() {
            Some(remove) => remove.ids.extend(ids),
            None => {
                let (queue, ids) = (worker.queue, ids.collect());
                self.commit.removes.push(Remove { queue, ids });
            }
        }
    }

    /// This event becomes a dead letter.
    pub(super) fn give_up(
        &mut self,
        worker: &Worker,
        event: &StoredEvent,
        reason: String,
        attempts: u32,
    ) {
        let (content, queue, id) = (event.content.clone(), worker.queue, event.id);
        self.commit.dead.push(Bury { queue, id, reason: reason.clone(), attempts });
        self.given_up.push(GivenUp { content, reason, attempts });
    }

    /// Replaces what is to be stored under the same key.
    pub(super) fn checkpoint(&mut self, checkpoint: Checkpoint) {
        self.commit.checkpoints.retain(|stored| stored.key != checkpoint.key);
        self.commit.checkpoints.push(checkpoint);
    }

    /// Commits it, and asks again where the queue refuses. What was given up is counted, noted and told only then: it is
    /// given up again when the process ends before.
    ///
    /// # Errors
    /// As of [`Worker::insist`]; nothing is out of the queue then.
    pub(super) async fn store(self, worker: &Worker) -> Result<(), Interrupted> {
        worker.insist(|| worker.store.commit(self.commit.clone())).await?;
        for GivenUp { content, reason, attempts } in &self.given_up {
            worker.meter.dead_lettered(reason);
            worker.trace.buried(content, *attempts, reason);
            tracing::error!(sink = worker.id, reason, "event moved to the dead letters");
        }
        Ok(())
    }
}
