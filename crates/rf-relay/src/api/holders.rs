//! Who holds which lease: so that a player that was killed need not wait for its own lease.
//!
//! A pull may name its `holder`. A holder has one lease at a time: its next pull ends the one before, whose unacknowledged
//! events then come first again. A pull that still waits when the next one begins, as that of a killed player whose
//! connection is not known to be dead yet, gets nothing. What is here is of this run of the relay; the newest lease of a holder
//! is stored with it, too, and ended by the holder's first pull of the next run.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bucket::BucketName;

/// Holders that are remembered; beyond that some are forgotten, and their leases run out by themselves.
const MAX_HOLDERS: usize = 4096;
/// The longest name of a holder.
pub(crate) const MAX_HOLDER_BYTES: usize = 128;

/// The newest pull of each holder, and the lease that came of it.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    pulls: Mutex<HashMap<(BucketName, String), Newest>>,
}

#[derive(Debug, Default)]
struct Newest {
    turn: u64,
    lease: Option<String>,
}

impl Holders {
    /// Begins a pull: its turn, and the lease that the holder had, which is forgotten by this.
    pub(super) fn begin(&self, bucket: &BucketName, holder: &str) -> (u64, Option<String>) {
        let mut pulls = self.lock();
        let key = (bucket.clone(), holder.to_owned());
        if pulls.len() >= MAX_HOLDERS
            && !pulls.contains_key(&key)
            && let Some(other) = pulls.keys().next().cloned()
        {
            pulls.remove(&other);
        }
        let newest = pulls.entry(key).or_default();
        newest.turn += 1;
        (newest.turn, newest.lease.take())
    }

    /// Remembers the lease of a pull. False when the holder has begun another one meanwhile: nobody reads the answer of
    /// this one any more, so its lease must not stand.
    pub(super) fn end(&self, bucket: &BucketName, holder: &str, turn: u64, lease: &str) -> bool {
        match self.lock().get_mut(&(bucket.clone(), holder.to_owned())) {
            Some(newest) if newest.turn == turn => {
                newest.lease = Some(lease.to_owned());
                true
            }
            _ => false,
        }
    }

    /// How many there are for each bucket.
    pub(crate) fn by_bucket(&self) -> HashMap<BucketName, u64> {
        let mut counts = HashMap::new();
        for ((bucket, _), _) in self.lock().iter().filter(|(_, newest)| newest.lease.is_some()) {
            *counts.entry(bucket.clone()).or_default() += 1;
        }
        counts
    }

    /// A panic elsewhere leaves whole entries.
    fn lock(&self) -> MutexGuard<'_, HashMap<(BucketName, String), Newest>> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_pull_of_a_holder_may_hold_a_lease() {
        let holders = Holders::default();
        let bucket = BucketName::new("b").unwrap();
        let (killed, before) = holders.begin(&bucket, "player");
        assert_eq!(before, None);
        let (again, before) = holders.begin(&bucket, "player");
        assert_eq!(before, None);
        assert!(!holders.end(&bucket, "player", killed, "lease-1"), "nobody reads its answer");
        assert!(holders.end(&bucket, "player", again, "lease-2"));
        assert_eq!(holders.by_bucket().get(&bucket), Some(&1));
        assert_eq!(holders.begin(&bucket, "player").1.as_deref(), Some("lease-2"));
        assert_eq!(holders.by_bucket().get(&bucket), None);
    }
}
