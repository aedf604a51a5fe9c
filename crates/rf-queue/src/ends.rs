//! When leases end by the monotonic clock, for when they have to be read from the database again.
//!
//! The database has the wall clock's time. After a transaction that was undone the leases are loaded from it; if the wall
//! clock has jumped since they were stored, they would end too early or too late.

use std::collections::BTreeMap;

/// Fewer are not looked through.
const MIN_PRUNED: usize = 256;

/// The ends of leases that this run has read or stored, by token and end on the wall clock.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    known: BTreeMap<(u64, u64), u64>,
    prune_at: usize,
}

impl Ends {
    /// A lease was read or is stored with this end; `now` is monotonic, as `end` is.
    pub(crate) fn note(&mut self, token_and_wall: (u64, u64), end: u64, now: u64) {
        self.known.insert(token_and_wall, end);
        if self.known.len() > self.prune_at {
            self.known.retain(|_, end| *end > now);
            self.prune_at = MIN_PRUNED.max(2 * self.known.len());
        }
    }

    /// Its end, if this run has noted it.
    pub(crate) fn of(&self, token_and_wall: (u64, u64)) -> Option<u64> {
        self.known.get(&token_and_wall).copied()
    }
}
