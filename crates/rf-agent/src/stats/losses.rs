//! What a source had and no queue holds, by reason.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why it is not in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The memory that the source may use was used up: `captureMemoryBytes`, `udpBufferBytes`.
    Memory,
    /// Too many waited for the queue.
    Waiting,
    /// A sink's queue was full.
    Full,
    /// It can never fit into the queue.
    TooLarge,
    /// The queue's database refused, as on a full disk.
    Refused,
    /// It came while the agent stopped, or no queue took it before the stop.
    Stopping,
    /// Making an event of it failed.
    Failed,
    /// It is in the rest of a file that cannot be unpacked; how many there are cannot be told, so files are counted.
    Damaged,
}

/// As they stand in `dropped` of node-info, on the page and in the metrics.
const NAMES: [&str; 8] =
    ["memory", "waiting", "full", "tooLarge", "refused", "stopping", "failed", "damaged"];

/// Counts by reason; counting neither waits nor allocates.
#[derive(Debug, Default)]
pub(crate) struct Losses([AtomicU64; NAMES.len()]);

impl Losses {
    pub(crate) fn count(&self, loss: Loss, events: usize) {
        self.0[loss as usize].fetch_add(events as u64, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|index| self.0[index].load(Ordering::Relaxed)))
    }
}

/// What [`Losses`] were at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts([u64; NAMES.len()]);

impl Counts {
    /// What came since an earlier moment.
    pub(crate) fn since(self, before: Counts) -> Counts {
        Counts(std::array::from_fn(|index| self.0[index].saturating_sub(before.0[index])))
    }

    pub(crate) fn total(self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that are not zero.
    pub(crate) fn by_reason(self) -> BTreeMap<String, u64> {
        self.some().map(|(name, count)| (name.to_owned(), count)).collect()
    }

    fn some(self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, count)) in self.some().enumerate() {
            write!(f, "{}{count} {name}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
