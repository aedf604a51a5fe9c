//! Calls that were refused for their token, by the host in whose name they came.
//!
//! Promises: the table is bounded, since anybody can call in any name, and its lock is held for a copy of a few bytes. So
//! is the number of names for the log: with a new name in each, no line is muted as one that repeats.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};

use super::entry;

/// What is wrong is tried again within a minute or so.
const LATELY_SECS: u64 = 180;

/// Of so many hosts at a time the log has the names.
const MAX_LOGGED: usize = 20;

/// A call that was refused.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RefusedCall {
    /// Seconds since 1970.
    pub(crate) at_secs: u64,
    /// Those of the named buckets that there are.
    pub(crate) buckets: Option<String>,
}

/// The newest of each host.
#[derive(Debug, Default)]
pub(super) struct RefusedCalls(Mutex<HashMap<String, RefusedCall>>);

impl RefusedCalls {
    /// True where the name may stand in the log.
    pub(super) fn note(&self, hostname: &str, call: RefusedCall) -> bool {
        let mut calls = self.of_late(call.at_secs);
        let Some(newest) = entry(&mut calls, hostname, |known| known.at_secs) else { return false };
        *newest = call;
        calls.len() <= MAX_LOGGED
    }

    /// Those of the last minutes.
    pub(super) fn lately(&self, now_secs: u64) -> HashMap<String, RefusedCall> {
        self.of_late(now_secs).clone()
    }

    fn of_late(&self, now_secs: u64) -> MutexGuard<'_, HashMap<String, RefusedCall>> {
        let mut calls = self.0.lock();
        calls.retain(|_, call| now_secs.saturating_sub(call.at_secs) <= LATELY_SECS);
        calls
    }
}
