//! Copies that were lost, by reason.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a copy is not in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// `captureMemoryBytes` was used up.
    Memory,
    /// Too many copies waited for the queue.
    Waiting,
    /// A sink's queue was full.
    QueueFull,
    /// It can never fit into the queue.
    TooLarge,
    /// The queue's database refused, as on a full disk.
    Refused,
    /// It came while the agent stopped.
    Stopping,
    /// Making an event of it failed.
    Panicked,
}

const NAMES: [&str; 7] = [
    "captureMemoryBytes used up",
    "too many waiting",
    "queue full",
    "too large",
    "queue refused",
    "stopping",
    "panicked",
];

/// Counts by reason.
#[derive(Debug, Default)]
pub(super) struct Losses([AtomicU64; NAMES.len()]);

impl Losses {
    pub(super) fn count(&self, loss: Loss, copies: usize) {
        self.0[loss as usize].fetch_add(copies as u64, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|index| self.0[index].load(Ordering::Relaxed)))
    }
}

/// What [`Losses`] were at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts([u64; NAMES.len()]);

impl Counts {
    /// What came since an earlier moment.
    pub(super) fn since(self, before: Counts) -> Counts {
        Counts(std::array::from_fn(|index| self.0[index].saturating_sub(before.0[index])))
    }

    pub(super) fn total(self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.iter().zip(NAMES).filter(|(count, _)| **count > 0);
        for (index, (count, name)) in known.enumerate() {
            write!(f, "{}{count} {name}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
