//! What is over with: what the next commit takes out of the queue, and what is told of it once that is stored.

use rf_queue::{Bury, Checkpoint, Commit, Remove, StoredEvent};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Interrupted, Worker};
use crate::sink::checkpoint;

/// Dead letters of one transaction, and bytes of their events, unless one alone has more: each needs some pages of the WAL,
/// and what finds no room there is no letter.
const LETTERS_AT_ONCE: usize = 32;
const LETTER_BYTES: usize = 256 * 1024;
/// As much of a reason is kept with [`Pending`].
const REASON_CHARS: usize = 200;

/// Events that are delivered, dropped or given up, and not yet out of the queue.
#[derive(Debug, Default)]
pub(super) struct Done {
    commit: Commit,
    given_up: Vec<GivenUp>,
    /// When the first of it came to its end.
    since: Option<Instant>,
}

/// An event that becomes a dead letter.
#[derive(Debug)]
struct GivenUp {
    bury: Bury,
    /// The event's own id.
    id: Option<Uuid>,
    bytes: usize,
}

/// Events that are given up in several transactions, stored with the first of them: the next run goes on there.
#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    ids: Vec<u64>,
    reason: String,
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

    /// Batches that are delivered. Each is a removal of its own: the queue knows what lies in a batch that it has read.
    pub(super) fn batches(&self) -> usize {
        self.commit.removes.len()
    }

    /// Whether events are given up, which nobody should have to wait for.
    pub(super) fn gives_up(&self) -> bool {
        !self.given_up.is_empty()
    }

    /// When the first of its events came to its end.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Adds what came to its end later.
    pub(super) fn extend(&mut self, later: Self) {
        let Commit { removes, first, checkpoints, .. } = later.commit;
        self.commit.removes.extend(removes);
        first.into_iter().for_each(|progress| self.progress(progress));
        checkpoints.into_iter().for_each(|checkpoint| self.checkpoint(checkpoint));
        self.given_up.extend(later.given_up);
        self.since = self.since.or(later.since);
    }

    /// These events are with the target, or are not to be sent.
    pub(super) fn remove(&mut self, worker: &Worker, ids: impl Iterator<Item = u64>) {
        self.since.get_or_insert_with(Instant::now);
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
        self.since.get_or_insert_with(Instant::now);
        let bury = Bury { queue: worker.queue, id: event.id, reason, attempts };
        let (id, bytes) = (worker.trace.id(&event.content), event.content.len());
        self.given_up.push(GivenUp { bury, id, bytes });
    }

    /// How far the sink is: stored before any of its events leaves. Replaces what was to be stored under the same key.
    pub(super) fn progress(&mut self, progress: Checkpoint) {
        put(&mut self.commit.first, progress);
    }

    /// Replaces what is to be stored under the same key.
    pub(super) fn checkpoint(&mut self, checkpoint: Checkpoint) {
        put(&mut self.commit.checkpoints, checkpoint);
    }

    /// Commits it, and asks again where the queue refuses. Many dead letters come bit by bit behind what is delivered; killed
    /// in between, [`Self::recover`] brings the rest. They are counted, noted and told only once they are stored.
    ///
    /// # Errors
    /// As of [`Worker::retry_until_answered`]; what was not stored is still in the queue then.
    pub(super) async fn store(self, worker: &Worker) -> Result<(), Interrupted> {
        let Self { mut commit, given_up, since: _ } = self;
        let parts = parts(&given_up);
        if let [only] = parts[..] {
            commit.dead = buries(only);
        } else if parts.len() > 1 {
            commit.checkpoints.push(pending(worker, &given_up)?);
        }
        worker.notes.finish().await;
        if !commit.is_empty() {
            worker.retry_until_answered(|| worker.store.commit(commit.clone())).await?;
        }
        if parts.len() > 1 {
            for (at, part) in (1..).zip(&parts) {
                let mut commit = Commit { dead: buries(part), ..Commit::default() };
                if at == parts.len() {
                    commit.checkpoints.push(Checkpoint { key: key(worker), value: None });
                }
                worker.retry_until_answered(|| worker.store.commit(commit.clone())).await?;
            }
        }
        given_up.iter().for_each(|given_up| given_up.tell(worker));
        Ok(())
    }

    /// What a run had given up that ended before all of it was stored.
    ///
    /// # Errors
    /// As of [`Self::store`].
    pub(super) async fn recover(worker: &Worker) -> Result<(), Interrupted> {
        let key = key(worker);
        let stored = worker.retry_until_answered(|| worker.store.checkpoint(&key)).await?;
        let Some(stored) = stored else { return Ok(()) };
        let mut done = Self::default();
        let consequence = "events that were given up may be tried again";
        if let Some(Pending { ids, reason }) =
            checkpoint::decode(&worker.id, &key, &stored, consequence)
        {
            let given_up = |id| {
                let bury = Bury { queue: worker.queue, id, reason: reason.clone(), attempts: 0 };
                GivenUp { bury, id: None, bytes: LETTER_BYTES }
            };
            done.given_up = ids.into_iter().map(given_up).collect();
        }
        done.commit.checkpoints.push(Checkpoint { key, value: None });
        done.store(worker).await
    }
}

impl GivenUp {
    fn tell(&self, worker: &Worker) {
        let Bury { reason, attempts, .. } = &self.bury;
        worker.meter.dead_lettered(reason);
        worker.trace.buried(self.id, *attempts, reason);
        tracing::error!(sink = worker.id, reason, "event moved to the dead letters");
    }
}

fn put(values: &mut Vec<Checkpoint>, value: Checkpoint) {
    values.retain(|stored| stored.key != value.key);
    values.push(value);
}

fn key(worker: &Worker) -> String {
    format!("letters:{}", worker.id)
}

fn pending(worker: &Worker, given_up: &[GivenUp]) -> Result<Checkpoint, Interrupted> {
    let ids = given_up.iter().map(|given_up| given_up.bury.id).collect();
    let reason = given_up.first().map_or("", |given_up| &given_up.bury.reason);
    let pending = Pending { ids, reason: reason.chars().take(REASON_CHARS).collect() };
    let value =
        serde_json::to_vec(&pending).map_err(|error| Interrupted::Store(error.to_string()))?;
    Ok(Checkpoint { key: key(worker), value: Some(value) })
}

fn buries(given_up: &[GivenUp]) -> Vec<Bury> {
    given_up.iter().map(|given_up| given_up.bury.clone()).collect()
}

/// As many as one transaction takes.
fn parts(given_up: &[GivenUp]) -> Vec<&[GivenUp]> {
    let mut parts = Vec::new();
    let mut rest = given_up;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |given_up: &&GivenUp| {
            bytes += given_up.bytes;
            bytes <= LETTER_BYTES
        };
        let count = rest.iter().take(LETTERS_AT_ONCE).take_while(fits).count().max(1);
        let (part, later) = rest.split_at(count);
        parts.push(part);
        rest = later;
    }
    parts
}
