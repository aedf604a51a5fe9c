//! Waiting for the answer to a call's commit, by somebody who may leave meanwhile.
//!
//! A client closes its connection, a source is stopped: the future that waits is dropped, at any of its steps. What the
//! script remembered in the call must be what the store has all the same, or else the repeat of an event that was never
//! stored would be taken for a duplicate. So whoever leaves gives the rest to the script's thread: a commit that is under way
//! is awaited there and taken back if it is refused, one that waits for room is taken back at once.

use std::sync::Arc;

use rf_queue::{CommitError, PendingCommit, Receipt};
use tokio::sync::oneshot;

use super::handle::ScriptHandle;
use super::runner::{Done, Job, Note};

/// A call whose commit is not settled yet.
pub(super) struct Waiting<'a> {
    script: &'a ScriptHandle,
    note: Arc<Note>,
    /// The try that the writer has not answered.
    under_way: Option<PendingCommit>,
    settled: bool,
}

impl<'a> Waiting<'a> {
    /// For a call that the script's thread has taken; `pending` is the answer to its commit.
    pub(super) fn new(script: &'a ScriptHandle, note: Arc<Note>, pending: PendingCommit) -> Self {
        Self { script, note, under_way: Some(pending), settled: false }
    }

    /// How the commit ended; where a queue of it makes its source wait for room, after that.
    pub(super) async fn outcome(&mut self, may_wait: bool) -> Result<Receipt, CommitError> {
        let mut outcome = self.answer().await;
        if !may_wait || !matches!(outcome, Err(CommitError::Full { .. })) {
            return outcome;
        }
        // The script has been called: only its commit is tried again.
        let Some(commit) = self.note.commit() else { return outcome };
        let mut room = self.script.store.room();
        loop {
            // Registered before the try, so that room made meanwhile is not missed.
            room.mark_unchanged();
            let (reply, pending) = PendingCommit::new();
            self.under_way = Some(pending);
            self.script.store.submit(commit.clone(), reply);
            outcome = self.answer().await;
            if !matches!(outcome, Err(CommitError::Full { .. })) {
                return outcome;
            }
            if room.changed().await.is_err() {
                return Err(CommitError::Closed);
            }
        }
    }

    /// What the call did; from here on it is up to whoever asks to take it back.
    pub(super) fn settle(mut self) -> Done {
        self.settled = true;
        self.note.take()
    }

    async fn answer(&mut self) -> Result<Receipt, CommitError> {
        let Some(pending) = &mut self.under_way else { return Err(CommitError::Closed) };
        let outcome = pending.outcome().await;
        self.under_way = None;
        outcome
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let job = match self.under_way.take() {
            Some(pending) => Job::Settle { pending, note: Arc::clone(&self.note) },
            None => Job::Undo { changes: self.note.take().changes, done: oneshot::channel().0 },
        };
        if self.script.mailbox.push_urgent(job).is_err() {
            // What it remembered has ended with its thread.
            tracing::debug!(source = self.script.source, "the script ended before its answer came");
        }
    }
}
