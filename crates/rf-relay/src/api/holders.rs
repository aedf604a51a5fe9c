//! Who holds which lease: so that a player that was killed need not wait for its own lease.
//!
//! A pull may name its `holder`. A holder has one lease at a time: its next pull ends the one before, whose unacknowledged
//! events then come first again. Kept in memory only; after a restart of the relay a lease runs out by itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bucket::BucketName;

/// Holders that are remembered; beyond that some are forgotten, and their leases run out by themselves.
const MAX_HOLDERS: usize = 4096;
/// The longest name of a holder.
pub(crate) const MAX_HOLDER_BYTES: usize = 128;

/// The newest lease of each holder.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    leases: Mutex<HashMap<(BucketName, String), String>>,
}

impl Holders {
    /// The lease that the holder had, which is forgotten by this.
    pub(super) fn take(&self, bucket: &BucketName, holder: &str) -> Option<String> {
        self.lock().remove(&(bucket.clone(), holder.to_owned()))
    }

    /// Remembers the holder's lease.
    pub(super) fn put(&self, bucket: &BucketName, holder: &str, lease: String) {
        let mut leases = self.lock();
        if leases.len() >= MAX_HOLDERS
            && let Some(other) = leases.keys().next().cloned()
        {
            leases.remove(&other);
        }
        leases.insert((bucket.clone(), holder.to_owned()), lease);
    }

    /// How many there are for each bucket.
    pub(crate) fn by_bucket(&self) -> HashMap<BucketName, u64> {
        let mut counts = HashMap::new();
        for (bucket, _) in self.lock().keys() {
            *counts.entry(bucket.clone()).or_default() += 1;
        }
        counts
    }

    /// A panic elsewhere leaves whole entries.
    fn lock(&self) -> MutexGuard<'_, HashMap<(BucketName, String), String>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
