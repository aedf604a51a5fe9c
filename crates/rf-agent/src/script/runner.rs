//! The thread that owns a source's VM.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rf_queue::{Commit, CommitReply, PendingCommit, Store, StoredEvent};
use rf_script::{KvChange, LoadError, Session};
use tokio::sync::oneshot;

use super::handle::ScriptCounters;
use super::mailbox::Mailbox;
use super::note::{Done, Note, OpenCalls};
use super::work::{Desk, Work};
use crate::pipeline::Batch;

/// Something for the thread to do. Answers whose receiver has gone are no error.
pub(super) enum Job {
    /// The script is called, and what comes of it is committed.
    Call(Input, Call),
    /// A commit that was refused is tried again.
    Again { note: Arc<Note>, reply: CommitReply },
    /// A commit was refused: what its call remembered is taken back.
    Undo { note: Arc<Note>, done: oneshot::Sender<()> },
    /// Whoever waited for a commit has left: if it is refused, what its call remembered is taken back.
    Settle { pending: PendingCommit, note: Arc<Note> },
    /// A commit that had to wait has ended: what is unsure may be settled.
    Settled,
    /// A new text of the script.
    Replace { text: Vec<u8>, done: oneshot::Sender<Result<(), LoadError>> },
}

/// What the script is called with.
pub(super) enum Input {
    /// Events of the source, and the id under which a repeat of them is passed over.
    Batch(Batch, Option<String>),
    /// Nothing: `TimerHandler`.
    Tick,
    /// Letters that a person has retried, out of the queue of letters.
    Letters(Vec<StoredEvent>),
}

/// Where the answer to a commit goes, and what whoever waits for it may need.
pub(super) struct Call {
    pub(super) reply: CommitReply,
    pub(super) note: Arc<Note>,
    /// The commit is wanted back even if no queue of it blocks.
    pub(super) keep: bool,
}

/// What the thread owns.
pub(super) struct Runner {
    pub(super) desk: Desk,
    pub(super) session: Session,
    pub(super) store: Store,
    pub(super) counters: Arc<ScriptCounters>,
    pub(super) open: OpenCalls,
    /// Keys whose stored value may not be the one that is remembered: set by `init`, or by a commit that had to wait and may
    /// have been stored after that of a later call.
    pub(super) unsure: BTreeSet<String>,
}

impl Runner {
    /// Serves jobs until the mailbox is closed and empty.
    pub(super) fn run(mut self, mailbox: &Mailbox<Job>) {
        self.store_unsure();
        while let Some(jobs) = mailbox.take() {
            for job in jobs {
                self.serve(job);
                self.store_unsure();
            }
        }
        // By now the last ones are settled, too.
        self.store_unsure();
    }

    /// By itself, so that it stays, whatever becomes of the events that come next; but not before the calls that have changed
    /// it are settled.
    fn store_unsure(&mut self) {
        let set = self.session.take_init_changes();
        self.unsure.extend(set.into_iter().map(|change| change.key));
        let (open, settled): (BTreeSet<_>, BTreeSet<_>) = std::mem::take(&mut self.unsure)
            .into_iter()
            .partition(|key| self.open.have_changed(key));
        self.unsure = open;
        if settled.is_empty() {
            return;
        }
        let remembered = |key: &String| self.desk.checkpoint(key, self.session.remembered(key));
        let checkpoints = settled.iter().map(remembered).collect();
        let (reply, pending) = PendingCommit::new();
        let commit = Commit { checkpoints, within_limit: true, ..Commit::default() };
        self.store.submit(commit, reply);
        if let Err(error) = pending.outcome_here() {
            let source = &self.desk.source;
            tracing::warn!(source, %error, "what the script has set with kv_set cannot be stored, trying again later");
            self.unsure.extend(settled);
        }
    }

    fn serve(&mut self, job: Job) {
        match job {
            Job::Call(input, call) => self.call(input, call),
            Job::Again { note, reply } => self.again(&note, reply),
            Job::Undo { note, done } => {
                self.undo(&note);
                // Whoever was refused may have given up meanwhile.
                let _nobody_waits = done.send(());
            }
            Job::Settle { pending, note } => {
                // The writer answers within a commit's time, and the calls behind this one go to the same writer.
                match pending.outcome_here() {
                    Ok(_) => self.counters.add(note.settle()),
                    Err(_) => self.undo(&note),
                }
            }
            Job::Settled => {}
            Job::Replace { text, done } => drop(done.send(self.session.replace(text))),
        }
    }

    fn call(&mut self, input: Input, call: Call) {
        let mut work = Work::new(&self.desk);
        let session = &mut self.session;
        // A panic of the host costs this input at the most, and what it was is kept.
        if catch_unwind(AssertUnwindSafe(|| work.run(session, &input))).is_err() {
            self.session.give_up_vm();
            work = Work::new(&self.desk);
            work.panicked(&input);
        }
        let (mut commit, changes, tally) = work.finish(input);
        commit.within_limit = !changes.is_empty();
        let waits = commit.appends.iter().any(|append| self.store.blocks(append.queue));
        let kept = (call.keep || waits).then(|| commit.clone());
        let value = |change: &KvChange| self.desk.checkpoint(&change.key, change.value.clone());
        commit.checkpoints.extend(changes.iter().map(value));
        call.note.put(Done { changes, commit: kept, tally, is_settled: false });
        self.open.add(&call.note);
        self.store.submit(commit, call.note.marked(call.reply));
    }

    /// Without the values that later calls have changed and stored. One that later calls have gone on from, which wait as well,
    /// belongs to this commit: a restart must find it even if they have to wait for much longer. One of them may also be stored,
    /// with nobody told of it yet: so the writer is waited for, which has all of their tries from here.
    fn again(&mut self, note: &Arc<Note>, reply: CommitReply) {
        self.open.prune();
        // Of what was not kept nothing is tried, which a dropped answer says.
        let Some((mut commit, changes)) = note.kept() else { return };
        let has_later = |change: &KvChange| self.open.is_overtaken(note, &change.key).is_some();
        let is_known = changes.iter().any(has_later) && self.is_caught_up();
        for change in changes {
            match self.open.is_overtaken(note, &change.key) {
                Some(true) => continue,
                // `init` of a newer VM has changed it.
                None if !self.session.remembers(&change) => continue,
                Some(false) if !is_known => {
                    self.unsure.insert(change.key.clone());
                }
                _ => {}
            }
            commit.checkpoints.push(self.desk.checkpoint(&change.key, change.value));
        }
        self.store.submit(commit, note.marked(reply));
    }

    /// Waits until the writer is through with everything that was submitted before; false where it refuses even nothing.
    fn is_caught_up(&self) -> bool {
        let (reply, pending) = PendingCommit::new();
        self.store.submit(Commit::default(), reply);
        pending.outcome_here().is_ok()
    }

    fn undo(&mut self, note: &Arc<Note>) {
        let changes = self.open.refused(note);
        self.session.undo(changes);
    }
}
