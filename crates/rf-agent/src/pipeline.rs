//! The one promise: [`Output::send`] is `Ok` only when everything that the batch became is committed in the queues of the
//! sinks that it goes to, in one transaction with the source's checkpoint. Only then may a source forget it.

#[cfg(test)]
pub(crate) mod faults;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rf_core::trace::Step;
use rf_queue::{Append, Checkpoint, Commit, CommitError, FullReason, Letter, QueueId, Store};

use crate::script::ScriptCounters;
use crate::script::handle::{ScriptHandle, Taken};
use crate::stats::SourceMeter;
use crate::trace::Trace;

/// A commit that takes longer than this waits for room, where a queue blocks.
const BLOCKED_AFTER: Duration = Duration::from_secs(1);

/// What a source hands over: events, and how far it has read once they are safe.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    /// The events' content, in order.
    pub(crate) events: Vec<Bytes>,
    /// Stored in the transaction of the events.
    pub(crate) checkpoints: Vec<Checkpoint>,
}

impl Batch {
    /// Events without a checkpoint.
    pub(crate) fn of(events: Vec<Bytes>) -> Self {
        Self { events, checkpoints: Vec::new() }
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is durable in the queues; of a source with a script, what the script has made of it.
    Queued,
    /// It was one event, which can never fit into a queue: it is durable as a dead letter.
    Buried,
}

/// Why a batch was not taken. Nothing of it was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejected {
    /// A sink's queue has no room now.
    #[error("sink `{sink}`: {reason}")]
    Full {
        /// The sink whose queue it is.
        sink: String,
        /// Which limit.
        reason: FullReason,
    },
    /// It will never fit into the queue.
    #[error(
        "{bytes} bytes can never fit into the queue, which takes {limit} at once: raise the sink's buffer.maxBytes"
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The most that fits.
        limit: u64,
    },
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Closed,
    /// The database refused.
    #[error("the queue's database refused: {0}")]
    Failed(String),
}

impl From<CommitError> for Rejected {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Full { queue, reason } => Self::Full { sink: queue, reason },
            CommitError::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            CommitError::Closed => Self::Closed,
            CommitError::Failed(reason) => Self::Failed(reason),
        }
    }
}

/// Where a source's batches go.
#[derive(Clone)]
pub(crate) struct Output {
    store: Store,
    routes: Arc<[QueueId]>,
    script: Option<Arc<ScriptHandle>>,
    meter: Arc<SourceMeter>,
    trace: Trace,
    #[cfg(test)]
    faults: Option<Arc<faults::Faults>>,
}

impl Output {
    /// An output to these queues of the store.
    pub(crate) fn new(store: Store, routes: Vec<QueueId>) -> Self {
        Self {
            store,
            routes: routes.into(),
            script: None,
            meter: Arc::default(),
            trace: Trace::default(),
            #[cfg(test)]
            faults: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn with_faults(self, faults: Arc<faults::Faults>) -> Self {
        Self { faults: Some(faults), ..self }
    }

    /// The same, with a script that decides where events go.
    pub(crate) fn through(self, script: Option<Arc<ScriptHandle>>) -> Self {
        Self { script, ..self }
    }

    /// The same, with a journal of what became of single events.
    pub(crate) fn traced(self, trace: Trace) -> Self {
        Self { trace, ..self }
    }

    /// Stores the batch in every queue that it goes to; `Ok` means that it is durable there.
    ///
    /// # Errors
    /// [`Rejected`]; the source keeps the batch and tries again. Until that goes well, it is told as paused where a queue has
    /// no room.
    pub(crate) async fn send(&self, batch: Batch) -> Result<(), Rejected> {
        let sent = self.commit_or_refuse(batch, None).await;
        self.tell_pause(&sent);
        sent
    }

    /// As [`Self::send`], for a source that does not try again: it refuses the batch to its own client.
    ///
    /// # Errors
    /// [`Rejected`].
    pub(crate) async fn offer(&self, batch: Batch) -> Result<(), Rejected> {
        self.commit_or_refuse(batch, None).await
    }

    /// As [`Self::send`], for sources that have nobody to refuse an event to: a single one that can never fit becomes a
    /// dead letter, in one commit with the checkpoints, so that it does not hold back the others for ever.
    ///
    /// # Errors
    /// [`Rejected`]; [`Rejected::TooLarge`] of more than one event, which may fit one by one.
    pub(crate) async fn send_or_bury(&self, batch: Batch) -> Result<Kept, Rejected> {
        let only = (batch.events.len() == 1).then(|| batch.clone());
        let sent = self.commit(batch, None).await;
        self.tell_pause(&sent);
        match (sent, only) {
            (Ok(()), _) => Ok(Kept::Queued),
            (Err(rejected @ Rejected::TooLarge { .. }), Some(batch)) => {
                self.bury(batch, &rejected.to_string()).await?;
                Ok(Kept::Buried)
            }
            (Err(rejected), _) => Err(rejected),
        }
    }

    /// The letter lies where its event would have gone: retried, it goes to each sink, or through the script.
    async fn bury(&self, batch: Batch, reason: &str) -> Result<(), Rejected> {
        let Batch { events, checkpoints } = batch;
        let scripts = self.script.as_ref().map(|script| [script.letters()]);
        let queues = scripts.as_ref().map_or(&self.routes[..], |queue| queue);
        let letter = |(&queue, content): (&QueueId, &Bytes)| Letter {
            queue,
            content: content.clone(),
            reason: reason.to_owned(),
        };
        let pairs = queues.iter().flat_map(|queue| events.iter().map(move |event| (queue, event)));
        let commit =
            Commit { letters: pairs.map(letter).collect(), checkpoints, ..Commit::default() };
        self.store.commit(commit).await?;
        events.iter().for_each(|event| self.trace.buried(self.trace.id(event), 0, reason));
        self.meter.dead_lettered(events.len() as u64, reason);
        Ok(())
    }

    /// As [`Self::send`], but a batch whose id has been stored before is passed over: for senders that cannot put their
    /// own progress into the same transaction, and so repeat after a kill.
    ///
    /// # Errors
    /// [`Rejected`].
    pub(crate) async fn send_once(&self, id: String, batch: Batch) -> Result<(), Rejected> {
        let sent = self.commit_or_refuse(batch, Some(id)).await;
        self.tell_pause(&sent);
        sent
    }

    fn tell_pause(&self, sent: &Result<(), Rejected>) {
        if let Err(full @ Rejected::Full { .. }) = sent {
            self.meter.waits_for_room(&full.to_string());
        }
    }

    async fn commit_or_refuse(&self, batch: Batch, id: Option<String>) -> Result<(), Rejected> {
        let is_one = batch.events.len() == 1;
        let sent = self.commit(batch, id).await;
        // More than one may fit in parts.
        if let (Err(rejected @ Rejected::TooLarge { .. }), true) = (&sent, is_one) {
            self.meter.too_large(&rejected.to_string());
        }
        sent
    }

    #[cfg(test)]
    async fn commit(&self, batch: Batch, batch_id: Option<String>) -> Result<(), Rejected> {
        use faults::Fault;
        let Some(faults) = &self.faults else { return self.commit_now(batch, batch_id).await };
        match faults.next(&batch) {
            Fault::None => self.commit_now(batch, batch_id).await,
            Fault::Refuse(rejected) => Err(rejected),
            Fault::KillBefore => {
                faults.kill().await;
                Err(Rejected::Closed)
            }
            Fault::KillAfter => {
                self.commit_now(batch, batch_id).await?;
                faults.kill().await;
                Err(Rejected::Closed)
            }
        }
    }

    #[cfg(not(test))]
    async fn commit(&self, batch: Batch, batch_id: Option<String>) -> Result<(), Rejected> {
        self.commit_now(batch, batch_id).await
    }

    async fn commit_now(&self, batch: Batch, batch_id: Option<String>) -> Result<(), Rejected> {
        let count = batch.events.len() as u64;
        let bytes: usize = batch.events.iter().map(Bytes::len).sum();
        let storing = async {
            match &self.script {
                // A batch without events only moves checkpoints.
                Some(script) if count > 0 => script.send(batch, batch_id).await,
                _ => self.append(batch, batch_id).await.map(|()| Taken::Stored),
            }
        };
        let taken = self.while_it_waits(storing).await;
        match &taken {
            Ok(Taken::Stored) if count == 0 => {}
            Ok(Taken::Stored) => self.meter.stored(count, bytes as u64),
            Ok(Taken::Buried(reason)) => self.meter.dead_lettered(count, reason),
            // The source may have a way out: parts, or the dead letters.
            Err(Rejected::Closed | Rejected::TooLarge { .. }) => {}
            Err(rejected) => self.meter.refused(count, &rejected.to_string()),
        }
        taken.map(drop)
    }

    /// A queue that blocks refuses nothing, so the wait itself is what can be told.
    async fn while_it_waits<T>(&self, storing: impl Future<Output = T>) -> T {
        let blocks = match &self.script {
            Some(script) => script.blocks(),
            None => self.routes.iter().any(|&queue| self.store.blocks(queue)),
        };
        if !blocks {
            return storing.await;
        }
        let mut storing = pin!(storing);
        tokio::select! {
            stored = &mut storing => return stored,
            () = tokio::time::sleep(BLOCKED_AFTER) => {}
        }
        // Whoever waits may leave, and no further event come: so the pause lasts as long as the wait, not until a success.
        let _blocked = self.meter.blocked();
        storing.await
    }

    async fn append(&self, batch: Batch, batch_id: Option<String>) -> Result<(), Rejected> {
        let Batch { events, checkpoints } = batch;
        let ids = self.trace.ids(&events);
        let mut appends = Vec::new();
        if !events.is_empty()
            && let Some((&last, others)) = self.routes.split_last()
        {
            appends.extend(others.iter().map(|&queue| Append { queue, events: events.clone() }));
            appends.push(Append { queue: last, events });
        }
        let commit = Commit { appends, batch_id, checkpoints, ..Commit::default() };
        let receipt = self.store.commit(commit).await?;
        let step = if receipt.duplicate { Step::Repeated } else { Step::Stored };
        self.trace.note(step, &ids, "");
        Ok(())
    }

    /// Whether nothing waits in the queues that it goes to.
    pub(crate) fn is_empty(&self) -> bool {
        self.routes.iter().all(|&queue| self.store.usage(queue).events == 0)
    }

    /// The value that a batch's checkpoint of this key stored last.
    ///
    /// # Errors
    /// [`Rejected::Closed`] or [`Rejected::Failed`].
    pub(crate) async fn checkpoint(&self, key: &str) -> Result<Option<Vec<u8>>, Rejected> {
        #[cfg(test)]
        self.faults.as_ref().map_or(Ok(()), |faults| faults.read())?;
        self.store.checkpoint(key).await.map_err(|error| CommitError::from(error).into())
    }

    /// Every stored checkpoint whose key begins with `prefix`, by key.
    ///
    /// # Errors
    /// [`Rejected::Closed`] or [`Rejected::Failed`].
    pub(crate) async fn checkpoints(&self, prefix: &str) -> Result<Vec<Checkpoint>, Rejected> {
        #[cfg(test)]
        self.faults.as_ref().map_or(Ok(()), |faults| faults.read())?;
        self.store.checkpoints(prefix).await.map_err(|error| CommitError::from(error).into())
    }

    /// What the source's script did, where it has one.
    pub(crate) fn script_counters(&self) -> Option<Arc<ScriptCounters>> {
        self.script.as_ref().map(|script| Arc::clone(script.counters()))
    }

    /// Where its source notes what happens to single events.
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What went through this output.
    pub(crate) fn meter(&self) -> &Arc<SourceMeter> {
        &self.meter
    }
}
