//! The thread that owns a source's VM.

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
    /// What `init` has remembered and is not stored.
    pub(super) init: Vec<KvChange>,
}

impl Runner {
    /// Serves jobs until the mailbox is closed and empty.
    pub(super) fn run(mut self, mailbox: &Mailbox<Job>) {
        self.store_init();
        while let Some(jobs) = mailbox.take() {
            for job in jobs {
                self.serve(job);
                self.store_init();
            }
        }
    }

    /// By itself: it stays, whatever becomes of the events that come next.
    fn store_init(&mut self) {
        self.init.extend(self.session.take_init_changes());
        if self.init.is_empty() {
            return;
        }
        let newest = self.init.iter().filter(|change| self.session.remembers(change));
        let checkpoints = newest.map(|change| self.desk.checkpoint(change)).collect();
        let (reply, pending) = PendingCommit::new();
        self.store.submit(Commit { checkpoints, ..Commit::default() }, reply);
        match pending.outcome_here() {
            Ok(_) => self.init.clear(),
            Err(error) => {
                let source = &self.desk.source;
                tracing::warn!(source, %error, "what the script's init() has set with kv_set cannot be stored, trying again later");
            }
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
                    Ok(_) => self.counters.add(note.take().tally),
                    Err(_) => self.undo(&note),
                }
            }
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
        let waits = commit.appends.iter().any(|append| self.store.blocks(append.queue));
        let kept = (call.keep || waits).then(|| commit.clone());
        commit.checkpoints.extend(changes.iter().map(|change| self.desk.checkpoint(change)));
        call.note.put(Done { changes, commit: kept, tally });
        self.open.add(&call.note);
        self.store.submit(commit, call.reply);
    }

    /// Without the values that later calls have changed: they may be stored by now.
    fn again(&self, note: &Note, reply: CommitReply) {
        // Of what was not kept nothing is tried, which a dropped answer says.
        let Some((mut commit, changes)) = note.kept() else { return };
        let newest = changes.iter().filter(|change| self.session.remembers(change));
        commit.checkpoints.extend(newest.map(|change| self.desk.checkpoint(change)));
        self.store.submit(commit, reply);
    }

    fn undo(&mut self, note: &Arc<Note>) {
        let changes = self.open.refused(note);
        self.session.undo(changes);
    }
}
