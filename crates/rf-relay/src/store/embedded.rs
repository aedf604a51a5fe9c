//! The embedded store: a queue database for each bucket, in a folder with the bucket's name.
//!
//! Databases are opened in the background at the start, a few at a time, and on their first use; an idle one closes
//! its threads and files by itself, so that hundreds of buckets cost next to nothing. One that cannot be opened answers
//! "unavailable", is told in the log and by `/healthz`, and is tried again at its next use.

mod bucket;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt, stream};
use rf_core::protocol::PulledEvent;
use rf_core::trace::Journal;
use rf_queue::{
    Append, Budget, Commit, CommitError, Found, FullReason, LeaseNote, StoreError, StoredEvent,
    fit_when_empty,
};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{AppendError, Appended, BucketStore, IsMeant, Pulled, Unavailable, Usage};
use crate::bucket::BucketName;
use crate::config::{BucketConfig, RelayConfig};
use bucket::{Bucket, FILE_NAME, Open};

/// Opening reads and may salvage a whole file: more at once would only fight over the disk.
const OPENING_AT_ONCE: u32 = 4;

/// Content of the newest events, for a person to look at.
const NEWEST_BYTES: usize = 1024 * 1024;

/// How often buckets are looked at, which is in memory and takes microseconds.
const ROUND: Duration = Duration::from_secs(1);
/// After so many rounds a bucket that does not work is tried again.
const ROUNDS_TO_TRY: u32 = 10;
/// Buckets that are left are told of up to so many.
const MAX_TOLD: usize = 20;
/// After so long one that could not be opened is.
const OPEN_AGAIN: Duration = Duration::from_secs(10);

struct Embedded {
    buckets: HashMap<BucketName, Arc<Bucket>>,
    opening: Arc<Semaphore>,
}

pub(super) fn open(config: &RelayConfig, journal: &Arc<Journal>) -> Arc<dyn BucketStore> {
    let left = left_buckets(config);
    if let Some(more) = left.len().checked_sub(MAX_TOLD).filter(|more| *more > 0) {
        tracing::warn!(more, path = %config.data_dir.display(), "there are more buckets than are told here that are not in the configuration any more");
    }
    for bucket in left.iter().take(MAX_TOLD) {
        let path = config.data_dir.join(bucket);
        tracing::warn!(bucket, path = %path.display(), "this bucket is not in the configuration any more: its events stay in its folder, and no limit applies to them; name it again, or remove the folder");
    }
    Arc::new(Embedded::new(config, journal))
}

/// Names of folders with a bucket's database that the file does not name any more.
fn left_buckets(config: &RelayConfig) -> Vec<String> {
    let Ok(folders) = std::fs::read_dir(&config.data_dir) else { return Vec::new() };
    let names = folders.filter_map(|folder| {
        let folder = folder.ok()?;
        let name = folder.file_name().into_string().ok()?;
        let is_named = config.buckets.keys().any(|known| known.as_str() == name);
        (!is_named && folder.path().join(FILE_NAME).is_file()).then_some(name)
    });
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

impl Embedded {
    fn new(config: &RelayConfig, journal: &Arc<Journal>) -> Self {
        let bucket = |(name, bucket): (&BucketName, &BucketConfig)| {
            (name.clone(), Arc::new(Bucket::new(name, bucket, config, journal)))
        };
        Self {
            buckets: config.buckets.iter().map(bucket).collect(),
            opening: Arc::new(Semaphore::new(OPENING_AT_ONCE as usize)),
        }
    }

    fn bucket(&self, name: &BucketName) -> &Arc<Bucket> {
        self.buckets.get(name).expect("only buckets of the configuration are asked for")
    }

    async fn opened(&self, name: &BucketName) -> Result<&Open, Unavailable> {
        let bucket = self.bucket(name);
        if let Some(open) = bucket.get() {
            return Ok(open);
        }
        let closed = |_| Unavailable("the relay is stopping".to_owned());
        // First the bucket's own: who waits for one that takes minutes must not take the places of the others.
        let turn = Arc::clone(&bucket.one_opens).acquire_owned().await.map_err(closed)?;
        let place = Arc::clone(&self.opening).acquire_owned().await.map_err(closed)?;
        let opening = Arc::clone(bucket);
        // The opening goes on if this future is dropped, and the next user finds its result.
        let outcome = tokio::task::spawn_blocking(move || {
            let outcome = opening.open();
            drop((turn, place));
            outcome
        });
        outcome.await.map_err(|panic| Unavailable(panic.to_string()))??;
        bucket.get().ok_or_else(|| Unavailable("not open".to_owned()))
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

    /// Opens all, and tries again to open what could not be opened, whether or not somebody asks for it. Never ends.
    async fn keep_open(&self) {
        loop {
            self.open_all().await;
            tokio::time::sleep(OPEN_AGAIN).await;
        }
    }

    /// Wakes sleeping databases whose events have become too old; returns when a database has failed for good.
    async fn watch_over(&self) -> Unavailable {
        let mut round = 0_u32;
        loop {
            tokio::time::sleep(ROUND).await;
            round = round.wrapping_add(1);
            for bucket in self.buckets.values() {
                let Some(open) = bucket.get() else { continue };
                if let Some(reason) = open.store.failed().now_or_never() {
                    return Unavailable(format!("bucket {}: {reason}", bucket.name));
                }
                if open.store.is_due()
                    && let Err(error) = open.store.poke().await
                {
                    tracing::warn!(bucket = %bucket.name, %error, "events beyond the age limit cannot be dropped, trying again later");
                }
                // One that sleeps finds out by this whether its files can be opened again.
                if round.is_multiple_of(ROUNDS_TO_TRY)
                    && open.store.trouble().is_some()
                    && let Err(error) = open.store.poke().await
                {
                    tracing::debug!(bucket = %bucket.name, %error, "the bucket's database still does not work");
                }
            }
        }
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
            let usage = open.store.usage(open.queue);
            let first = usage.next_id.saturating_sub(events as u64);
            let mut found: Vec<StoredEvent> = Vec::new();
            // From the last one back: on the way there, large ones would use up the bytes before the newest is reached.
            for id in (first..usage.next_id).rev() {
                let one = Budget { events: 1, bytes: 1 };
                let read = open.store.read(open.queue, id.saturating_sub(1), one).await?;
                // In the place of one that is gone comes the next that is there.
                found.extend(read.into_iter().filter(|event| event.id == id));
                if found.iter().map(|event| event.content.len()).sum::<usize>() >= NEWEST_BYTES {
                    break;
                }
            }
            found.reverse();
            if found.is_empty() && usage.events > 0 {
                // The newest were acknowledged before older ones.
                let budget = Budget { events, bytes: NEWEST_BYTES };
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
        let (max_bytes, failure) = (bucket.config.max_bytes, bucket.failure());
        let configured = Usage { max_bytes, failure, ..Usage::default() };
        let Some(open) = bucket.get() else { return Usage { is_closed: true, ..configured } };
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
            // To drop the opening or the rounds is safe: what has begun ends by itself. They go on side by side, since opening
            // one of them may take minutes.
            tokio::select! {
                failed = self.watch_over() => Err(failed),
                () = self.keep_open() => Ok(()),
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
                    .filter_map(|bucket| bucket.get())
                    .map(|open| open.store.close()),
            )
            .await;
        }
        .boxed()
    }
}

impl From<CommitError> for AppendError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Full { reason: reason @ FullReason::Disk, .. } => {
                Self::Disk(reason.to_string())
            }
            CommitError::Full { reason, .. } => Self::Full(reason.to_string()),
            CommitError::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            other @ (CommitError::Closed | CommitError::Failed(_)) => {
                Unavailable(other.to_string()).into()
            }
        }
    }
}

impl From<StoreError> for Unavailable {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_bucket_that_takes_long_to_open_holds_up_no_other() {
        let folder = TempDir::new().unwrap();
        let config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
        let store = Embedded::new(&config, &Arc::default());
        let [slow, other] = ["a", "b"].map(|name| BucketName::new(name).unwrap());
        let turn = &store.bucket(&slow).one_opens;
        let being_opened = Arc::clone(turn).acquire_owned().await.unwrap();
        let users = (0..2 * OPENING_AT_ONCE).map(|_| Box::pin(store.opened(&slow)));
        let mut users: Vec<_> = users.collect();
        for user in &mut users {
            assert!(poll!(user.as_mut()).is_pending());
        }
        assert!(store.opened(&other).await.is_ok());
        drop(being_opened);
        for user in users {
            assert!(user.await.is_ok());
        }
        store.close().await;
    }

    #[tokio::test]
    async fn buckets_are_looked_after_while_one_takes_long_to_open() {
        let folder = TempDir::new().unwrap();
        let mut config = RelayConfig::for_tests(folder.path(), &["a", "b"]);
        // It sleeps when the event becomes too old.
        config.idle_close = Duration::ZERO;
        let of_b = config.buckets.get_mut("b").unwrap();
        of_b.ttl = Some(Duration::from_millis(1300));
        let store = Embedded::new(&config, &Arc::default());
        let [slow, other] = ["a", "b"].map(|name| BucketName::new(name).unwrap());
        let turn = &store.bucket(&slow).one_opens;
        let being_opened = Arc::clone(turn).acquire_owned().await.unwrap();
        let stop = CancellationToken::new();
        let wait = async {
            store.append(&other, vec![Bytes::from_static(b"old")], None).await.unwrap();
            let mut looks = tokio::time::interval(Duration::from_millis(20));
            while store.usage(&other).events > 0 {
                looks.tick().await;
            }
            stop.cancel();
        };
        assert_eq!(tokio::join!(store.work(stop.clone()), wait).0, Ok(()));
        drop(being_opened);
        store.close().await;
    }

    #[test]
    fn a_bucket_that_the_file_does_not_name_any_more_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for (name, file) in [("a", FILE_NAME), ("b2", FILE_NAME), ("b1", FILE_NAME), ("c", "x")] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join(file), "").unwrap();
        }
        let config = RelayConfig::for_tests(folder.path(), &["a"]);
        assert_eq!(left_buckets(&config), ["b1", "b2"]);
        let nowhere = RelayConfig::for_tests(&folder.path().join("nowhere"), &["a"]);
        assert!(left_buckets(&nowhere).is_empty());
    }
}
