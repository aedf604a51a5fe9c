//! The words of this crate: what is stored, what is asked, what is answered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Clock, SystemClock};
use crate::limits::PAGE;

/// The smallest `max_bytes` that a store accepts.
pub const MIN_STORE_BYTES: u64 = 1024 * 1024;

/// The largest `max_bytes` that is of use: SQLite counts pages of a file with 32 bits.
pub const MAX_STORE_BYTES: u64 = 4_294_967_294 * PAGE;

/// The longest [`Commit::batch_id`]. They come from the network and stay in the store for a while.
pub const MAX_BATCH_ID_BYTES: usize = 128;

/// How long an `Ok` lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// `synchronous=FULL`: an `Ok` survives loss of power.
    #[default]
    Commit,
    /// `synchronous=NORMAL`: an `Ok` survives a killed process, not a loss of power.
    Process,
}

/// What an append to a full queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The commit is refused with [`crate::CommitError::Full`].
    #[default]
    Reject,
    /// The oldest events of that queue make room; they are counted in [`QueueUsage::dropped_full`].
    DropOldest,
    /// The commit waits until there is room.
    Block,
}

/// One queue of a store.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Unique within the store.
    pub name: String,
    /// Most bytes that its events take in the file (small ones take more than their content); `None`: an equal share of
    /// what the store can hold, so that no queue can take the room of another.
    pub max_bytes: Option<u64>,
    /// Events older than this are removed and counted in [`QueueUsage::dropped_age`].
    pub max_age: Option<Duration>,
    /// What happens at the limit.
    pub when_full: WhenFull,
}

impl QueueOptions {
    /// A queue that shares the store equally, keeps events for ever and rejects when full.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), max_bytes: None, max_age: None, when_full: WhenFull::Reject }
    }
}

/// What a store is opened with.
#[derive(Clone)]
pub struct StoreOptions {
    /// The database file. Its folder must exist; `-wal`, `-shm`, `.lock` and `.reserve` appear beside it.
    pub path: PathBuf,
    /// Bound of database, WAL, shm and reserve together on disk, at least [`MIN_STORE_BYTES`].
    pub max_bytes: u64,
    /// How long an `Ok` lasts.
    pub durability: Durability,
    /// The queues, in the order in which they are numbered.
    pub queues: Vec<QueueOptions>,
    /// Threads and connections are closed after so long without work; `None`: never.
    pub idle_close: Option<Duration>,
    /// Dead letters beyond this many push the oldest out.
    pub max_dead_letters: u64,
    /// Files of the original program whose events are taken over.
    pub imports: Vec<Import>,
    /// Pages that the writer keeps in memory, in bytes at the most. Worth raising where much is leased and removed soon
    /// after, so that it need not be read again for that.
    pub cache_bytes: u32,
    /// Bytes in the file after which a queue goes on in another table ("segment"): events that leave at the front cost hardly a
    /// write, but have their place until their segment is emptied. `None`: by `max_bytes`; 0: never.
    pub segment_bytes: Option<u64>,
    /// Nice value of the store's threads: above 0 they give way to others where the processors are busy.
    pub niceness: i32,
    /// Told of what is dropped, for whoever wants to know which events these were.
    pub drops: Option<DropWatch>,
    /// Where time comes from; tests pass their own.
    pub clock: Arc<dyn Clock>,
}

/// Why a queue drops events by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// By [`WhenFull::DropOldest`].
    Full,
    /// By [`QueueOptions::max_age`].
    Aged,
}

/// Told of a queue's name, of why, and of what was picked.
pub type TellDrops = dyn Fn(&str, Dropped, &[u128]) + Send + Sync;

/// Who is told which events a queue has dropped by its limits, once that is committed.
#[derive(Clone)]
pub struct DropWatch {
    /// What is remembered of an event's content until then; `None`: nobody needs to be told of it.
    pub pick: fn(&[u8]) -> Option<u128>,
    /// Called with what was picked, in order, on the writer's thread, which waits.
    pub tell: Arc<TellDrops>,
}

impl StoreOptions {
    /// Options with the defaults: `commit`, never hibernating, 10,000 dead letters.
    pub fn new(path: impl Into<PathBuf>, max_bytes: u64, queues: Vec<QueueOptions>) -> Self {
        Self {
            path: path.into(),
            max_bytes,
            durability: Durability::Commit,
            queues,
            idle_close: None,
            max_dead_letters: 10_000,
            imports: Vec::new(),
            cache_bytes: 2 * 1024 * 1024,
            segment_bytes: None,
            niceness: 0,
            drops: None,
            clock: Arc::new(SystemClock::default()),
        }
    }
}

/// A database of the original program that feeds a queue. When all its events are taken over it is renamed to
/// `NAME.migrated`, or to `NAME.migrated-2` and so on; a file that is not there is passed over.
#[derive(Debug, Clone)]
pub struct Import {
    /// The original's file.
    pub path: PathBuf,
    /// The queue that its events go to.
    pub queue: String,
}

/// A queue of one store; meaningless in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QueueId(pub(crate) usize);

/// An event as it lies in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Grows with every append to the queue; never used again.
    pub id: u64,
    /// When it was stored, milliseconds since 1970.
    pub at_ms: u64,
    /// What was appended.
    pub content: Bytes,
    /// Earlier leases of it that ran out or were released.
    pub attempts: u32,
}

/// How much a read may return. An event larger than `bytes` comes alone, so that it cannot block the head.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Most events.
    pub events: usize,
    /// Most content bytes.
    pub bytes: usize,
}

/// Events for one queue.
#[derive(Debug, Clone)]
pub struct Append {
    /// Where to.
    pub queue: QueueId,
    /// What, in order.
    pub events: Vec<Bytes>,
}

/// A named value that moves in the same transaction as the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Unique within the store.
    pub key: String,
    /// `None` removes it.
    pub value: Option<Vec<u8>>,
}

/// Events that leave a queue because they were delivered.
#[derive(Debug, Clone)]
pub struct Remove {
    /// Where from.
    pub queue: QueueId,
    /// Which; ids that are not there are passed over.
    pub ids: Vec<u64>,
}

/// An event that leaves its queue for the dead letters.
#[derive(Debug, Clone)]
pub struct Bury {
    /// Where from.
    pub queue: QueueId,
    /// Which; nothing happens when it is not there.
    pub id: u64,
    /// Why, for a person.
    pub reason: String,
    /// Delivery attempts made.
    pub attempts: u32,
}

/// An event that never was in a queue and belongs to the dead letters: nothing would accept it. Retried, it goes to `queue`.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The queue that it is listed under.
    pub queue: QueueId,
    /// The event.
    pub content: Bytes,
    /// Why, for a person.
    pub reason: String,
}

/// One request to the store: applied as a whole, or not at all.
///
/// Order within: first values, removes, burials, letters, appends, checkpoints. Removes, and burials where there are several,
/// that are more than the WAL may take are done in transactions of their own *before* the rest: a crash, or a refusal of the
/// rest, then leaves the checkpoints as they were, with part of the removes and burials done (what was removed had been
/// delivered, what was buried is a letter). Of that nothing is done before the first values are stored. Removes of a commit
/// with appends, letters or values `within_limit` stand with these or not at all, so they have to be few
/// ([`Store::removes_at_once`]); else it is refused as too large, in a small store.
///
/// [`Store::removes_at_once`]: crate::Store::removes_at_once
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Events to add.
    pub appends: Vec<Append>,
    /// A commit whose id is already stored is a no-op with [`Receipt::duplicate`]. At most [`MAX_BATCH_ID_BYTES`]; the
    /// newest 20,000 are remembered, fewer in a store of less than 150 MiB. One that is repeated counts as new.
    pub batch_id: Option<String>,
    /// Values to set before anything leaves: how far somebody is who has all of `removes`, and cuts what it has beyond that.
    pub first: Vec<Checkpoint>,
    /// Values to set.
    pub checkpoints: Vec<Checkpoint>,
    /// Whether its values are refused as events are, where they would take the store over its limit: for those of which
    /// somebody else decides how many there are, and how large. Otherwise what appends nothing is always done.
    pub within_limit: bool,
    /// Delivered events.
    pub removes: Vec<Remove>,
    /// Events that no delivery will ever accept.
    pub dead: Vec<Bury>,
    /// Events that become dead letters at once. As with burials, the oldest letters make room; of one that is too large for
    /// the file only the beginning is kept, and its reason says so. With no room even for that it is counted in
    /// [`DiskUsage::dropped_dead`].
    pub letters: Vec<Letter>,
}

impl Commit {
    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { appends, batch_id, first, checkpoints, within_limit: _, removes, dead, letters } =
            self;
        appends.is_empty()
            && batch_id.is_none()
            && first.is_empty()
            && checkpoints.is_empty()
            && removes.is_empty()
            && dead.is_empty()
            && letters.is_empty()
    }

    /// A commit that appends to one queue.
    pub fn append(queue: QueueId, events: Vec<Bytes>) -> Self {
        Self { appends: vec![Append { queue, events }], ..Self::default() }
    }

    pub(crate) fn content_bytes(&self) -> usize {
        let appended: usize = self.appends.iter().flat_map(|a| &a.events).map(Bytes::len).sum();
        let letters: usize = self.letters.iter().map(|letter| letter.content.len()).sum();
        let values = self.values().filter_map(|point| point.value.as_ref());
        appended + letters + values.map(Vec::len).sum::<usize>()
    }

    /// All values that it sets or removes.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Checkpoint> {
        self.first.iter().chain(&self.checkpoints)
    }

    /// Events that it may take out of their queues.
    pub(crate) fn takes_out(&self) -> usize {
        self.removes.iter().map(|remove| remove.ids.len()).sum::<usize>() + self.dead.len()
    }
}

/// What a commit did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The batch id had been stored before; nothing was done.
    pub duplicate: bool,
    /// Events that were there and have been removed.
    pub removed: u64,
}

/// Who has a lease, stored with it: so that it is known after a restart, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseNote {
    /// Key of the checkpoint, whose value becomes `TOKEN NAME`.
    pub key: String,
    /// The name.
    pub name: String,
}

/// Events under a lease.
#[derive(Debug, Clone, Default)]
pub struct Leased {
    /// Names the lease for [`crate::Store::extend`]; 0 when nothing was leased.
    pub token: u64,
    /// The events, oldest first.
    pub events: Vec<StoredEvent>,
}

/// A queue at a glance; kept in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueUsage {
    /// Events in the queue.
    pub events: u64,
    /// Their content bytes.
    pub bytes: u64,
    /// When the oldest was stored.
    pub oldest_at_ms: Option<u64>,
    /// What the next event's id will be, at the least.
    pub next_id: u64,
    /// Events dropped by [`WhenFull::DropOldest`] since the store was opened.
    pub dropped_full: u64,
    /// Events dropped by the age limit since the store was opened.
    pub dropped_age: u64,
    /// Events that could not be read any more when the store was opened, since the file was damaged.
    pub dropped_damaged: u64,
    /// Dead letters kept that came from it.
    pub dead_letters: u64,
    /// Dead letters from it that are gone since the store was opened: newer ones pushed them out, or there was no room.
    pub dropped_dead: u64,
}

/// What keeps a store from its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreTrouble {
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
    /// What it is, for a person.
    pub text: String,
}

/// A store at a glance; kept in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes of pages in use, without free ones and without events that have been passed: what `events_max_bytes` is held
    /// against. The WAL is not counted: of it there is always enough.
    pub used_bytes: u64,
    /// The configured bound.
    pub max_bytes: u64,
    /// So far are events taken: what is above is for the WAL and for what goes on in a full store.
    pub events_max_bytes: u64,
    /// Dead letters kept, also those of queues that are no longer configured.
    pub dead_letters: u64,
    /// Dead letters that are gone since the store was opened: newer ones pushed them out, or there was no room.
    pub dropped_dead: u64,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Number for the command line.
    pub id: u64,
    /// The queue that it came from.
    pub queue: String,
    /// When the event was stored, milliseconds since 1970.
    pub at_ms: u64,
    /// When it was given up.
    pub dead_at_ms: u64,
    /// Why.
    pub reason: String,
    /// Delivery attempts made.
    pub attempts: u32,
    /// Marked to go back into its queue.
    pub retry: bool,
    /// The event.
    pub content: Bytes,
}
