//! Who holds which lease: so that a player that was killed need not wait for its own lease.
//!
//! A pull may name its `holder`. A holder has one lease at a time: its next pull ends the one before, whose unacknowledged
//! events then come first again. A pull that still waits when the next one begins, as that of a killed player whose
//! connection is not known to be dead yet, gets nothing and leases nothing. What is here is of this run of the relay; the
//! newest lease of a holder is stored with it, too, and ended by the holder's first pull of the next run, or by a later one
//! if that fails.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use crate::bucket::BucketName;

/// Holders that are remembered; beyond that some are forgotten, of the same bucket as long as it has any, and their leases run
/// out by themselves.
const MAX_HOLDERS: usize = 4096;
/// The longest name of a holder.
pub(crate) const MAX_HOLDER_BYTES: usize = 128;

/// A bucket, and a holder's name.
type Key = (BucketName, String);

/// The newest pull of each holder, and the lease that came of it.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    pulls: Mutex<HashMap<Key, Newest>>,
}

#[derive(Debug, Default)]
struct Newest {
    turn: u64,
    lease: Option<Lease>,
    /// Whether what the holder had before this turn has been ended: if not, as when the relay has just started or the store
    /// could not be asked, it is looked for in the store.
    is_settled: bool,
    one_leases: Arc<AsyncMutex<()>>,
}

#[derive(Debug)]
struct Lease {
    token: String,
    /// For the count of holders alone: the store knows better.
    until: Instant,
}

/// A pull of a holder.
#[derive(Debug)]
pub(super) struct Turn {
    key: Key,
    number: u64,
    /// Held by a pull of the holder from its look at the turn until its lease is remembered or ended. So the leases of a holder
    /// are made in the order of its pulls, and the last one that the store notes is the newest.
    pub(super) one_leases: Arc<AsyncMutex<()>>,
}

impl Turn {
    /// Whose it is.
    pub(super) fn holder(&self) -> &str {
        &self.key.1
    }
}

/// What a holder had before a pull.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    Lease(String),
    /// What the store knows.
    Stored,
}

impl Holders {
    /// Begins a pull: its turn, and what the holder had, which is forgotten by this.
    pub(super) fn begin(&self, bucket: &BucketName, holder: &str) -> (Turn, Before) {
        let mut pulls = self.pulls.lock();
        let key = (bucket.clone(), holder.to_owned());
        if pulls.len() >= MAX_HOLDERS && !pulls.contains_key(&key) {
            // Whoever makes names up without end pushes out those of its own bucket: a pull that is forgotten gets nothing.
            let of_bucket = pulls.keys().find(|(of, _)| of == bucket);
            if let Some(other) = of_bucket.or_else(|| pulls.keys().next()).cloned() {
                pulls.remove(&other);
            }
        }
        let newest = pulls.entry(key.clone()).or_default();
        newest.turn += 1;
        let before = match newest.lease.take() {
            Some(lease) => Before::Lease(lease.token),
            None if newest.is_settled => Before::Nothing,
            None => Before::Stored,
        };
        newest.is_settled = false;
        let one_leases = Arc::clone(&newest.one_leases);
        (Turn { key, number: newest.turn, one_leases }, before)
    }

    /// Whether the holder has begun no other pull meanwhile.
    pub(super) fn is_newest(&self, turn: &Turn) -> bool {
        self.of_turn(turn, |_| ())
    }

    /// What the holder had before this pull has been ended.
    pub(super) fn settle(&self, turn: &Turn) {
        self.of_turn(turn, |newest| newest.is_settled = true);
    }

    /// Remembers the lease of a pull, which lasts for `ttl`. False when the holder has begun another one meanwhile: nobody
    /// reads the answer of this one any more, so its lease must not stand.
    pub(super) fn end(&self, turn: &Turn, lease: &str, ttl: Duration) -> bool {
        let (token, until) = (lease.to_owned(), Instant::now() + ttl);
        self.of_turn(turn, |newest| newest.lease = Some(Lease { token, until }))
    }

    /// A lease lasts for `ttl` from now on.
    pub(super) fn extended(&self, bucket: &BucketName, lease: &str, ttl: Duration) {
        let until = Instant::now() + ttl;
        let mut pulls = self.pulls.lock();
        let of_bucket = pulls.iter_mut().filter(|((of, _), _)| of == bucket);
        let leases = of_bucket.filter_map(|(_, newest)| newest.lease.as_mut());
        leases.filter(|known| known.token == lease).for_each(|known| known.until = until);
    }

    /// Does something with the holder's newest pull, if it is this one.
    fn of_turn(&self, turn: &Turn, work: impl FnOnce(&mut Newest)) -> bool {
        match self.pulls.lock().get_mut(&turn.key).filter(|newest| newest.turn == turn.number) {
            Some(newest) => {
                work(newest);
                true
            }
            None => false,
        }
    }

    /// How many hold a lease, for each bucket.
    pub(crate) fn by_bucket(&self) -> HashMap<BucketName, u64> {
        let now = Instant::now();
        let holds = |newest: &Newest| newest.lease.as_ref().is_some_and(|lease| lease.until > now);
        let mut counts = HashMap::new();
        for ((bucket, _), _) in self.pulls.lock().iter().filter(|(_, newest)| holds(newest)) {
            *counts.entry(bucket.clone()).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn only_the_newest_pull_of_a_holder_may_hold_a_lease() {
        let holders = Holders::default();
        let bucket = BucketName::new("b").unwrap();
        let (killed, _) = holders.begin(&bucket, "player");
        let (again, _) = holders.begin(&bucket, "player");
        assert!(!holders.is_newest(&killed) && holders.is_newest(&again));
        assert!(!holders.end(&killed, "lease-1", MINUTE), "nobody reads its answer");
        assert!(holders.end(&again, "lease-2", MINUTE));
        assert_eq!(holders.by_bucket().get(&bucket), Some(&1));
        assert_eq!(holders.begin(&bucket, "player").1, Before::Lease("lease-2".to_owned()));
        assert_eq!(holders.by_bucket().get(&bucket), None);
    }

    #[test]
    fn a_holder_counts_until_its_lease_has_run_out() {
        let holders = Holders::default();
        let [bucket, other] = ["b", "c"].map(|name| BucketName::new(name).unwrap());
        let count = || holders.by_bucket().get(&bucket).copied();
        let (turn, _) = holders.begin(&bucket, "player");
        holders.end(&turn, "lease", Duration::ZERO);
        assert_eq!(count(), None);
        holders.extended(&other, "lease", MINUTE);
        holders.extended(&bucket, "another", MINUTE);
        assert_eq!(count(), None);
        holders.extended(&bucket, "lease", MINUTE);
        assert_eq!(count(), Some(1));
    }

    #[test]
    fn names_without_end_push_out_those_of_their_own_bucket() {
        let holders = Holders::default();
        let [quiet, loud] = ["quiet", "loud"].map(|name| BucketName::new(name).unwrap());
        let turns: Vec<Turn> =
            (0..10).map(|name| holders.begin(&quiet, &name.to_string()).0).collect();
        for name in 0..2 * MAX_HOLDERS {
            holders.begin(&loud, &name.to_string());
        }
        assert!(turns.iter().all(|turn| holders.is_newest(turn)));
        assert_eq!(holders.pulls.lock().len(), MAX_HOLDERS);
        // One more finds a place all the same.
        let (turn, _) = holders.begin(&BucketName::new("new").unwrap(), "player");
        assert!(holders.is_newest(&turn));
        assert_eq!(holders.pulls.lock().len(), MAX_HOLDERS);
    }

    #[test]
    fn the_store_is_asked_until_what_was_before_has_been_ended() {
        let holders = Holders::default();
        let bucket = BucketName::new("b").unwrap();
        let begin = || holders.begin(&bucket, "player");
        // Two at once, and the first one is told too late.
        let ((first, before), (second, also_before)) = (begin(), begin());
        assert_eq!((before, also_before), (Before::Stored, Before::Stored));
        holders.settle(&first);
        assert_eq!(begin().1, Before::Stored, "the second one has ended nothing yet");
        holders.settle(&second);
        let (newest, before) = begin();
        assert_eq!(before, Before::Stored);
        holders.settle(&newest);
        assert_eq!(begin().1, Before::Nothing);
        let (newest, _) = begin();
        holders.end(&newest, "lease", MINUTE);
        assert_eq!(begin().1, Before::Lease("lease".to_owned()));
        assert_eq!(begin().1, Before::Stored, "the one before may not have ended it");
    }
}
