//! A store in a temporary folder, with a clock that the test moves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use crate::{
    Budget, Bury, Checkpoint, Clock, Commit, CommitError, Durability, Notice, OpenError, Opened,
    QueueId, QueueOptions, QueueUsage, Receipt, Remove, Store, StoreOptions, StoredEvent,
};

pub(super) const MIB: u64 = 1024 * 1024;
pub(super) const EVERYTHING: Budget = Budget { events: usize::MAX, bytes: usize::MAX };
pub(super) const TTL: Duration = Duration::from_secs(30);

/// Wall and monotonic time, moved together unless the test sets the wall clock.
#[derive(Debug)]
pub(super) struct TestClock {
    wall: AtomicU64,
    mono: AtomicU64,
}

impl TestClock {
    pub(super) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap();
        self.wall.fetch_add(by, Ordering::SeqCst);
        self.mono.fetch_add(by, Ordering::SeqCst);
    }

    pub(super) fn set_wall_forward(&self, by: Duration) {
        self.wall.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(super) fn set_wall_back(&self, by: Duration) {
        self.wall.fetch_sub(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn wall_ms(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn mono_ms(&self) -> u64 {
        self.mono.load(Ordering::SeqCst)
    }
}

/// A folder, a clock, options and, mostly, an open store.
pub(super) struct Rig {
    _folder: TempDir,
    pub(super) clock: Arc<TestClock>,
    pub(super) options: StoreOptions,
    pub(super) notices: Vec<Notice>,
    store: Option<Store>,
}

impl Rig {
    /// One queue `q` of a store of 16 MiB.
    pub(super) fn new() -> Self {
        Self::with(16 * MIB, vec![QueueOptions::new("q")])
    }

    pub(super) fn with(max_bytes: u64, queues: Vec<QueueOptions>) -> Self {
        let mut rig = Self::closed(max_bytes, queues);
        rig.open().unwrap();
        rig
    }

    /// As [`Self::with`], for tests with so many commits one after the other that a slow disk would take minutes to sync them.
    pub(super) fn unsynced(max_bytes: u64, queues: Vec<QueueOptions>) -> Self {
        let mut rig = Self::closed(max_bytes, queues);
        rig.options.durability = Durability::Process;
        rig.open().unwrap();
        rig
    }

    pub(super) fn closed(max_bytes: u64, queues: Vec<QueueOptions>) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(TestClock {
            wall: AtomicU64::new(1_700_000_000_000),
            mono: AtomicU64::new(5_000),
        });
        let path = folder.path().join("store.sqlite3");
        let options =
            StoreOptions { clock: clock.clone(), ..StoreOptions::new(path, max_bytes, queues) };
        Self { _folder: folder, clock, options, notices: Vec::new(), store: None }
    }

    pub(super) fn open(&mut self) -> Result<(), OpenError> {
        let Opened { store, notices } = Store::open(self.options.clone())?;
        (self.store, self.notices) = (Some(store), notices);
        Ok(())
    }

    /// The same on a disk that may not let the database be opened now.
    pub(super) fn open_when_possible(&mut self) {
        let Opened { store, notices } = Store::open_when_possible(self.options.clone()).unwrap();
        (self.store, self.notices) = (Some(store), notices);
    }

    pub(super) async fn close(&mut self) {
        if let Some(store) = self.store.take() {
            store.close().await;
        }
    }

    /// Drops the store without closing it.
    pub(super) fn forget(&mut self) {
        self.store = None;
    }

    /// Opens as soon as a store that was dropped has let go.
    pub(super) async fn until_opened(&mut self) {
        let opening = async {
            while let Err(error) = self.open() {
                assert!(matches!(error, OpenError::InUse { .. }), "{error}");
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), opening).await.expect("the writer ends");
    }

    pub(super) async fn reopen(&mut self) {
        self.close().await;
        self.open().unwrap();
    }

    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    pub(super) fn path(&self) -> &Path {
        &self.options.path
    }

    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        crate::space::beside(self.path(), suffix)
    }

    /// The first queue.
    pub(super) fn q(&self) -> QueueId {
        QueueId(0)
    }

    pub(super) fn queue(&self, name: &str) -> QueueId {
        self.store().queue(name).expect("a configured queue")
    }

    pub(super) async fn append(&self, events: &[&str]) -> Result<Receipt, CommitError> {
        self.append_to(self.q(), events).await
    }

    pub(super) async fn append_to(
        &self,
        queue: QueueId,
        events: &[&str],
    ) -> Result<Receipt, CommitError> {
        let events = events.iter().map(|event| Bytes::copy_from_slice(event.as_bytes())).collect();
        self.store().commit(Commit::append(queue, events)).await
    }

    pub(super) async fn all(&self) -> Vec<StoredEvent> {
        self.store().read(self.q(), 0, EVERYTHING).await.unwrap()
    }

    pub(super) async fn ids(&self) -> Vec<u64> {
        self.all().await.iter().map(|event| event.id).collect()
    }

    /// Contents of the first queue, as text.
    pub(super) async fn texts(&self) -> Vec<String> {
        texts(&self.all().await)
    }

    pub(super) async fn lease(&self, events: usize) -> (u64, Vec<StoredEvent>) {
        let leased =
            self.store().lease(self.q(), Budget { events, bytes: usize::MAX }, TTL).await.unwrap();
        (leased.token, leased.events)
    }

    pub(super) async fn ack(&self, ids: Vec<u64>) -> u64 {
        self.store().ack(self.q(), ids).await.unwrap()
    }

    pub(super) fn usage(&self) -> QueueUsage {
        self.store().usage(self.q())
    }

    /// Waits for what the store does by itself when it next looks around.
    pub(super) async fn until(&self, mut done: impl AsyncFnMut(&Store) -> bool) {
        let waiting = async {
            while !done(self.store()).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .expect("the store does it in time");
    }
}

pub(super) fn texts(events: &[StoredEvent]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8(event.content.to_vec()).unwrap()).collect()
}

pub(super) fn filled(len: usize) -> Bytes {
    vec![b'x'; len].into()
}

pub(super) fn set(key: &str, value: &str) -> Checkpoint {
    Checkpoint { key: key.to_owned(), value: Some(value.as_bytes().to_vec()) }
}

pub(super) fn bury(queue: QueueId, id: u64) -> Commit {
    Commit {
        dead: vec![Bury { queue, id, reason: "refused".to_owned(), attempts: 3 }],
        ..Commit::default()
    }
}

pub(super) fn remove(queue: QueueId, ids: Vec<u64>) -> Commit {
    Commit { removes: vec![Remove { queue, ids }], ..Commit::default() }
}
