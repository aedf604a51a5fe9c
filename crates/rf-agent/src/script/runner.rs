//! The thread that owns a source's VM.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use rf_queue::{Commit, CommitReply, PendingCommit, Store, StoredEvent};
use rf_script::{KvChange, LoadError, Session};
use tokio::sync::oneshot;

use super::handle::{ScriptCounters, Tally};
use super::mailbox::Mailbox;
use super::work::{Desk, Work};
use crate::pipeline::Batch;

/// Something for the thread to do. Answers whose receiver has gone are no error.
pub(super) enum Job {
    /// The script is called, and what comes of it is committed.
    Call(Input, Call),
    /// A commit was refused: what its call remembered is taken back.
    Undo { changes: Vec<KvChange>, done: oneshot::Sender<()> },
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

/// What a call did, for the case that its commit is refused.
#[derive(Default)]
pub(super) struct Note(Mutex<Done>);

#[derive(Default)]
pub(super) struct Done {
    pub(super) changes: Vec<KvChange>,
    /// To be tried again as it is.
    pub(super) commit: Option<Commit>,
    pub(super) tally: Tally,
}

impl Note {
    /// What is to be tried again.
    pub(super) fn commit(&self) -> Option<Commit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).commit.clone()
    }

    pub(super) fn take(&self) -> Done {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, done: Done) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = done;
    }
}

/// What the thread owns.
pub(super) struct Runner {
    pub(super) desk: Desk,
    pub(super) session: Session,
    pub(super) store: Store,
    pub(super) counters: Arc<ScriptCounters>,
}

impl Runner {
    /// Serves jobs until the mailbox is closed and empty.
    pub(super) fn run(mut self, mailbox: &Mailbox<Job>) {
        while let Some(jobs) = mailbox.take() {
            for job in jobs {
                self.serve(job);
            }
        }
    }

    fn serve(&mut self, job: Job) {
        match job {
            Job::Call(input, call) => self.call(input, call),
            Job::Undo { changes, done } => {
                self.session.undo(changes);
                // Whoever was refused may have given up meanwhile.
                let _nobody_waits = done.send(());
            }
            Job::Settle { pending, note } => {
                // The writer answers within a commit's time, and the calls behind this one go to the same writer.
                let outcome = pending.outcome_here();
                let Done { changes, tally, .. } = note.take();
                match outcome {
                    Ok(_) => self.counters.add(tally),
                    Err(_) => self.session.undo(changes),
                }
            }
            Job::Replace { text, done } => drop(done.send(self.session.replace(text))),
        }
    }

    fn call(&mut self, input: Input, call: Call) {
        let mut work = Work::new(&self.desk);
        work.kv = self.session.take_init_changes();
        let session = &mut self.session;
        // A panic of the host costs this input at the most, and what it was is kept.
        if catch_unwind(AssertUnwindSafe(|| work.run(session, &input))).is_err() {
            self.session.give_up_vm();
            work = Work::new(&self.desk);
            work.panicked(&input);
        }
        let (commit, changes, tally) = work.finish(input);
        let waits = commit.appends.iter().any(|append| self.store.blocks(append.queue));
        let kept = (call.keep || waits).then(|| commit.clone());
        call.note.put(Done { changes, commit: kept, tally });
        self.store.submit(commit, call.reply);
    }
}
