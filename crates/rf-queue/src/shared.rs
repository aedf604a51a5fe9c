//! What other threads may see of a store: counters and wake-ups, published after each commit.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::limits::{Limits, PAGE};
use crate::types::{DiskUsage, QueueUsage, StoreOptions, StoreTrouble, WhenFull};

/// So long a request that failed counts as trouble: whoever asks again does so earlier.
const FAILURE_COUNTS_MS: u64 = 60_000;

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
    troubles: Mutex<Troubles>,
}

/// What keeps the store from its work.
#[derive(Default)]
struct Troubles {
    /// The files cannot be written, or not be opened.
    disk: Option<StoreTrouble>,
    /// Requests fail; with when the newest did, by the clock that never goes back.
    requests: Option<(StoreTrouble, u64)>,
}

impl Troubles {
    fn of_requests(&self, mono_ms: u64) -> Option<&StoreTrouble> {
        let newest = self.requests.as_ref();
        let lasts = |at: u64| mono_ms.saturating_sub(at) < FAILURE_COUNTS_MS;
        newest.filter(|(_, at)| lasts(*at)).map(|(trouble, _)| trouble)
    }
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
            troubles: Mutex::default(),
        })
    }
}

impl Shared {
    /// Wakes whoever waits for room in a full queue.
    pub(crate) fn announce_room(&self) {
        self.room.send_modify(|version| *version += 1);
    }

    /// The files cannot be written, or not be opened again, until [`Shared::disk_works`].
    pub(crate) fn disk_fails(&self, text: &str, clock: &dyn Clock) {
        let mut troubles = self.troubles.lock();
        let known = troubles.disk.as_ref().map(|known| known.since_ms);
        let since_ms = known.unwrap_or_else(|| clock.wall_ms());
        troubles.disk = Some(StoreTrouble { since_ms, text: text.to_owned() });
    }

    pub(crate) fn disk_works(&self) {
        self.troubles.lock().disk = None;
    }

    /// The database has refused a request.
    pub(crate) fn request_failed(&self, text: &str, clock: &dyn Clock) {
        let mut troubles = self.troubles.lock();
        let now = clock.mono_ms();
        let known = troubles.of_requests(now).map(|known| known.since_ms);
        let since_ms = known.unwrap_or_else(|| clock.wall_ms());
        troubles.requests = Some((StoreTrouble { since_ms, text: text.to_owned() }, now));
    }

    /// What keeps the store from its work now.
    pub(crate) fn trouble(&self, clock: &dyn Clock) -> Option<StoreTrouble> {
        let troubles = self.troubles.lock();
        troubles.disk.as_ref().or_else(|| troubles.of_requests(clock.mono_ms())).cloned()
    }
}
