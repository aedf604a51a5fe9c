//! Stores of buckets: what they promise, and which there are.
//!
//! Every store runs the `contract` tests. What they hold it to:
//! - an append is all or nothing, and `Ok` only when it is as durable as the bucket's configuration says;
//! - a repeat of a batch id is a no-op that says so, also where the batch could not be taken any more;
//! - a pull without a lease shows everybody the same events, oldest first; a leased event is not leased again until
//!   the lease ends, and counts an attempt then;
//! - ids only grow; acknowledged events never come back;
//! - a watch changes when events become available.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rf_core::protocol::PulledEvent;
use rf_core::trace::Journal;
use rf_queue::{Budget, Found, StoreTrouble};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bucket::BucketName;
use crate::config::RelayConfig;

#[cfg(test)]
mod contract;
mod embedded;
#[cfg(test)]
pub(crate) mod memory;

/// A kind of store.
#[derive(Debug)]
pub(crate) struct StoreKind {
    /// Its name in the configuration.
    pub(crate) name: &'static str,
    /// Makes the store for the buckets of a configuration, which notes the events that it drops; does no I/O yet.
    pub(crate) open: fn(&RelayConfig, &Arc<Journal>) -> Arc<dyn BucketStore>,
}

/// Every kind of store; the first one is the default.
pub(crate) const STORES: &[StoreKind] = &[StoreKind { name: "embedded", open: embedded::open }];

/// Keeps the events of buckets. It is only asked for buckets of the configuration that it was made with.
pub(crate) trait BucketStore: Send + Sync {
    /// Whether the events would fit into the bucket together if it were empty; without I/O. If so, an append of them is never
    /// [`AppendError::TooLarge`].
    fn can_take(&self, bucket: &BucketName, events: &[Bytes]) -> bool;

    /// Adds events at the end of a bucket, in order. A `batch_id` that the bucket has seen makes it a no-op.
    fn append<'a>(
        &'a self,
        bucket: &'a BucketName,
        events: Vec<Bytes>,
        batch_id: Option<String>,
    ) -> BoxFuture<'a, Result<Appended, AppendError>>;

    /// The oldest events within a budget; with a lease, the oldest that nobody holds. Who holds it then is stored with it.
    fn pull<'a>(
        &'a self,
        bucket: &'a BucketName,
        budget: Budget,
        lease: Option<Duration>,
        holder: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Pulled, Unavailable>>;

    /// The newest lease of a holder, as far as that is known: of an earlier run of the relay, too.
    fn lease_of<'a>(
        &'a self,
        bucket: &'a BucketName,
        holder: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, Unavailable>>;

    /// The newest events, up to so many, oldest first. Leases do not matter, and nothing is taken.
    fn newest<'a>(
        &'a self,
        bucket: &'a BucketName,
        events: usize,
    ) -> BoxFuture<'a, Result<Vec<PulledEvent>, Unavailable>>;

    /// Where events are that are meant by their content, leased or not; looked for beside what everybody else does, and
    /// for at most `patience`.
    fn find<'a>(
        &'a self,
        bucket: &'a BucketName,
        is_meant: IsMeant,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Found, Unavailable>>;

    /// Removes events for good; says how many were there.
    fn acknowledge<'a>(
        &'a self,
        bucket: &'a BucketName,
        ids: Vec<u64>,
    ) -> BoxFuture<'a, Result<u64, Unavailable>>;

    /// Ends the leases of events; says how many were leased.
    fn release<'a>(
        &'a self,
        bucket: &'a BucketName,
        ids: Vec<u64>,
    ) -> BoxFuture<'a, Result<u64, Unavailable>>;

    /// Lets a lease last `ttl` from now on; `false` when the lease does not exist or has ended.
    fn extend<'a>(
        &'a self,
        bucket: &'a BucketName,
        lease: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<bool, Unavailable>>;

    /// Changes when events of a bucket become available.
    fn watch<'a>(
        &'a self,
        bucket: &'a BucketName,
    ) -> BoxFuture<'a, Result<watch::Receiver<u64>, Unavailable>>;

    /// A bucket at a glance, without I/O.
    fn usage(&self, bucket: &BucketName) -> Usage;

    /// What the store does on its own until `stop`. An error means that it cannot keep its promise any longer and the
    /// relay has to end.
    fn work(&self, stop: CancellationToken) -> BoxFuture<'_, Result<(), Unavailable>>;

    /// Finishes what was begun and closes; every later call is [`Unavailable`].
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Tells by its content whether an event is looked for.
pub(crate) type IsMeant = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What became of a batch that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// It is stored.
    Stored,
    /// It was stored before.
    Duplicate,
}

/// Why a batch was refused. Nothing of it is stored.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum AppendError {
    /// There is no room now.
    #[error("the bucket is full: {0}")]
    Full(String),
    /// The disk takes nothing now.
    #[error("{0}")]
    Disk(String),
    /// It would not fit into an empty bucket either.
    #[error(
        "the batch of {bytes} bytes can never fit into the bucket, where one event has at most {limit}: send less at once, or raise dbMaxSizeKb"
    )]
    TooLarge {
        /// Size of the batch.
        bytes: u64,
        /// What the bucket takes.
        limit: u64,
    },
    /// The store does not work.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The store does not work, for now.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the bucket's store does not work: {0}")]
pub(crate) struct Unavailable(pub(crate) String);

/// Events that were handed out.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Pulled {
    /// Names the lease, if one was asked for and there were events.
    pub(crate) lease: Option<String>,
    /// The events, oldest first.
    pub(crate) events: Vec<PulledEvent>,
}

/// A bucket at a glance.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Usage {
    /// Bytes in use, with the write-ahead log.
    pub(crate) used_bytes: u64,
    /// The limit of that.
    pub(crate) max_bytes: u64,
    /// Bytes up to which events are accepted; the rest is reserved for the work in a full bucket.
    pub(crate) events_max_bytes: u64,
    /// Events that wait.
    pub(crate) events: u64,
    /// When the oldest of them was stored, milliseconds since 1970.
    pub(crate) oldest_at_ms: Option<u64>,
    /// Events dropped because the bucket was full, since the start.
    pub(crate) dropped_full: u64,
    /// Events dropped because they were too old, since the start.
    pub(crate) dropped_age: u64,
    /// Events lost with a database that was damaged, found at the start.
    pub(crate) dropped_damaged: u64,
    /// It is not open: nothing is known of what is in it.
    pub(crate) is_closed: bool,
    /// Why the bucket cannot be opened, if it cannot.
    pub(crate) failure: Option<String>,
    /// What keeps it from its work since, as a full disk.
    pub(crate) trouble: Option<StoreTrouble>,
}
