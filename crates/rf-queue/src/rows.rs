//! Reading rows of one queue, and ids as runs.

use bytes::{Bytes, BytesMut};
use rusqlite::{Connection, params};

use crate::limits::stored_bytes;
use crate::removal::Measure;
use crate::segments::Piece;
use crate::sql;
use crate::types::{Budget, Checkpoint, StoredEvent};

/// Contents of up to so many bytes share a piece of memory.
const SHARED_BYTES: usize = 4 * 1024;
const PIECE_BYTES: usize = 32 * 1024;

/// What a read found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) events: Vec<StoredEvent>,
    /// The budget ended the read, not the span: there is more.
    pub(crate) more: bool,
}

impl Found {
    /// The ids from the first to the last event, and what lies there, which is what was found.
    pub(crate) fn measured(&self) -> Option<((u64, u64), Measure)> {
        let (first, last) = (self.events.first()?.id, self.events.last()?.id);
        let mut there = Measure::default();
        for event in &self.events {
            let bytes = event.content.len() as u64;
            there.events += 1;
            there.bytes += bytes;
            there.stored += stored_bytes(bytes);
        }
        Some(((first, last), there))
    }
}

/// Checkpoints whose key begins with `prefix`, by key.
pub(crate) fn checkpoints(conn: &Connection, prefix: &str) -> rusqlite::Result<Vec<Checkpoint>> {
    let mut select = conn.prepare_cached(sql::GET_CHECKPOINTS)?;
    let mut rows = select.query([prefix])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if !key.starts_with(prefix) {
            break;
        }
        found.push(Checkpoint { key, value: Some(row.get(1)?) });
    }
    Ok(found)
}

/// Events of `pieces` within a budget; with `at_least_one`, the first comes whatever its size.
pub(crate) fn read<'a>(
    conn: &Connection,
    pieces: impl Iterator<Item = Piece<'a>>,
    budget: Budget,
    at_least_one: bool,
) -> rusqlite::Result<Found> {
    let mut found = Found::default();
    let mut contents = Contents::default();
    let mut bytes = 0usize;
    for piece in pieces {
        let [first, last] = piece.span();
        let most = sql_id((budget.events - found.events.len()) as u64);
        let mut select = conn.prepare_cached(&piece.sql.read)?;
        let mut rows = select.query(params![first, last, most])?;
        while let Some(row) = rows.next()? {
            let content = row.get_ref(2)?.as_bytes()?;
            let full = bytes >= budget.bytes;
            bytes = bytes.saturating_add(content.len());
            let first = found.events.is_empty() && at_least_one;
            // What fills the budget ends the read, also for events without content.
            if (bytes > budget.bytes || full) && !first {
                found.more = true;
                return Ok(found);
            }
            let content = contents.copy(content);
            found.events.push(StoredEvent {
                id: row.get(0)?,
                at_ms: row.get(1)?,
                content,
                attempts: 0,
            });
        }
        found.more = found.events.len() >= budget.events;
        if found.more {
            break;
        }
    }
    Ok(found)
}

/// Small contents share pieces of memory: an allocation for each would cost more than the copy, here and where they are
/// dropped. An event that is kept keeps its piece.
#[derive(Default)]
struct Contents {
    piece: BytesMut,
    /// Size of the newest piece.
    size: usize,
}

impl Contents {
    fn copy(&mut self, content: &[u8]) -> Bytes {
        if content.len() > SHARED_BYTES {
            return Bytes::copy_from_slice(content);
        }
        if self.piece.capacity() < content.len() {
            // A read of few events shall not take much.
            self.size = (self.size * 2).clamp(content.len(), PIECE_BYTES);
            self.piece = BytesMut::with_capacity(self.size);
        }
        self.piece.extend_from_slice(content);
        self.piece.split().freeze()
    }
}

/// SQLite's integers are signed.
pub(crate) fn sql_id(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// Sorted runs of ids without gaps.
pub(crate) fn runs(ids: &[u64]) -> Vec<(u64, u64)> {
    let mut sorted: Vec<u64> =
        ids.iter().copied().filter(|&id| i64::try_from(id).is_ok()).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for id in sorted {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => runs.push((id, id)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::{Contents, PIECE_BYTES, SHARED_BYTES, runs};

    #[test]
    fn contents_are_kept_apart_whatever_they_share() {
        let sizes = [0, 1, 700, SHARED_BYTES, SHARED_BYTES + 1, 3, PIECE_BYTES, 900];
        let given: Vec<Vec<u8>> =
            (0..200_u8).map(|n| vec![n; sizes[usize::from(n) % sizes.len()]]).collect();
        let mut contents = Contents::default();
        let copies: Vec<_> = given.iter().map(|content| contents.copy(content)).collect();
        assert_eq!(copies, given);
    }

    #[test]
    fn ids_become_runs_whatever_their_order() {
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[7, 3, 4, 5, 9, 4]), [(3, 5), (7, 7), (9, 9)]);
    }

    #[test]
    fn ids_that_no_row_can_have_are_passed_over() {
        assert_eq!(runs(&[u64::MAX, 0, 1 << 63]), [(0, 0)]);
    }
}
