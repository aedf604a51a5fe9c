//! The answers to a group's commits, handed to each runtime in one go.
//!
//! Waking a task from another thread costs a system call on a single-threaded runtime. A group of sixty commits would pay
//! that sixty times, on the one thread that everybody waits for. So the answers of a group go over as one short task for
//! each runtime, which wakes the rest where waking is a push to a list.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::errors::CommitError;
use crate::types::Receipt;

/// Fewer are sent one by one: the task would cost more.
const MIN_TOGETHER: usize = 4;

type Outcome = Result<Receipt, CommitError>;
type Answer = (oneshot::Sender<Outcome>, Outcome);

/// Where the answer to a commit goes, and where whoever waits for it runs.
pub struct CommitReply {
    sender: oneshot::Sender<Outcome>,
    runtime: Option<Handle>,
    /// Events that a try of the commit has removed in transactions that stand, before the rest of it was undone.
    pub(crate) removed: u64,
    stored: Option<Arc<AtomicBool>>,
}

/// The answer to a commit that another thread submits; see [`crate::Store::submit`].
#[derive(Debug)]
pub struct PendingCommit(oneshot::Receiver<Outcome>);

impl PendingCommit {
    /// The two ends of an answer. To be called where the answer will be waited for.
    pub fn new() -> (CommitReply, Self) {
        let (sender, receiver) = oneshot::channel();
        let runtime = Handle::try_current().ok();
        (CommitReply { sender, runtime, removed: 0, stored: None }, Self(receiver))
    }

    /// The answer, once it has come.
    ///
    /// # Errors
    /// [`CommitError`]; nothing of the commit was done then. Also when the other end was dropped.
    pub async fn outcome(&mut self) -> Outcome {
        (&mut self.0).await.unwrap_or(Err(CommitError::Closed))
    }

    /// As [`Self::outcome`], for threads without a runtime: they stand still until the writer has answered.
    ///
    /// # Errors
    /// As [`Self::outcome`].
    pub fn outcome_here(self) -> Outcome {
        self.0.blocking_recv().unwrap_or(Err(CommitError::Closed))
    }
}

impl CommitReply {
    /// Has `stored` set once the commit is stored, before anybody hears of that, or of a commit that was submitted later.
    #[must_use]
    pub fn marking(self, stored: Arc<AtomicBool>) -> Self {
        Self { stored: Some(stored), ..self }
    }

    /// False when nobody waits any more; what was done stays done.
    pub(crate) fn send(self, outcome: Outcome) -> bool {
        self.sender.send(outcome).is_ok()
    }
}

/// Answers that wait to be sent, by runtime.
#[derive(Default)]
pub(crate) struct Answers {
    by_runtime: Vec<(Option<Handle>, Vec<Answer>)>,
}

impl Answers {
    pub(crate) fn add(&mut self, reply: CommitReply, outcome: Outcome) {
        if let (Some(stored), Ok(_)) = (&reply.stored, &outcome) {
            stored.store(true, Ordering::Release);
        }
        let id = reply.runtime.as_ref().map(Handle::id);
        let same =
            |(handle, _): &&mut (Option<Handle>, Vec<_>)| handle.as_ref().map(Handle::id) == id;
        match self.by_runtime.iter_mut().find(same) {
            Some((_, answers)) => answers.push((reply.sender, outcome)),
            None => self.by_runtime.push((reply.runtime, vec![(reply.sender, outcome)])),
        }
    }

    pub(crate) fn send(self) {
        for (runtime, answers) in self.by_runtime {
            match runtime {
                // A runtime that ends before it runs the task ends those who wait, too.
                Some(runtime) if answers.len() >= MIN_TOGETHER => {
                    drop(runtime.spawn(async move { send_all(answers) }));
                }
                _ => send_all(answers),
            }
        }
    }
}

fn send_all(answers: Vec<Answer>) {
    for (sender, outcome) in answers {
        // Nobody may be waiting any more; what was done stays done.
        drop(sender.send(outcome));
    }
}
