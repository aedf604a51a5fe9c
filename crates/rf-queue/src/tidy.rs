//! Giving the place of passed events back: see [`crate::segments`].

use std::ops::ControlFlow;

use rusqlite::{Connection, params};

use crate::admit::Cost;
use crate::ahead::REMOVAL_STEP;
use crate::group::Group;
use crate::limits::{SEGMENT_DIRTY, emptying_pages, moving_pages, removal_pages, stored_bytes};
use crate::rows::sql_id;
use crate::segments::{Due, Hurry, Piece};
use crate::step::reached;
use crate::writer::Writer;

impl Writer {
    /// Does what is due and worth it, in a transaction that it begins and does not end: with that of the next requests it
    /// costs no sync of its own.
    pub(crate) fn tidy(&mut self) -> rusqlite::Result<()> {
        for queue in 0..self.state.queues.len() {
            while let Some(due) = self.due(queue, Hurry::Worth) {
                self.do_due(queue, due)?;
            }
        }
        Ok(())
    }

    /// Gives back all that there is, in as many transactions as it takes.
    pub(crate) fn tidy_all(&mut self) -> rusqlite::Result<()> {
        self.cut_group()?;
        for queue in 0..self.state.queues.len() {
            while let Some(due) = self.due(queue, Hurry::All) {
                self.do_due(queue, due)?;
                self.end_transaction()?;
            }
        }
        self.publish();
        Ok(())
    }

    /// Gives back all that there is, with the tables that nobody needs.
    pub(crate) fn tidy_up(&mut self) -> rusqlite::Result<()> {
        self.tidy_all()?;
        for queue in 0..self.state.queues.len() {
            loop {
                let pages = SEGMENT_DIRTY + moving_pages(self.room.map_or(0, |room| room.pages));
                self.make_wal_room(&Cost::pages(pages))?;
                let group = self.group()?;
                let dropped = group.state.queues[queue].segments.drop_spare(group.conn)?;
                if !dropped {
                    break;
                }
                group.tx.other += pages;
                reached("table dropped");
            }
        }
        self.end_transaction()
    }

    /// Bytes of a segment; 0: there is none.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.limits.segment_bytes_of(&self.options)
    }

    /// In a store that is nearly full everything is due.
    fn due(&self, queue: usize, hurry: Hurry) -> Option<Due> {
        let used = self.room.map_or(0, |room| room.used());
        let hurry = if self.limits.is_tight(used) { Hurry::All } else { hurry };
        let queue = &self.state.queues[queue];
        queue.segments.due(queue.head.map(|(id, _)| id), hurry)
    }

    fn do_due(&mut self, queue: usize, due: Due) -> rusqlite::Result<()> {
        match due {
            Due::Empty(stored) => {
                let pages = emptying_pages(stored, self.room.map_or(0, |room| room.pages));
                self.make_wal_room(&Cost::pages(pages))?;
                self.group()?.empty_oldest(queue, pages)
            }
            Due::Sweep => {
                let pages = self.limits.step_pages();
                self.make_wal_room(&Cost::pages(pages))?;
                self.group()?.sweep_oldest(queue, pages)
            }
        }
    }
}

impl Group<'_> {
    fn empty_oldest(&mut self, queue: usize, pages: u64) -> rusqlite::Result<()> {
        let queue = &mut self.state.queues[queue];
        self.conn.prepare_cached(&queue.segments.oldest().empty)?.execute([])?;
        queue.segments.emptied(queue.next_id);
        self.tx.other += pages;
        reached("segment emptied");
        Ok(())
    }

    /// Deletes the first of what has been passed in the oldest segment, as much as so many pages allow.
    fn sweep_oldest(&mut self, queue: usize, pages: u64) -> rusqlite::Result<()> {
        let queue = &mut self.state.queues[queue];
        let sql = queue.segments.oldest();
        let piece = Piece { sql, first: 0, last: queue.removed };
        let most = (u64::MAX, u64::MAX);
        let Some((first, last)) =
            first_rows(self.conn, std::iter::once(piece), most, pages, self.tx.room.pages)?
        else {
            queue.segments.swept(None);
            return Ok(());
        };
        let span = [sql_id(first), sql_id(last)];
        let stored: u64 =
            self.conn.prepare_cached(&sql.measure)?.query_row(span, |row| row.get(2))?;
        self.conn.prepare_cached(&sql.delete)?.execute(span)?;
        queue.segments.swept(Some(stored));
        self.tx.other += pages;
        reached("swept");
        Ok(())
    }
}

/// First and last id of the first rows: those stored at or before `most.0`, until they are `most.1` bytes, as many as can be
/// deleted with `pages` pages, in a file of `file_pages`, but one at the least.
pub(crate) fn first_rows<'a>(
    conn: &Connection,
    pieces: impl Iterator<Item = Piece<'a>>,
    most: (u64, u64),
    pages: u64,
    file_pages: u64,
) -> rusqlite::Result<Option<(u64, u64)>> {
    let mut first_and_last: Option<(u64, u64)> = None;
    let (mut count, mut stored) = (0, 0);
    let mut look = |(id, at, bytes): (u64, u64, u64)| {
        let enough = stored >= most.1 || at > most.0 || count == REMOVAL_STEP;
        (count, stored) = (count + 1, stored + stored_bytes(bytes));
        if enough || (first_and_last.is_some() && removal_pages(count, stored, file_pages) > pages)
        {
            return ControlFlow::Break(());
        }
        first_and_last = Some((first_and_last.map_or(id, |(first, _)| first), id));
        ControlFlow::Continue(())
    };
    'pieces: for piece in pieces {
        let [first, last] = piece.span();
        let mut select = conn.prepare_cached(&piece.sql.sizes)?;
        let mut rows = select.query(params![first, last, sql_id(REMOVAL_STEP + 1)])?;
        while let Some(row) = rows.next()? {
            if look((row.get(0)?, row.get(1)?, row.get(2)?)).is_break() {
                break 'pieces;
            }
        }
    }
    Ok(first_and_last)
}
