//! What is over with: what the next commit takes out of the queue, and what is told of it once that is stored.

use rf_queue::{Bury, Checkpoint, Commit, Remove, StoredEvent};
use uuid::Uuid;

use super::{Interrupted, Worker};

/// Dead letters of one transaction: each may need some pages of the WAL, and what finds no room there is no letter.
const LETTERS_AT_ONCE: usize = 32;

/// Events that are delivered or given up, and not yet out of the queue.
#[derive(Debug, Default)]
pub(super) struct Done {
    commit: Commit,
    given_up: Vec<GivenUp>,
}

/// An event that becomes a dead letter.
#[derive(Debug)]
struct GivenUp {
    bury: Bury,
    /// The event's own id.
    id: Option<Uuid>,
}

impl Done {
    pub(super) fn is_empty(&self) -> bool {
        self.commit.is_empty() && self.given_up.is_empty()
    }

    /// How many events it takes out of the queue.
    pub(super) fn events(&self) -> usize {
        self.commit.removes.iter().map(|remove| remove.ids.len()).sum::<usize>()
            + self.given_up.len()
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
        let bury = Bury { queue: worker.queue, id: event.id, reason, attempts };
        self.given_up.push(GivenUp { bury, id: worker.trace.id(&event.content) });
    }

    /// Replaces what is to be stored under the same key.
    pub(super) fn checkpoint(&mut self, checkpoint: Checkpoint) {
        self.commit.checkpoints.retain(|stored| stored.key != checkpoint.key);
        self.commit.checkpoints.push(checkpoint);
    }

    /// Commits it, and asks again where the queue refuses: first what is delivered, with the checkpoints, then the dead letters
    /// bit by bit. Those are counted, noted and told only then: killed before, they are tried and given up once more.
    ///
    /// # Errors
    /// As of [`Worker::insist`]; what was not stored is still in the queue then.
    pub(super) async fn store(self, worker: &Worker) -> Result<(), Interrupted> {
        if !self.commit.is_empty() {
            worker.insist(|| worker.store.commit(self.commit.clone())).await?;
        }
        for letters in self.given_up.chunks(LETTERS_AT_ONCE) {
            let dead: Vec<Bury> = letters.iter().map(|letter| letter.bury.clone()).collect();
            let bury = || Commit { dead: dead.clone(), ..Commit::default() };
            worker.insist(|| worker.store.commit(bury())).await?;
            for GivenUp { bury: Bury { reason, attempts, .. }, id } in letters {
                worker.meter.dead_lettered(reason);
                worker.trace.buried(*id, *attempts, reason);
                tracing::error!(sink = worker.id, reason, "event moved to the dead letters");
            }
        }
        Ok(())
    }
}
