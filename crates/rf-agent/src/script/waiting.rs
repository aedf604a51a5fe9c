//! Waiting for the answer to a call's commit, by somebody who may leave meanwhile.
//!
//! A client closes its connection, a source is stopped: the future that waits is dropped, at any of its steps. What the
//! script remembered in the call must be what the store has all the same, or else the repeat of an event that was never
//! stored would be taken for a duplicate. So whoever leaves gives the rest to the script's thread: a commit that is under way
//! is awaited there and taken back if it is refused, one that waits for room is taken back at once.

use std::sync::Arc;

use rf_queue::{CommitError, PendingCommit, Receipt};
use tokio::sync::oneshot;

use super::handle::{ScriptHandle, Tally};
use super::note::Note;
use super::runner::Job;

/// A call whose commit is not settled yet.
pub(super) struct Waiting<'a> {
    script: &'a ScriptHandle,
    note: Arc<Note>,
    /// The try that the writer has not answered.
    under_way: Option<PendingCommit>,
    tried_again: bool,
    settled: bool,
}

impl<'a> Waiting<'a> {
    /// For a call that the script's thread has taken; `pending` is the answer to its commit.
    pub(super) fn new(script: &'a ScriptHandle, note: Arc<Note>, pending: PendingCommit) -> Self {
        Self { script, note, under_way: Some(pending), tried_again: false, settled: false }
    }

    /// How the commit ended; where a queue of it makes its source wait for room, after that.
    pub(super) async fn outcome(&mut self) -> Result<Receipt, CommitError> {
        let mut outcome = self.answer().await;
        if !matches!(outcome, Err(CommitError::Full { .. })) || !self.note.is_kept() {
            return outcome;
        }
        let mut room = self.script.store.room();
        loop {
            // Registered before the try, so that room made meanwhile is not missed.
            room.mark_unchanged();
            self.again();
            outcome = self.answer().await;
            if !matches!(outcome, Err(CommitError::Full { .. })) {
                return outcome;
            }
            if room.changed().await.is_err() {
                return Err(CommitError::Closed);
            }
        }
    }

    /// The script has been called: only its commit is tried again.
    pub(super) fn again(&mut self) {
        let (reply, pending) = PendingCommit::new();
        (self.under_way, self.tried_again) = (Some(pending), true);
        let job = Job::Again { note: Arc::clone(&self.note), reply };
        if self.script.mailbox.push_urgent(job).is_err() {
            // The answer says so: it was dropped.
            tracing::debug!(
                source = self.script.source,
                "the script ended before its commit was tried again"
            );
        }
    }

    /// Events of the commit, where that was kept.
    pub(super) fn kept_events(&self) -> usize {
        self.note.kept_events()
    }

    /// What the call did, which is stored.
    pub(super) fn settle(mut self) -> Tally {
        self.settled = true;
        let tally = self.note.settle();
        if self.tried_again && self.script.mailbox.push_urgent(Job::Settled).is_err() {
            tracing::trace!(source = self.script.source, "the script ends, and looks by itself");
        }
        tally
    }

    /// Takes back what the call remembered, since its commit was refused.
    pub(super) async fn take_back(mut self) {
        self.settled = true;
        if !self.note.has_changes() {
            return;
        }
        let (done, undone) = oneshot::channel();
        let job = Job::Undo { note: Arc::clone(&self.note), done };
        if self.script.mailbox.push_urgent(job).is_ok() && undone.await.is_err() {
            tracing::debug!(
                source = self.script.source,
                "the script ended before it could take back"
            );
        }
    }

    /// How the try that is under way ended.
    pub(super) async fn answer(&mut self) -> Result<Receipt, CommitError> {
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
            None => Job::Undo { note: Arc::clone(&self.note), done: oneshot::channel().0 },
        };
        if self.script.mailbox.push_urgent(job).is_err() {
            // What it remembered has ended with its thread.
            tracing::debug!(source = self.script.source, "the script ended before its answer came");
        }
    }
}
