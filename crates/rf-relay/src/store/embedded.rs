//! The embedded store: a queue database for each bucket, in a folder with the bucket's name.
//!
//! Databases are opened in the background at the start, a few at a time, and on their first use; an idle one closes
//! its threads and files by itself, so that hundreds of buckets cost next to nothing. One that cannot be opened answers
//! "unavailable", is told in the log and by `/healthz`, and is tried again at its next use.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt, stream};
use rf_core::event::event_id;
use rf_core::protocol::PulledEvent;
use rf_core::trace::{Journal, Note, Step};
use rf_queue::{
    Append, Budget, Commit, CommitError, DropWatch, Dropped, Found, FullReason, LeaseNote, QueueId,
    QueueOptions, Store, StoreError, StoreOptions, StoredEvent, fit_when_empty,
};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{AppendError, Appended, BucketStore, IsMeant, Pulled, Unavailable, Usage};
use crate::bucket::BucketName;
use crate::config::{BucketConfig, RelayConfig};

/// The file in the bucket's folder, as in the original.
const FILE_NAME: &str = "relay.sqlite3";

/// The one queue in each database.
const QUEUE: &str = "events";

/// Opening reads and may salvage a whole file: more at once would only fight over the disk.
const OPENING_AT_ONCE: u32 = 4;

/// What players hold between pull and acknowledgement stays in memory; a sleeping bucket has none.
const CACHE_BYTES: u32 = 8 * 1024 * 1024;

/// Content of the newest events, for a person to look at.
const NEWEST_BYTES: usize = 1024 * 1024;

/// Places for the newest leases of holders in a bucket, by its bytes. Names share them, and the newest has its place: clients
/// cannot fill a bucket with names, and a page or two of a small one is all that they take.
const HOLDER_PLACES: RangeInclusive<u64> = 16..=256;
const BYTES_PER_HOLDER_PLACE: u64 = 256 * 1024;

/// How often buckets are looked at, which is in memory and takes microseconds.
const ROUND: Duration = Duration::from_secs(1);
/// After so many rounds a bucket that could not be opened is tried again.
const ROUNDS_TO_OPEN: u32 = 10;

struct Embedded {
    buckets: HashMap<BucketName, Arc<Bucket>>,
    opening: Arc<Semaphore>,
}

struct Bucket {
    name: BucketName,
    path: PathBuf,
    config: BucketConfig,
    idle_close: Duration,
    journal: Arc<Journal>,
    open: OnceLock<Open>,
    /// Held, on threads that may block only, while the database is opened: two would lock each other out.
    one_opens: Mutex<()>,
    failure: Mutex<Option<String>>,
}

struct Open {
    store: Store,
    queue: QueueId,
}

pub(super) fn open(config: &RelayConfig, journal: &Arc<Journal>) -> Arc<dyn BucketStore> {
    let bucket = |(name, bucket): (&BucketName, &BucketConfig)| {
        let bucket = Bucket {
            name: name.clone(),
            path: config.data_dir.join(name.as_str()).join(FILE_NAME),
            config: bucket.clone(),
            idle_close: config.idle_close,
            journal: Arc::clone(journal),
            open: OnceLock::new(),
            one_opens: Mutex::default(),
            failure: Mutex::default(),
        };
        (name.clone(), Arc::new(bucket))
    };
    Arc::new(Embedded {
        buckets: config.buckets.iter().map(bucket).collect(),
        opening: Arc::new(Semaphore::new(OPENING_AT_ONCE as usize)),
    })
}

impl Embedded {
    fn bucket(&self, name: &BucketName) -> &Arc<Bucket> {
        self.buckets.get(name).expect("only buckets of the configuration are asked for")
    }

    async fn opened(&self, name: &BucketName) -> Result<&Open, Unavailable> {
        let bucket = self.bucket(name);
        if let Some(open) = bucket.open.get() {
            return Ok(open);
        }
        let closed = |_| Unavailable("the relay is stopping".to_owned());
        let permit = Arc::clone(&self.opening).acquire_owned().await.map_err(closed)?;
        let opening = Arc::clone(bucket);
        // The opening goes on if this future is dropped, and the next user finds its result.
        let outcome = tokio::task::spawn_blocking(move || {
            let outcome = opening.open();
            drop(permit);
            outcome
        });
        outcome.await.map_err(|panic| Unavailable(panic.to_string()))??;
        bucket.open.get().ok_or_else(|| Unavailable("not open".to_owned()))
    }

    async fn open_all(&self) {
        let open_one = async |bucket: &Arc<Bucket>| {
            if let Err(error) = self.opened(&bucket.name).await {
                // Logged where it was found, and kept for the status.
                tracing::debug!(bucket = %bucket.name, %error, "bucket is tried again soon, and at its next use");
            }
        };
        stream::iter(self.buckets.values())
            .for_each_concurrent(OPENING_AT_ONCE as usize, open_one)
            .await;
    }

    /// Wakes sleeping databases whose events have become too old, and tries again to open what could not be opened, whether
    /// or not somebody asks for it; returns when a database has failed for good.
    async fn watch_over(&self) -> Unavailable {
        let mut round = 0_u32;
        loop {
            tokio::time::sleep(ROUND).await;
            round = round.wrapping_add(1);
            if round.is_multiple_of(ROUNDS_TO_OPEN) {
                self.open_all().await;
            }
            for bucket in self.buckets.values() {
                let Some(open) = bucket.open.get() else { continue };
                if let Some(reason) = open.store.failed().now_or_never() {
                    return Unavailable(format!("bucket {}: {reason}", bucket.name));
                }
                if open.store.is_due()
                    && let Err(error) = open.store.poke().await
                {
                    tracing::warn!(bucket = %bucket.name, %error, "events that are too old cannot be dropped now");
                }
                // One that sleeps finds out by this whether its files can be opened again.
                if round.is_multiple_of(ROUNDS_TO_OPEN)
                    && open.store.trouble().is_some()
                    && let Err(error) = open.store.poke().await
                {
                    tracing::debug!(bucket = %bucket.name, %error, "the bucket's database still does not work");
                }
            }
        }
    }
}

impl Bucket {
    fn open(&self) -> Result<(), Unavailable> {
        let _one = self.one_opens.lock().unwrap_or_else(PoisonError::into_inner);
        if self.open.get().is_some() {
            return Ok(());
        }
        let outcome = self.open_store();
        let failure = outcome.as_ref().err().map(ToString::to_string);
        if let Some(error) = &failure {
            tracing::error!(bucket = %self.name, error, "bucket cannot be opened");
        }
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
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
    fn key_of(&self, holder: &str) -> String {
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

impl BucketStore for Embedded {
    fn can_take(&self, bucket: &BucketName, events: &[Bytes]) -> bool {
        let sizes = events.iter().map(|event| event.len() as u64);
        fit_when_empty(self.bucket(bucket).config.max_bytes, sizes)
    }

    fn append<'a>(
        &'a self,
        bucket: &'a BucketName,
        events: Vec<Bytes>,
        batch_id: Option<String>,
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        async move {
            let open = self.opened(bucket).await?;
            let append = Append { queue: open.queue, events };
            let receipt = open
                .store
                .commit(Commit { appends: vec![append], batch_id, ..Commit::default() })
                .await?;
            Ok(if receipt.duplicate { Appended::Duplicate } else { Appended::Stored })
        }
        .boxed()
    }

    fn pull<'a>(
        &'a self,
        bucket: &'a BucketName,
        budget: Budget,
        lease: Option<Duration>,
        holder: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Pulled, Unavailable>> {
        async move {
            let open = self.opened(bucket).await?;
            let (token, events) = match lease {
                None => (None, open.store.read(open.queue, 0, budget).await?),
                Some(ttl) => {
                    let key = |name| self.bucket(bucket).key_of(name);
                    let note =
                        holder.map(|name| LeaseNote { key: key(name), name: name.to_owned() });
                    let leased = open.store.lease_as(open.queue, budget, ttl, note).await?;
                    (Some(leased.token), leased.events)
                }
            };
            let lease = token.filter(|_| !events.is_empty()).map(|token| token.to_string());
            let pulled = |event: StoredEvent| PulledEvent {
                id: event.id,
                content: event.content,
                // A reader without a lease speaks the original's protocol, which knows no attempts.
                attempts: if lease.is_some() { event.attempts } else { 0 },
            };
            Ok(Pulled { events: events.into_iter().map(pulled).collect(), lease })
        }
        .boxed()
    }

    fn newest<'a>(
        &'a self,
        bucket: &'a BucketName,
        events: usize,
    ) -> BoxFuture<'a, Result<Vec<PulledEvent>, Unavailable>> {
        async move {
            let open = self.opened(bucket).await?;
            let budget = Budget { events, bytes: NEWEST_BYTES };
            let usage = open.store.usage(open.queue);
            let after = usage.next_id.saturating_sub(1 + events as u64);
            let mut found = open.store.read(open.queue, after, budget).await?;
            if found.is_empty() && usage.events > 0 {
                // The newest were acknowledged before older ones.
                found = open.store.read(open.queue, 0, budget).await?;
            }
            let event = |event: StoredEvent| PulledEvent {
                id: event.id,
                content: event.content,
                attempts: 0,
            };
            Ok(found.into_iter().map(event).collect())
        }
        .boxed()
    }

    fn find<'a>(
        &'a self,
        bucket: &'a BucketName,
        is_meant: IsMeant,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Found, Unavailable>> {
        async move { Ok(self.opened(bucket).await?.store.find(is_meant, patience).await?) }.boxed()
    }

    fn acknowledge<'a>(
        &'a self,
        bucket: &'a BucketName,
        ids: Vec<u64>,
    ) -> BoxFuture<'a, Result<u64, Unavailable>> {
        async move {
            let open = self.opened(bucket).await?;
            open.store.ack(open.queue, ids).await.map_err(|error| Unavailable(error.to_string()))
        }
        .boxed()
    }

    fn release<'a>(
        &'a self,
        bucket: &'a BucketName,
        ids: Vec<u64>,
    ) -> BoxFuture<'a, Result<u64, Unavailable>> {
        async move {
            let open = self.opened(bucket).await?;
            Ok(open.store.release(open.queue, ids).await?)
        }
        .boxed()
    }

    fn lease_of<'a>(
        &'a self,
        bucket: &'a BucketName,
        holder: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, Unavailable>> {
        async move {
            let key = self.bucket(bucket).key_of(holder);
            let stored = self.opened(bucket).await?.store.checkpoint(&key).await?;
            let stored = stored.and_then(|stored| String::from_utf8(stored).ok());
            let lease = stored.as_deref().and_then(|stored| stored.split_once(' '));
            Ok(lease.filter(|(_, name)| *name == holder).map(|(token, _)| token.to_owned()))
        }
        .boxed()
    }

    fn extend<'a>(
        &'a self,
        bucket: &'a BucketName,
        lease: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<bool, Unavailable>> {
        async move {
            let Ok(token) = lease.parse() else { return Ok(false) };
            let open = self.opened(bucket).await?;
            Ok(open.store.extend(open.queue, token, ttl).await?)
        }
        .boxed()
    }

    fn watch<'a>(
        &'a self,
        bucket: &'a BucketName,
    ) -> BoxFuture<'a, Result<watch::Receiver<u64>, Unavailable>> {
        async move {
            let open = self.opened(bucket).await?;
            Ok(open.store.watch(open.queue))
        }
        .boxed()
    }

    fn usage(&self, bucket: &BucketName) -> Usage {
        let bucket = self.bucket(bucket);
        let failure = bucket.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let configured = Usage { max_bytes: bucket.config.max_bytes, failure, ..Usage::default() };
        let Some(open) = bucket.open.get() else { return configured };
        let queue = open.store.usage(open.queue);
        let disk = open.store.disk();
        Usage {
            used_bytes: disk.used_bytes,
            events_max_bytes: disk.events_max_bytes,
            events: queue.events,
            oldest_at_ms: queue.oldest_at_ms,
            dropped_full: queue.dropped_full,
            dropped_age: queue.dropped_age,
            dropped_damaged: queue.dropped_damaged,
            trouble: open.store.trouble(),
            ..configured
        }
    }

    fn work(&self, stop: CancellationToken) -> BoxFuture<'_, Result<(), Unavailable>> {
        async move {
            // To drop the opening or the rounds is safe: what has begun ends by itself.
            tokio::select! {
                failed = async { self.open_all().await; self.watch_over().await } => Err(failed),
                () = stop.cancelled() => Ok(()),
            }
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            // All places taken: nothing is being opened, and nothing will be.
            let all_places = self.opening.acquire_many(OPENING_AT_ONCE).await;
            self.opening.close();
            drop(all_places);
            join_all(
                self.buckets
                    .values()
                    .filter_map(|bucket| bucket.open.get())
                    .map(|open| open.store.close()),
            )
            .await;
        }
        .boxed()
    }
}

impl From<CommitError> for AppendError {
    fn from(error: CommitError) -> AppendError {
        match error {
            CommitError::Full { reason: reason @ FullReason::Disk, .. } => {
                AppendError::Disk(reason.to_string())
            }
            CommitError::Full { reason, .. } => AppendError::Full(reason.to_string()),
            CommitError::TooLarge { bytes, limit } => AppendError::TooLarge { bytes, limit },
            other @ (CommitError::Closed | CommitError::Failed(_)) => {
                Unavailable(other.to_string()).into()
            }
        }
    }
}

impl From<StoreError> for Unavailable {
    fn from(error: StoreError) -> Unavailable {
        Unavailable(error.to_string())
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
