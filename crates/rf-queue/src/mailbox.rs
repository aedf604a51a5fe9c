//! The hand-over from the tasks to the writer thread: a bounded list that the writer swaps out whole.
//!
//! The writer is woken only when it sleeps; under load it finds the next group waiting when it comes back from a
//! commit, which is how groups grow by themselves.

use std::fs::File;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::answers::CommitReply;
use crate::errors::{CommitError, StoreError};
use crate::handed::Handed;
use crate::types::{Budget, Checkpoint, Commit, LeaseNote, QueueId, StoredEvent};

/// Content bytes that may wait for the writer; one commit is always taken when nothing waits.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;
/// Requests that may wait for the writer.
const MAX_WAITING_OPS: usize = 16 * 1024;

/// The file that is locked as long as a store has its database; empty until the lock could be taken.
pub(crate) type Lock = OnceLock<File>;

/// One request and where its answer goes. A receiver that has gone is no error: the work is done all the same.
pub(crate) enum Op {
    Commit(Commit, CommitReply),
    Read {
        queue: QueueId,
        after: u64,
        budget: Budget,
        reply: oneshot::Sender<Result<Vec<StoredEvent>, StoreError>>,
    },
    Lease {
        queue: QueueId,
        budget: Budget,
        ttl: Duration,
        note: Option<LeaseNote>,
        reply: oneshot::Sender<Result<Handed, StoreError>>,
    },
    Release {
        queue: QueueId,
        ids: Vec<u64>,
        reply: oneshot::Sender<Result<u64, StoreError>>,
    },
    Extend {
        queue: QueueId,
        token: u64,
        ttl: Duration,
        reply: oneshot::Sender<Result<bool, StoreError>>,
    },
    Checkpoint {
        key: String,
        reply: oneshot::Sender<Result<Option<Vec<u8>>, StoreError>>,
    },
    Checkpoints {
        prefix: String,
        reply: oneshot::Sender<Result<Vec<Checkpoint>, StoreError>>,
    },
    /// Does what is due (age limit, returned leases) and answers.
    Poke(oneshot::Sender<Result<(), StoreError>>),
}

impl Op {
    fn bytes(&self) -> usize {
        if let Self::Commit(commit, _) = self { commit.content_bytes() } else { 0 }
    }

    /// Whether it changes nothing.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Checkpoint { .. } | Self::Checkpoints { .. })
    }

    /// Answers with an error of the kind that the request expects.
    pub(crate) fn refuse(self, error: &StoreError) {
        let gone = match self {
            Self::Commit(_, reply) => !reply.send(Err(error.clone().into())),
            Self::Read { reply, .. } => reply.send(Err(error.clone())).is_err(),
            Self::Lease { reply, .. } => reply.send(Err(error.clone())).is_err(),
            Self::Release { reply, .. } => reply.send(Err(error.clone())).is_err(),
            Self::Extend { reply, .. } => reply.send(Err(error.clone())).is_err(),
            Self::Checkpoint { reply, .. } => reply.send(Err(error.clone())).is_err(),
            Self::Checkpoints { reply, .. } => reply.send(Err(error.clone())).is_err(),
            Self::Poke(reply) => reply.send(Err(error.clone())).is_err(),
        };
        if gone {
            tracing::trace!("nobody waits for the answer of a refused request");
        }
    }
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::Closed,
            StoreError::Failed(reason) => Self::Failed(reason),
        }
    }
}

/// What became of an attempt to hand a request over.
pub(crate) enum Submitted {
    /// The writer will answer.
    Yes,
    /// The writer will answer, and the caller must start it first.
    StartWriter,
    /// Too much is waiting; the request is given back.
    Busy(Op),
    /// The store is closed; the request is given back.
    Closed(Op),
}

/// What the writer finds.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) ops: Vec<Op>,
    /// Somebody was answered `Busy` since the last time and may be waiting for room.
    pub(crate) turned_away: bool,
}

#[derive(Default)]
struct Waiting {
    ops: Vec<Op>,
    bytes: usize,
    turned_away: bool,
    /// A writer thread exists and will look here again. It keeps the store's lock, so that nobody opens the database
    /// anew, in this process or another, before the last of its commits is done.
    running: Option<Arc<Lock>>,
    asleep: bool,
    closed: bool,
}

impl Waiting {
    fn take(&mut self) -> Taken {
        self.bytes = 0;
        Taken {
            ops: std::mem::take(&mut self.ops),
            turned_away: std::mem::take(&mut self.turned_away),
        }
    }
}

#[derive(Default)]
pub(crate) struct Mailbox {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Mailbox {
    /// A mailbox whose writer is about to be started.
    pub(crate) fn running(lock: &Arc<Lock>) -> Self {
        let waiting = Waiting { running: Some(Arc::clone(lock)), ..Waiting::default() };
        Self { waiting: Mutex::new(waiting), wake: Condvar::new() }
    }

    pub(crate) fn submit(&self, op: Op, lock: &Arc<Lock>) -> Submitted {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Submitted::Closed(op);
        }
        let bytes = op.bytes();
        let full =
            waiting.bytes + bytes > MAX_WAITING_BYTES || waiting.ops.len() >= MAX_WAITING_OPS;
        if full && !waiting.ops.is_empty() {
            waiting.turned_away = true;
            return Submitted::Busy(op);
        }
        waiting.bytes += bytes;
        waiting.ops.push(op);
        if waiting.running.is_none() {
            waiting.running = Some(Arc::clone(lock));
            return Submitted::StartWriter;
        }
        if waiting.asleep {
            waiting.asleep = false;
            self.wake.notify_one();
        }
        Submitted::Yes
    }

    /// Hands over a request that nobody waits for: only while a writer runs and has room for it, since it must be one that
    /// may be left undone.
    pub(crate) fn submit_unasked(&self, op: Op) {
        let mut waiting = self.waiting.lock();
        let takes = waiting.running.is_some() && waiting.ops.len() < MAX_WAITING_OPS;
        if !waiting.closed && takes {
            waiting.ops.push(op);
            if waiting.asleep {
                waiting.asleep = false;
                self.wake.notify_one();
            }
        }
    }

    /// All that waits; sleeps up to `patience` when there is nothing.
    pub(crate) fn take(&self, patience: Duration) -> Taken {
        let mut waiting = self.waiting.lock();
        if waiting.ops.is_empty() && !waiting.closed && !patience.is_zero() {
            waiting.asleep = true;
            let is_idle = |w: &mut Waiting| w.ops.is_empty() && !w.closed;
            self.wake.wait_while_for(&mut waiting, is_idle, patience);
            waiting.asleep = false;
        }
        waiting.take()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().ops.is_empty()
    }

    /// The writer has closed its files. False when requests have come meanwhile: it must open them again.
    pub(crate) fn retire(&self) -> bool {
        let mut waiting = self.waiting.lock();
        if !waiting.ops.is_empty() {
            return false;
        }
        self.end(&mut waiting);
        true
    }

    /// The writer is gone without having served: whoever waits is told by a dropped answer.
    pub(crate) fn abandon(&self) {
        let mut waiting = self.waiting.lock();
        let dropped = waiting.take();
        self.end(&mut waiting);
        drop(waiting);
        drop(dropped);
    }

    /// The writer could not start: whoever waits gets the error, and the next request starts it again.
    pub(crate) fn refuse_waiting(&self, error: &StoreError) {
        let mut waiting = self.waiting.lock();
        let refused = waiting.take();
        self.end(&mut waiting);
        drop(waiting);
        refused.ops.into_iter().for_each(|op| op.refuse(error));
    }

    fn end(&self, waiting: &mut Waiting) {
        waiting.running = None;
        self.wake.notify_all();
    }

    /// Takes no more requests; those waiting are still served.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    #[cfg(test)]
    pub(crate) fn is_running(&self) -> bool {
        self.waiting.lock().running.is_some()
    }

    /// Blocks until no writer runs.
    pub(crate) fn wait_retired(&self) {
        let mut waiting = self.waiting.lock();
        self.wake.wait_while(&mut waiting, |w| w.running.is_some());
    }
}

#[cfg(test)]
mod tests;
