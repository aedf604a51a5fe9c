//! One bucket of the embedded store: how its database is opened, and what it is told of.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rf_core::event::event_id;
use rf_core::trace::{Journal, Note, Step};
use rf_queue::{DropWatch, Dropped, QueueId, QueueOptions, Store, StoreOptions};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::bucket::BucketName;
use crate::config::{BucketConfig, RelayConfig};
use crate::store::Unavailable;

/// The file in the bucket's folder, as in the original.
pub(super) const FILE_NAME: &str = "relay.sqlite3";

/// The one queue in each database.
const QUEUE: &str = "events";

/// What players hold between pull and acknowledgement stays in memory; a sleeping bucket has none.
const CACHE_BYTES: u32 = 8 * 1024 * 1024;

/// Places for the newest leases of holders in a bucket, by its bytes. Names share them, and the newest has its place: clients
/// cannot fill a bucket with names, and a page or two of a small one is all that they take.
const HOLDER_PLACES: RangeInclusive<u64> = 16..=256;
const BYTES_PER_HOLDER_PLACE: u64 = 256 * 1024;

/// One bucket, whose database is open or not.
pub(super) struct Bucket {
    pub(super) name: BucketName,
    path: PathBuf,
    pub(super) config: BucketConfig,
    idle_close: Duration,
    journal: Arc<Journal>,
    open: OnceLock<Open>,
    /// One place: two that open the database would lock each other out.
    pub(super) one_opens: Arc<Semaphore>,
    failure: Mutex<Option<String>>,
}

/// The database of a bucket.
pub(super) struct Open {
    pub(super) store: Store,
    pub(super) queue: QueueId,
}

impl Bucket {
    /// A bucket of this configuration; its database is not open.
    pub(super) fn new(
        name: &BucketName,
        config: &BucketConfig,
        relay: &RelayConfig,
        journal: &Arc<Journal>,
    ) -> Self {
        Self {
            name: name.clone(),
            path: relay.data_dir.join(name.as_str()).join(FILE_NAME),
            config: config.clone(),
            idle_close: relay.idle_close,
            journal: Arc::clone(journal),
            open: OnceLock::new(),
            one_opens: Arc::new(Semaphore::new(1)),
            failure: Mutex::default(),
        }
    }

    /// Its database, if that is open.
    pub(super) fn get(&self) -> Option<&Open> {
        self.open.get()
    }

    /// Why its database could not be opened, if it could not.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Opens its database, unless that is open. Blocks, and needs the place of `one_opens`.
    pub(super) fn open(&self) -> Result<(), Unavailable> {
        if self.open.get().is_some() {
            return Ok(());
        }
        let outcome = self.open_store();
        let failure = outcome.as_ref().err().map(ToString::to_string);
        if let Some(error) = &failure {
            tracing::error!(bucket = %self.name, error, "bucket cannot be opened");
        }
        *self.failure.lock() = failure;
        let open = outcome?;
        self.open.get_or_init(|| open);
        Ok(())
    }

    fn open_store(&self) -> Result<Open, Unavailable> {
        let unavailable = |error: &dyn std::fmt::Display| Unavailable(error.to_string());
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| Unavailable(format!("{}: {error}", folder.display())))?;
        }
        let queue = QueueOptions {
            max_age: self.config.ttl,
            when_full: self.config.when_full.into(),
            ..QueueOptions::new(QUEUE)
        };
        let options = StoreOptions {
            durability: self.config.durability.into(),
            idle_close: Some(self.idle_close),
            cache_bytes: CACHE_BYTES,
            drops: self.journal.is_on().then(|| self.watch_drops()),
            ..StoreOptions::new(&self.path, self.config.max_bytes, vec![queue])
        };
        let opened = Store::open(options).map_err(|error| unavailable(&error))?;
        for notice in &opened.notices {
            if notice.is_loss() {
                tracing::error!(bucket = %self.name, "{notice}");
            } else {
                tracing::warn!(bucket = %self.name, "{notice}");
            }
        }
        let queue =
            opened.store.queue(QUEUE).ok_or_else(|| unavailable(&"the database has no queue"))?;
        Ok(Open { store: opened.store, queue })
    }

    /// Where the newest lease of a holder is noted.
    pub(super) fn key_of(&self, holder: &str) -> String {
        key_of(holder, holder_places(self.config.max_bytes))
    }

    /// Has the journal told of what the bucket drops by its limits.
    fn watch_drops(&self) -> DropWatch {
        let (journal, bucket) = (Arc::clone(&self.journal), self.name.clone());
        let tell = move |_: &str, why: Dropped, ids: &[u128]| {
            let reason = match why {
                Dropped::Full => "the bucket was full (whenFull: dropOldest)",
                Dropped::Aged => "it waited longer than ttlSecs",
            };
            let ids: Vec<Uuid> = ids.iter().copied().map(Uuid::from_u128).collect();
            journal.note_ids(&Note::new(Step::Dropped, bucket.shared()).detail(reason), &ids);
        };
        DropWatch { pick: |content| event_id(content).map(|id| id.as_u128()), tell: Arc::new(tell) }
    }
}

fn holder_places(max_bytes: u64) -> u64 {
    (max_bytes / BYTES_PER_HOLDER_PLACE).clamp(*HOLDER_PLACES.start(), *HOLDER_PLACES.end())
}

/// The key of a holder's newest lease: by its name, and the same in every version of the program (FNV-1a).
fn key_of(holder: &str, places: u64) -> String {
    let mix = |mixed: u64, byte: u8| (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mixed = holder.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    format!("holder:{}", mixed % places)
}

#[cfg(test)]
mod tests {
    use rf_queue::MIN_STORE_BYTES;

    use super::*;

    #[test]
    fn clients_cannot_fill_a_small_bucket_with_names() {
        let places = |bytes| {
            let keys = (0..10_000).map(|name| key_of(&name.to_string(), holder_places(bytes)));
            keys.collect::<std::collections::HashSet<_>>().len()
        };
        assert_eq!(places(MIN_STORE_BYTES), 16);
        assert_eq!(places(100 * 1024 * 1024), 256);
        assert_eq!(places(u64::MAX), 256);
    }
}
