//! Calls that were refused for their token, by the host in whose name they came.
//!
//! Promises: the table is bounded, since anybody can call in any name, and its lock is held for a copy of a few bytes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entry;

/// What is wrong is tried again within a minute or so.
const LATELY_SECONDS: u64 = 180;

/// A call that was refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RefusedCall {
    /// Seconds since 1970.
    pub(crate) at: u64,
    /// Those of the named buckets that there are.
    pub(crate) buckets: Option<String>,
}

/// The newest of each host.
#[derive(Debug, Default)]
pub(super) struct RefusedCalls(Mutex<HashMap<String, RefusedCall>>);

impl RefusedCalls {
    pub(super) fn note(&self, hostname: &str, call: RefusedCall) {
        let mut calls = self.lock();
        if let Some(newest) = entry(&mut calls, hostname, |known| known.at) {
            *newest = call;
        }
    }

    /// Those of the last minutes.
    pub(super) fn lately(&self, now: u64) -> HashMap<String, RefusedCall> {
        let mut calls = self.lock();
        calls.retain(|_, call| now.saturating_sub(call.at) <= LATELY_SECONDS);
        calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, RefusedCall>> {
        // A panic elsewhere leaves whole entries.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
