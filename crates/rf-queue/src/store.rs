//! The handle that the rest of the program holds: hands requests to the writer thread and waits for its answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::admit::most_removed_at_once;
use crate::answers::{CommitReply, PendingCommit};
use crate::errors::{CommitError, FullReason, Notice, OpenError, StoreError};
use crate::find::{Found, find};
use crate::handed::Handed;
use crate::limits::Limits;
use crate::mailbox::{Lock, Mailbox, Op, Submitted};
use crate::shared::Shared;
use crate::thread::{give_way, guard, live};
use crate::types::{
    Budget, Checkpoint, Commit, DiskUsage, LeaseNote, Leased, QueueId, QueueUsage, Receipt, Remove,
    StoreOptions, StoreTrouble, StoredEvent, WhenFull,
};
use crate::writer::Writer;
use crate::{later, open};

/// A store and what opening it did.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// What a person should know.
    pub notices: Vec<Notice>,
}

/// One database of named queues. Cheap to clone; every clone is the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    options: StoreOptions,
    mailbox: Arc<Mailbox>,
    shared: Arc<Shared>,
    /// Held locked as long as the store or its writer lives: a second process would count wrongly.
    lock: Arc<Lock>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.inner.options.path).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    /// The last handle is gone: the writer serves what waits and ends by itself.
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

impl Store {
    /// Opens or creates the database: takes over events of the original, salvages a damaged file. Blocks on I/O.
    ///
    /// # Errors
    /// [`OpenError`]: another process has it open, the limit is too small, the folder is missing, a newer format.
    pub fn open(options: StoreOptions) -> Result<Opened, OpenError> {
        let inner = Inner::new(options)?;
        let opened = open::first(&inner.options, &inner.shared, &inner.mailbox, &inner.lock)?;
        inner.run(opened)
    }

    /// As [`Self::open`], and makes the folder. Where the disk is full, may only be read or fails, so that the database cannot
    /// be opened now, the store begins without it: everything is refused as [`StoreError::Failed`], and the opening is tried
    /// again until it is done, or turns out never to be possible ([`Self::failed`]). Its notices are logged then.
    ///
    /// # Errors
    /// [`OpenError`] that does not pass by itself.
    pub fn open_when_possible(options: StoreOptions) -> Result<Opened, OpenError> {
        let inner = Inner::new(options)?;
        match later::open(&inner.options, &inner.shared, &inner.mailbox, &inner.lock) {
            Ok(opened) => inner.run(opened),
            Err(error) if error.may_pass() => inner.run_later(error),
            Err(error) => Err(error),
        }
    }

    /// Whether its database is open; see [`Self::open_when_possible`].
    pub fn is_open(&self) -> bool {
        !self.inner.shared.is_waiting.load(Ordering::Relaxed)
    }

    /// The queue of that name.
    pub fn queue(&self, name: &str) -> Option<QueueId> {
        self.inner.shared.queues.iter().position(|queue| queue.name == name).map(QueueId)
    }

    /// Applies a commit; `Ok` means durable as configured. With a [`WhenFull::Block`] queue it waits for room.
    ///
    /// # Errors
    /// [`CommitError`]; nothing of the commit was done then. Dropping the future does not take the commit back.
    pub async fn commit(&self, commit: Commit) -> Result<Receipt, CommitError> {
        if !commit.appends.iter().any(|append| self.blocks(append.queue)) {
            return self.commit_once(commit).await;
        }
        let mut room = self.room();
        loop {
            // Interest in room is registered before the try, so that room made meanwhile is not missed.
            room.mark_unchanged();
            match self.commit_once(commit.clone()).await {
                Err(CommitError::Full { .. }) => {
                    if room.changed().await.is_err() {
                        return Err(CommitError::Closed);
                    }
                }
                other => return other,
            }
        }
    }

    async fn commit_once(&self, commit: Commit) -> Result<Receipt, CommitError> {
        let (reply, mut pending) = PendingCommit::new();
        self.submit(commit, reply);
        pending.outcome().await
    }

    /// Changes whenever room was made in some queue, and when the store is closed: for those who
    /// [submit](Self::submit) to a queue that blocks.
    pub fn room(&self) -> watch::Receiver<u64> {
        self.inner.shared.room.subscribe()
    }

    /// Hands a commit to the writer, in the order of the calls; whoever holds the other end of `reply` gets the answer,
    /// straight from the writer's thread. Never waits for room: [`WhenFull::Block`] is up to the caller.
    pub fn submit(&self, commit: Commit, reply: CommitReply) {
        let Err(refused) = self.hand_over(Op::Commit(commit, reply)) else { return };
        let (op, error) = match refused {
            Refused::Closed(op) => (op, CommitError::Closed),
            Refused::Busy(op) => {
                let queue = match &*op {
                    Op::Commit(commit, _) => commit.appends.first().map(|append| append.queue),
                    _ => None,
                };
                let name = queue.map(|id| self.inner.shared.queues[id.0].name.clone());
                let queue = name.unwrap_or_default();
                (op, CommitError::Full { queue, reason: FullReason::Busy })
            }
        };
        if let Op::Commit(_, reply) = *op
            && !reply.send(Err(error))
        {
            tracing::trace!("nobody waits for the answer of a refused commit");
        }
    }

    /// Whether commits to the queue wait for room instead of being refused.
    pub fn blocks(&self, queue: QueueId) -> bool {
        self.inner.shared.queues[queue.0].when_full == WhenFull::Block
    }

    /// Events with an id above `after`, oldest first; everybody who asks sees the same.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(
        &self,
        queue: QueueId,
        after: u64,
        budget: Budget,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.ask(|reply| Op::Read { queue, after, budget, reply }).await
    }

    /// Events that nobody holds, for `ttl`: until then, or until they are released, no other lease gets them. Dropped before
    /// it has answered, it leaves no lease behind.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lease(
        &self,
        queue: QueueId,
        budget: Budget,
        ttl: Duration,
    ) -> Result<Leased, StoreError> {
        self.lease_as(queue, budget, ttl, None).await
    }

    /// As [`Self::lease`], with a note of who has it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lease_as(
        &self,
        queue: QueueId,
        budget: Budget,
        ttl: Duration,
        note: Option<LeaseNote>,
    ) -> Result<Leased, StoreError> {
        self.ask(|reply| Op::Lease { queue, budget, ttl, note, reply }).await.map(Handed::take)
    }

    /// Removes delivered events; how many were there. Durable when it returns.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn ack(&self, queue: QueueId, ids: Vec<u64>) -> Result<u64, CommitError> {
        let removes = vec![Remove { queue, ids }];
        let receipt = self.commit_once(Commit { removes, ..Commit::default() }).await?;
        Ok(receipt.removed)
    }

    /// Gives leased events back at once; how many were held.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release(&self, queue: QueueId, ids: Vec<u64>) -> Result<u64, StoreError> {
        self.ask(|reply| Op::Release { queue, ids, reply }).await
    }

    /// Holds a lease until `ttl` from now; false when it has run out or everything in it was acknowledged.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn extend(
        &self,
        queue: QueueId,
        token: u64,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        self.ask(|reply| Op::Extend { queue, token, ttl, reply }).await
    }

    /// A stored checkpoint.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn checkpoint(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let key = key.to_owned();
        self.ask(|reply| Op::Checkpoint { key, reply }).await
    }

    /// Every stored checkpoint whose key begins with `prefix`, by key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn checkpoints(&self, prefix: &str) -> Result<Vec<Checkpoint>, StoreError> {
        let prefix = prefix.to_owned();
        self.ask(|reply| Op::Checkpoints { prefix, reply }).await
    }

    /// Where events are that `is_meant` by their content, queues and dead letters; looked for beside the writer, which does not
    /// wait for it, and for at most `patience`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn find(
        &self,
        is_meant: Arc<dyn Fn(&[u8]) -> bool + Send + Sync>,
        patience: Duration,
    ) -> Result<Found, StoreError> {
        let waits = self.inner.shared.queues.iter().any(|queue| queue.usage.lock().events > 0);
        if !waits && self.disk().dead_letters == 0 {
            return Ok(Found::default());
        }
        let path = self.inner.options.path.clone();
        let found =
            tokio::task::spawn_blocking(move || find(&path, is_meant.as_ref(), patience)).await;
        let found = found.map_err(|error| StoreError::Failed(error.to_string()))?;
        found.map_err(|error| StoreError::Failed(error.to_string()))
    }

    /// Does at once what is due, also in a hibernating store: the age limit, leases that ran out, dead letters to retry.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn poke(&self) -> Result<(), StoreError> {
        self.ask(Op::Poke).await
    }

    /// Whether events have passed the age limit that a hibernating store has not dropped yet: call [`Store::poke`].
    pub fn is_due(&self) -> bool {
        let now = self.inner.options.clock.wall_ms();
        self.inner.options.queues.iter().zip(&self.inner.shared.queues).any(|(options, shared)| {
            let oldest = shared.usage.lock().oldest_at_ms;
            let due = oldest
                .zip(options.max_age)
                .map(|(at, age)| at.saturating_add(crate::clock::millis(age)));
            due.is_some_and(|due| due <= now)
        })
    }

    /// Changes whenever events become available in the queue.
    pub fn watch(&self, queue: QueueId) -> watch::Receiver<u64> {
        self.inner.shared.queues[queue.0].available.subscribe()
    }

    /// The queue's counters, from memory.
    pub fn usage(&self, queue: QueueId) -> QueueUsage {
        *self.inner.shared.queues[queue.0].usage.lock()
    }

    /// The store's bytes, from memory.
    pub fn disk(&self) -> DiskUsage {
        *self.inner.shared.disk.lock()
    }

    /// So many events a commit may remove that puts something into the store as well; at least one.
    pub fn removes_at_once(&self) -> usize {
        most_removed_at_once(&Limits::new(self.inner.options.max_bytes))
    }

    /// Whether less than half of the room is used, from memory: of the store's, and of what the queue itself may have.
    pub fn is_half_empty(&self, queue: QueueId) -> bool {
        let (disk, usage) = (self.disk(), self.usage(queue));
        let own = self.inner.options.queues[queue.0].max_bytes;
        disk.used_bytes < disk.events_max_bytes / 2 && own.is_none_or(|most| usage.bytes < most / 2)
    }

    /// What keeps the store from its work, from memory: a disk that takes nothing, files that cannot be opened, or requests
    /// that the database has refused within the last minute. It goes on by itself once that is over.
    pub fn trouble(&self) -> Option<StoreTrouble> {
        self.inner.shared.trouble(self.inner.options.clock.as_ref())
    }

    /// Resolves when the store can no longer keep its promise (damaged file, panic of the writer); the process must end.
    pub async fn failed(&self) -> String {
        let mut fatal = self.inner.shared.fatal.subscribe();
        let found = fatal.wait_for(Option::is_some).await;
        found.ok().and_then(|text| text.clone()).unwrap_or_default()
    }

    /// Serves what waits, empties the WAL, ends the threads. Later requests are answered `Closed`.
    pub async fn close(&self) {
        let mailbox = Arc::clone(&self.inner.mailbox);
        mailbox.close();
        // Whoever is blocked on a full queue is told.
        self.inner.shared.announce_room();
        if tokio::task::spawn_blocking(move || mailbox.wait_retired()).await.is_err() {
            tracing::error!("waiting for the store's writer failed");
        }
    }

    async fn ask<T>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Op,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        match self.hand_over(op(reply)) {
            Ok(()) => answer.await.unwrap_or(Err(StoreError::Closed)),
            Err(Refused::Closed(_)) => Err(StoreError::Closed),
            Err(Refused::Busy(_)) => Err(StoreError::Failed(FullReason::Busy.to_string())),
        }
    }

    fn hand_over(&self, op: Op) -> Result<(), Refused> {
        let inner = &self.inner;
        match inner.mailbox.submit(op, &inner.lock) {
            Submitted::Yes => Ok(()),
            Submitted::Busy(op) => Err(Refused::Busy(Box::new(op))),
            Submitted::Closed(op) => Err(Refused::Closed(Box::new(op))),
            Submitted::StartWriter => {
                if let Err(error) = inner.start(None) {
                    tracing::error!(%error, "the thread of the store's writer cannot be started");
                    // Whoever waits, this request among them, is told by a dropped answer.
                    inner.mailbox.abandon();
                }
                Ok(())
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn is_hibernating(&self) -> bool {
        !self.inner.mailbox.is_running()
    }
}

enum Refused {
    Busy(Box<Op>),
    Closed(Box<Op>),
}

impl Inner {
    fn new(options: StoreOptions) -> Result<Self, OpenError> {
        open::check(&options)?;
        let lock = Arc::<Lock>::default();
        let mailbox = Arc::new(Mailbox::running(&lock));
        Ok(Self { mailbox, shared: Shared::new(&options), lock, options })
    }

    fn run(self, (writer, notices): (Writer, Vec<Notice>)) -> Result<Opened, OpenError> {
        let no_thread = |source| OpenError::Thread { path: self.options.path.clone(), source };
        self.start(Some(writer)).map_err(no_thread)?;
        Ok(Opened { store: Store { inner: Arc::new(self) }, notices })
    }

    fn run_later(self, error: OpenError) -> Result<Opened, OpenError> {
        self.shared.is_waiting.store(true, Ordering::Relaxed);
        let no_thread = |source| OpenError::Thread { path: self.options.path.clone(), source };
        self.start_later(error).map_err(no_thread)?;
        Ok(Opened { store: Store { inner: Arc::new(self) }, notices: Vec::new() })
    }

    /// Starts the thread that opens the database as soon as it can be, and is the writer from then on.
    fn start_later(&self, error: OpenError) -> std::io::Result<()> {
        let (options, shared, mailbox) =
            (self.options.clone(), Arc::clone(&self.shared), Arc::clone(&self.mailbox));
        // Not longer than for the opening: the mailbox keeps the lock of a writer that runs.
        let lock = Arc::clone(&self.lock);
        let thread = std::thread::Builder::new().name("rf-store".to_owned());
        let body = move || {
            give_way(options.niceness);
            guard(&mailbox, &shared, || {
                let writer = later::wait(error, &options, &shared, &mailbox, &lock);
                drop(lock);
                match writer {
                    Some(writer) => live(Some(writer), &options, &shared, &mailbox),
                    None => mailbox.refuse_waiting(&StoreError::Closed),
                }
            });
        };
        thread.spawn(body).map(drop)
    }

    /// Starts the writer thread. Opening again happens on it, so that nobody who asks waits for the disk.
    fn start(&self, writer: Option<Writer>) -> std::io::Result<()> {
        let (options, shared, mailbox) =
            (self.options.clone(), Arc::clone(&self.shared), Arc::clone(&self.mailbox));
        let thread = std::thread::Builder::new().name("rf-store".to_owned());
        let body = move || {
            give_way(options.niceness);
            guard(&mailbox, &shared, || live(writer, &options, &shared, &mailbox));
        };
        thread.spawn(body).map(drop)
    }
}
