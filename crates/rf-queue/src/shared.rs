//! What other threads may see of a store: counters and wake-ups, published after each commit.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::limits::{Limits, PAGE};
use crate::types::{DiskUsage, QueueUsage, StoreOptions, WhenFull};

/// What other threads may see of a queue.
pub(crate) struct QueueShared {
    pub(crate) name: String,
    pub(crate) usage: Mutex<QueueUsage>,
    pub(crate) available: watch::Sender<u64>,
    pub(crate) when_full: WhenFull,
}

/// What other threads may see of a store.
pub(crate) struct Shared {
    pub(crate) queues: Vec<QueueShared>,
    pub(crate) disk: Mutex<DiskUsage>,
    /// Changes whenever something was removed: blocked appends try again.
    pub(crate) room: watch::Sender<u64>,
    /// Set when the store can no longer keep its promise; the process must end.
    pub(crate) fatal: watch::Sender<Option<String>>,
    /// The database could not be opened yet.
    pub(crate) is_waiting: AtomicBool,
}

impl Shared {
    pub(crate) fn new(options: &StoreOptions) -> Arc<Self> {
        let queues = options.queues.iter().map(|queue| QueueShared {
            name: queue.name.clone(),
            usage: Mutex::default(),
            available: watch::Sender::new(0),
            when_full: queue.when_full,
        });
        let disk = DiskUsage {
            max_bytes: options.max_bytes,
            events_max_bytes: Limits::new(options.max_bytes).append_cap() * PAGE,
            ..DiskUsage::default()
        };
        Arc::new(Self {
            queues: queues.collect(),
            disk: Mutex::new(disk),
            room: watch::Sender::new(0),
            fatal: watch::Sender::new(None),
            is_waiting: AtomicBool::new(false),
        })
    }
}

impl Shared {
    /// Wakes whoever waits for room in a full queue.
    pub(crate) fn announce_room(&self) {
        self.room.send_modify(|version| *version += 1);
    }
}

/// A poisoned lock holds plain numbers, which a panic elsewhere cannot have left half-written.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
