//! A source's script, as the source's side sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rf_core::lifecycle::TaskFailure;
use rf_core::trace::Step;
use rf_queue::{Checkpoint, Commit, CommitError, Letter, PendingCommit, QueueId, Store};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::mailbox::{Mailbox, Refused};
use super::note::{Note, OpenCalls};
use super::runner::{Call, Input, Job, Runner};
use super::thread::Memory;
use super::waiting::Waiting;
use super::work::Desk;
use super::{ScriptPlan, kv_prefix, letters_queue, thread};
use crate::pipeline::{Batch, Rejected};
use crate::trace::Trace;

/// Different reasons of `drop` that are counted apart; further ones are counted together.
const MAX_REASONS: usize = 100;
/// What the reasons beyond that are counted as.
const OTHER_REASONS: &str = "other reasons";

/// What one call did, counted once it is committed.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) emitted: u64,
    pub(super) filtered: u64,
    pub(super) dead_lettered: u64,
    pub(super) dropped_on_error: u64,
    /// Reasons, as often as they were given.
    pub(super) dropped: Vec<String>,
    /// What single events became, for the journal.
    pub(super) traced: Vec<Traced>,
}

/// Events that became the same.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) step: Step,
    pub(super) detail: String,
    pub(super) ids: Vec<Uuid>,
}

impl Tally {
    /// Notes what became of an event, together with its neighbours that became the same.
    pub(super) fn trace(&mut self, id: Uuid, step: Step, detail: String) {
        match self.traced.last_mut() {
            Some(last) if last.step == step && last.detail == detail => last.ids.push(id),
            _ => self.traced.push(Traced { step, detail, ids: vec![id] }),
        }
    }
}

/// What a source's script did since the start.
#[derive(Debug, Default)]
pub(crate) struct ScriptCounters {
    /// Events that came out of it.
    pub(crate) emitted: AtomicU64,
    /// Events that it emitted nothing for, without a word.
    pub(crate) filtered: AtomicU64,
    /// Events that became dead letters: by `dead`, since it failed over them, or since what it made of them was too large.
    pub(crate) dead_lettered: AtomicU64,
    /// Events that it failed over and that `onError` discards.
    pub(crate) dropped_on_error: AtomicU64,
    dropped: Mutex<BTreeMap<String, u64>>,
}

impl ScriptCounters {
    pub(super) fn add(&self, tally: Tally) {
        self.emitted.fetch_add(tally.emitted, Ordering::Relaxed);
        self.filtered.fetch_add(tally.filtered, Ordering::Relaxed);
        self.dead_lettered.fetch_add(tally.dead_lettered, Ordering::Relaxed);
        self.dropped_on_error.fetch_add(tally.dropped_on_error, Ordering::Relaxed);
        if tally.dropped.is_empty() {
            return;
        }
        let mut dropped = self.dropped.lock();
        for reason in tally.dropped {
            let known = dropped.len() < MAX_REASONS || dropped.contains_key(&reason);
            let reason = if known { reason } else { OTHER_REASONS.to_owned() };
            *dropped.entry(reason).or_default() += 1;
        }
    }

    /// Events given to `drop`, by reason.
    pub(crate) fn dropped(&self) -> BTreeMap<String, u64> {
        self.dropped.lock().clone()
    }
}

/// Why a script does not start.
#[derive(Debug, thiserror::Error)]
#[error("script of source `{source_id}`: {reason}")]
pub struct ScriptStartError {
    /// The source's id.
    pub source_id: String,
    /// What happened.
    pub reason: String,
}

/// What became of a batch that a script was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// What came of it is durable.
    Stored,
    /// It was one event, and no queue can ever take what the script made of it: it is a dead letter, for this reason.
    Buried(String),
}

/// A running script. Closed when the last handle is dropped.
pub(crate) struct ScriptHandle {
    pub(super) source: String,
    pub(super) plan: ScriptPlan,
    pub(super) store: Store,
    pub(super) letters: QueueId,
    pub(super) counters: Arc<ScriptCounters>,
    trace: Trace,
    /// A queue that it may emit to makes its source wait while it is full.
    blocks: bool,
    pub(super) mailbox: Arc<Mailbox<Job>>,
    /// Dropped by the thread when it has ended.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Drop for ScriptHandle {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

impl ScriptHandle {
    /// Loads the script on a thread of its own, with what it remembered.
    ///
    /// # Errors
    /// [`ScriptStartError`]: the file, the script, or the store.
    pub(crate) async fn start(
        source: &str,
        plan: ScriptPlan,
        routes: &[QueueId],
        store: Store,
        trace: Trace,
    ) -> Result<Arc<Self>, ScriptStartError> {
        let failed = |reason: String| ScriptStartError { source_id: source.to_owned(), reason };
        let prefix = kv_prefix("kv", source);
        let memory = Memory { store: store.clone(), prefix: prefix.clone() };
        let queue = |name: &str| {
            store.queue(name).ok_or_else(|| failed(format!("there is no queue `{name}`")))
        };
        let letters = queue(&letters_queue(source))?;
        let sinks: Vec<QueueId> =
            plan.options.sinks.iter().map(|sink| queue(sink)).collect::<Result<_, _>>()?;
        let blocks = sinks.iter().any(|&sink| store.blocks(sink));
        let desk = Desk {
            source: source.to_owned(),
            sinks,
            routes: routes.to_vec(),
            letters,
            on_error: plan.options.on_error,
            kv_prefix: prefix,
            names: plan.options.sinks.clone(),
            trace: trace.clone(),
        };
        let mailbox = Arc::new(Mailbox::new());
        let (options, jobs, own) = (Arc::clone(&plan.options), Arc::clone(&mailbox), store.clone());
        let counters = Arc::<ScriptCounters>::default();
        let counted = Arc::clone(&counters);
        let serve = move |session, mailbox: &Mailbox<Job>| {
            let (open, unsure) = (OpenCalls::default(), BTreeSet::new());
            Runner { desk, session, store: own, counters: counted, open, unsure }.run(mailbox);
        };
        let ended = thread::start(options, memory, jobs, serve).await.map_err(failed)?;
        let ended = Mutex::new(Some(ended));
        let source = source.to_owned();
        Ok(Arc::new(Self { source, plan, store, letters, counters, trace, blocks, mailbox, ended }))
    }

    /// Runs the script over a batch; `Ok` means that what came of it is durable, in one commit with the checkpoints.
    ///
    /// # Errors
    /// [`Rejected`]; then nothing of it was stored, and what the script remembered of it is taken back.
    pub(crate) async fn send(&self, batch: Batch, id: Option<String>) -> Result<Taken, Rejected> {
        let bytes = batch.events.iter().map(Bytes::len).sum();
        let (only, checkpoints) = match &batch.events[..] {
            [event] => (Some(event.clone()), batch.checkpoints.clone()),
            _ => (None, Vec::new()),
        };
        let error = match self.call(Input::Batch(batch, id), bytes).await {
            Ok(()) => return Ok(Taken::Stored),
            Err(error) => error,
        };
        match (error, only) {
            // Tried again, it would come to the same: what cannot be stored must not block its source for ever.
            (CommitError::TooLarge { bytes, limit }, Some(content)) => {
                let reason =
                    format!("the script made {bytes} bytes of it, a queue takes {limit} at once");
                self.bury(content, checkpoints, &reason).await?;
                Ok(Taken::Buried(reason))
            }
            (error, _) => Err(error.into()),
        }
    }

    async fn bury(
        &self,
        content: Bytes,
        checkpoints: Vec<Checkpoint>,
        reason: &str,
    ) -> Result<(), CommitError> {
        let id = self.trace.id(&content);
        let letter = Letter { queue: self.letters, content, reason: reason.to_owned() };
        let commit = Commit { letters: vec![letter], checkpoints, ..Commit::default() };
        self.store.commit(commit).await?;
        tracing::error!(source = self.source, reason, "event moved to the dead letters");
        self.trace.buried(id, 0, reason);
        Ok(())
    }

    /// One call of the script and its commit. What the call remembered is taken back if that is refused.
    pub(super) async fn call(&self, input: Input, bytes: usize) -> Result<(), CommitError> {
        let mut waiting = self.begin(input, bytes, false)?;
        match waiting.outcome().await {
            Ok(_) => {
                self.stored(waiting.settle());
                Ok(())
            }
            Err(error) => {
                waiting.take_back().await;
                Err(self.named(error))
            }
        }
    }

    /// Has the script called, and what comes of it committed. With `keep` the commit can be tried again in any case.
    pub(super) fn begin(
        &self,
        input: Input,
        bytes: usize,
        keep: bool,
    ) -> Result<Waiting<'_>, CommitError> {
        let (reply, pending) = PendingCommit::new();
        let note = Arc::new(Note::default());
        let job = Job::Call(input, Call { reply, note: Arc::clone(&note), keep });
        self.mailbox.push(job, bytes).map_err(|refused| self.refusal(refused))?;
        Ok(Waiting::new(self, note, pending))
    }

    /// Counts and notes what a call did, which is stored.
    pub(super) fn stored(&self, tally: Tally) {
        for Traced { step, detail, ids } in &tally.traced {
            self.trace.note(*step, ids, detail);
        }
        self.counters.add(tally);
    }

    /// Takes another text of the script, between two calls.
    ///
    /// # Errors
    /// Why it cannot be used; the old one goes on.
    pub(super) async fn replace(&self, text: Vec<u8>) -> Result<(), String> {
        let (done, replaced) = oneshot::channel();
        let job = Job::Replace { text, done };
        self.mailbox.push_urgent(job).map_err(|refused| refused.to_string())?;
        let ended = |_dropped| Refused::Closed.to_string();
        replaced.await.map_err(ended)?.map_err(|error| error.to_string())
    }

    /// For values alone, which go to no queue, there is no room: then it is the source's.
    fn named(&self, error: CommitError) -> CommitError {
        match error {
            CommitError::Full { queue, reason } if queue.is_empty() => {
                CommitError::Full { queue: letters_queue(&self.source), reason }
            }
            other => other,
        }
    }

    fn refusal(&self, refused: Refused) -> CommitError {
        match refused {
            Refused::Closed => CommitError::Closed,
            Refused::NotReady => CommitError::Failed(refused.to_string()),
            Refused::Busy => CommitError::Full {
                queue: letters_queue(&self.source),
                reason: rf_queue::FullReason::Busy,
            },
        }
    }

    /// Closes scripts, and waits for that until `grace` is over after `stopping`.
    ///
    /// # Errors
    /// [`TaskFailure::Stuck`], naming those that are busy still.
    pub(crate) async fn close_all(
        scripts: Vec<Arc<Self>>,
        grace: Duration,
        stopping: Instant,
    ) -> Result<(), TaskFailure> {
        let mut tasks = Vec::new();
        for script in scripts {
            let left = grace.saturating_sub(stopping.elapsed());
            if timeout(left, script.close()).await.is_err() {
                tasks.push(script.name());
            }
        }
        if tasks.is_empty() {
            return Ok(());
        }
        tracing::error!(tasks = %tasks.join(", "), "scripts are still running after the grace period");
        Err(TaskFailure::Stuck { tasks, grace })
    }

    /// Serves what waits and ends the thread.
    pub(crate) async fn close(&self) {
        self.mailbox.close();
        let ended = self.ended.lock().take();
        if let Some(ended) = ended {
            // Nothing is ever sent: the end is that the other side is gone.
            let _gone = ended.await;
        }
    }

    /// Where dead letters of its source lie: retried, they go through the script.
    pub(crate) fn letters(&self) -> QueueId {
        self.letters
    }

    /// Whether its commits may wait for room.
    pub(crate) fn blocks(&self) -> bool {
        self.blocks
    }

    /// For the names of its tasks.
    pub(crate) fn name(&self) -> String {
        format!("script of source {}", self.source)
    }

    /// What the script did.
    pub(crate) fn counters(&self) -> &Arc<ScriptCounters> {
        &self.counters
    }
}
