//! Batches whose senders left while they were being stored.
//!
//! With its connection a request ends here, but not the commit that it waits for: what has become of that is told to nobody.
//! Promise: once the sender repeats the batch, it is counted, and told to those who tap, as one that was not there before. One
//! without an id is not known again, and stays uncounted. One that was counted is counted a second time if its sender leaves
//! while a repeat of it waits, and then repeats it once more: which batches were counted is not remembered.

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::bucket::BucketName;

/// So many are remembered; beyond that some are forgotten, and not counted.
const MAX_LEFT: usize = 1024;

/// Those that were not repeated yet.
#[derive(Debug, Default)]
pub(crate) struct Left(Mutex<HashSet<(BucketName, String)>>);

/// A batch that is being stored; dropped without an answer, its sender has left.
pub(super) struct Waiting<'a> {
    left: &'a Left,
    buckets: &'a [BucketName],
    batch_id: Option<&'a str>,
}

impl Left {
    /// To be held until the buckets have answered.
    pub(super) fn wait<'a>(
        &'a self,
        buckets: &'a [BucketName],
        batch_id: Option<&'a str>,
    ) -> Waiting<'a> {
        Waiting { left: self, buckets, batch_id }
    }

    /// Whether a sender of this batch has left before the bucket answered. It is forgotten by this.
    pub(super) fn take(&self, bucket: &BucketName, batch_id: Option<&str>) -> bool {
        let Some(batch_id) = batch_id else { return false };
        let mut left = self.0.lock();
        // Nobody has, as a rule: that costs no copy of the names.
        !left.is_empty() && left.remove(&(bucket.clone(), batch_id.to_owned()))
    }
}

impl Waiting<'_> {
    /// All buckets have answered.
    pub(super) fn answered(mut self) {
        self.batch_id = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(batch_id) = self.batch_id else { return };
        let mut left = self.left.0.lock();
        for bucket in self.buckets {
            if left.len() >= MAX_LEFT
                && let Some(other) = left.iter().next().cloned()
            {
                left.remove(&other);
            }
            left.insert((bucket.clone(), batch_id.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_is_known_once_and_their_number_is_bounded() {
        let left = Left::default();
        let [a, b] = ["a", "b"].map(|name| BucketName::new(name).unwrap());
        let buckets = [a.clone(), b.clone()];
        left.wait(&buckets, Some("1")).answered();
        drop(left.wait(&buckets, None));
        assert!(!left.take(&a, Some("1")) && !left.take(&a, None));
        drop(left.wait(&buckets, Some("1")));
        assert!(!left.take(&a, Some("2")));
        assert_eq!([(); 2].map(|()| left.take(&a, Some("1"))), [true, false]);
        assert!(left.take(&b, Some("1")));
        for id in 0..2 * MAX_LEFT {
            drop(left.wait(&buckets, Some(&id.to_string())));
        }
        assert_eq!(left.0.lock().len(), MAX_LEFT);
    }
}
