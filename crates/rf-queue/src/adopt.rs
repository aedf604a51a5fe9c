//! Taking over events from another database: the original program's, or a damaged one of ours.
//!
//! It goes through the writer's own transactions, before its thread starts, so that every bound holds meanwhile.

use crate::admit::{Cost, Room};
use crate::limits::PageEstimate;
use crate::types::{Checkpoint, StoredEvent};
use crate::writer::Writer;

/// Content bytes taken over in one transaction at the most, unless one event is larger.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;
/// Rows taken over in one transaction at the most.
pub(crate) const CHUNK_ROWS: usize = 200;

impl Writer {
    /// Stores events with their ids and times, and with them how far that has come; false when there is no room for them.
    /// Events that are there already are passed over.
    pub(crate) fn adopt(
        &mut self,
        queue: usize,
        events: &[StoredEvent],
        done: Option<&Checkpoint>,
    ) -> rusqlite::Result<bool> {
        let removed = self.state.queues[queue].removed;
        if events.iter().any(|event| event.id <= removed) {
            // Of what has been passed nothing may come back with them.
            self.tidy_all()?;
        }
        let mut rows = PageEstimate::of_row(done.map_or(0, |done| done.key.len() as u64 + 32));
        rows.add_table(2);
        events.iter().for_each(|event| rows.add_row(event.content.len() as u64));
        // Rows that land between others split leaves in two halves.
        let cost = Cost::of_rows(rows.plus(rows, 3), 0);
        if !self.has_room_for(&cost)? {
            return Ok(false);
        }
        self.make_wal_room(&cost)?;
        let mut group = self.group()?;
        group.tx.appended = group.tx.appended.plus(cost.rows, 3);
        for event in events {
            group.adopt(queue, event)?;
        }
        if let Some(done) = done {
            group.checkpoint(done)?;
        }
        self.end_transaction()?;
        Ok(true)
    }

    pub(crate) fn has_room_for(&mut self, cost: &Cost) -> rusqlite::Result<bool> {
        if self.group()?.fits(cost) {
            return Ok(true);
        }
        self.roll_back();
        self.tidy_all()?;
        if Room::look(&self.conn, PageEstimate::default())?.free > 0 {
            self.shrink_for_wal()?;
        }
        let fits = self.group()?.fits(cost);
        if !fits {
            self.roll_back();
        }
        Ok(fits)
    }
}
