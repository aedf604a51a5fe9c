//! The tables of one queue: its events in the order of their ids, cut into segments, each a table.
//!
//! Rows that are deleted one by one cost a write of every page that gets empty, twice: into the WAL, and into the
//! database. So what leaves a queue at its front, which is how nearly everything leaves, is only *passed*: the counter
//! `removed` moves over it, and nobody sees it any more. A segment of which all has been passed is emptied as a whole: SQLite
//! then frees its pages without writing them. Its table is used again, so that tables are made only while a backlog grows.
//!
//! Nothing on disk lists the segments: each table is a segment by the ids of its rows, and one without rows is spare.
//!
//! Invariant: no row of a segment has an id from the next segment's `first` on, and every append goes to the newest.

use std::collections::VecDeque;

use rusqlite::Connection;

use crate::limits::stored_bytes;
use crate::rows::sql_id;
use crate::schema::{create_event_table, drop_event_table, event_tables};
use crate::sql::QueueSql;

/// Segments of one queue, after which the newest grows on: each costs some memory, and the start time to look at it.
const MAX_SEGMENTS: usize = 1000;

/// Times its bytes that may have been passed in the oldest segment before they are deleted. So much gathers only in a table that
/// is larger than a segment should be: of an earlier version, or by a large append.
const MAX_PASSED: u64 = 2;

/// Empty tables that are kept for what comes next.
const MAX_SPARE: usize = 2;

/// What of its bytes an emptied queue keeps until it is idle, so that a queue that is emptied again and again does not
/// write for each time.
const KEPT_WHEN_EMPTY: u64 = 4;

/// A table with rows, or the one that the next rows go to.
#[derive(Debug)]
pub(crate) struct Segment {
    /// The oldest segment takes what is below, too.
    first: u64,
    sql: QueueSql,
    /// Bytes that were appended, in the file.
    stored: u64,
    /// After a start, `stored` and `passed` are estimates.
    is_estimate: bool,
    /// Those that have been passed.
    passed: u64,
}

/// A piece of a queue that lies in one table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) sql: &'a QueueSql,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// What gives the place of passed events back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// All of the oldest segment has been passed; so many bytes were stored in it, if that is known.
    Empty(Option<u64>),
    /// So much has been passed in the oldest segment, which holds others, that it should be deleted row by row.
    Sweep,
}

/// When something is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hurry {
    /// As soon as it is worth its writes.
    Worth,
    /// At once: there is time for it, or the place is needed.
    All,
}

#[derive(Debug)]
pub(crate) struct Segments {
    row: i64,
    /// Bytes after which the next segment is begun; 0: never.
    target: u64,
    /// By `first`; never empty.
    live: VecDeque<Segment>,
    /// Numbers of the empty tables.
    spare: Vec<u64>,
    /// No table has this number, or a higher one.
    next_number: u64,
}

/// Counters of the queue, as far as they matter here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) next_id: u64,
    pub(crate) removed: u64,
    pub(crate) events: u64,
    pub(crate) stored: u64,
}

impl Segments {
    /// Looks at the tables of the queue, of which there must be one.
    pub(crate) fn load(
        conn: &Connection,
        row: i64,
        target: u64,
        counted: Counted,
    ) -> rusqlite::Result<Self> {
        let (mut live, mut spare, mut next_number) = (Vec::new(), Vec::new(), 0);
        // What is not known of a single table is estimated by the whole.
        let each = counted.stored.checked_div(counted.events).unwrap_or(1).max(1);
        for number in event_tables(conn, row)? {
            next_number = next_number.max(number + 1);
            let sql = QueueSql::new(row, number);
            let (first, last): (Option<u64>, Option<u64>) =
                conn.query_row(&sql.ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let (Some(first), Some(last)) = (first, last) else {
                spare.push(number);
                continue;
            };
            let bytes =
                |first: u64, last: u64| (last + 1).saturating_sub(first).saturating_mul(each);
            // Ids may have gaps: of what was taken over, and of what was salvaged.
            let stored = bytes(first, last).min(counted.stored.max(target));
            let most = target.max(1) * MAX_PASSED;
            let passed = bytes(first, last.min(counted.removed)).min(most);
            // With no event left nothing is known of their sizes, and all of it can go.
            let passed = if counted.events == 0 { most } else { passed };
            live.push(Segment { first, sql, stored, is_estimate: true, passed });
        }
        live.sort_by_key(|segment| segment.first);
        let mut segments = Self { row, target, live: VecDeque::from(live), spare, next_number };
        if segments.live.is_empty() {
            segments.begin(conn, counted.next_id)?;
        }
        Ok(segments)
    }

    /// Whether events may be passed rather than deleted.
    pub(crate) fn can_pass(&self) -> bool {
        self.target > 0
    }

    /// The table that appends go to.
    pub(crate) fn newest(&self) -> &QueueSql {
        &self.live[self.live.len() - 1].sql
    }

    /// The table that the event with this id lies in, or belongs to.
    pub(crate) fn of(&self, id: u64) -> &QueueSql {
        &self.live[self.index_of(id)].sql
    }

    fn index_of(&self, id: u64) -> usize {
        self.live.partition_point(|segment| segment.first <= id).saturating_sub(1)
    }

    /// The tables that hold `first..=last`, in order.
    pub(crate) fn pieces(&self, first: u64, last: u64) -> impl Iterator<Item = Piece<'_>> {
        (self.index_of(first)..self.live.len()).map_while(move |index| {
            let first = if index == 0 { first } else { first.max(self.live[index].first) };
            let end = self.live.get(index + 1).map_or(u64::MAX, |next| next.first - 1);
            let piece = Piece { sql: &self.live[index].sql, first, last: last.min(end) };
            (first <= last).then_some(piece)
        })
    }

    /// Segments that appending so many events of so many bytes in all will begin, at the most.
    pub(crate) fn begun_by(&self, events: u64, bytes: u64) -> u64 {
        let newest = self.live.back().map_or(0, |segment| segment.stored.min(self.target));
        let begun = (newest + bytes).checked_div(self.target).unwrap_or(0);
        begun.min(events).min(MAX_SEGMENTS.saturating_sub(self.live.len()) as u64)
    }

    /// Makes the newest segment ready for events of these sizes; how many of them go into it, at least one, and whether it is
    /// new.
    pub(crate) fn take(
        &mut self,
        conn: &Connection,
        next_id: u64,
        sizes: impl Iterator<Item = u64>,
    ) -> rusqlite::Result<(usize, bool)> {
        let full = self.live.back().is_some_and(|segment| segment.stored >= self.target);
        let begins = full && self.target > 0 && self.live.len() < MAX_SEGMENTS;
        if begins {
            self.begin(conn, next_id)?;
        }
        let goes_on = self.target == 0 || self.live.len() >= MAX_SEGMENTS;
        let (mut count, newest) = (0, self.live.len() - 1);
        let newest = &mut self.live[newest];
        for size in sizes {
            if count > 0 && newest.stored >= self.target && !goes_on {
                break;
            }
            newest.stored += stored_bytes(size);
            count += 1;
        }
        Ok((count, begins))
    }

    /// The newest segment has grown by an append that did not ask.
    pub(crate) fn grow(&mut self, bytes: u64) {
        if let Some(newest) = self.live.back_mut() {
            newest.stored += bytes;
        }
    }

    /// An event was taken over, with its id.
    pub(crate) fn adopted(&mut self, id: u64, size: u64) {
        let index = self.index_of(id);
        let segment = &mut self.live[index];
        segment.stored += stored_bytes(size);
        segment.is_estimate = true;
    }

    fn begin(&mut self, conn: &Connection, first: u64) -> rusqlite::Result<()> {
        let number = match self.spare.pop() {
            Some(number) => number,
            None => {
                create_event_table(conn, self.row, self.next_number)?;
                self.next_number += 1;
                self.next_number - 1
            }
        };
        let sql = QueueSql::new(self.row, number);
        self.live.push_back(Segment { first, sql, stored: 0, is_estimate: false, passed: 0 });
        Ok(())
    }

    /// Events of the segment that `id` lies in have been passed, of so many bytes. Segments before it are due anyway.
    pub(crate) fn pass(&mut self, id: u64, bytes: u64) {
        let index = self.index_of(id);
        self.live[index].passed += bytes;
    }

    /// Bytes of passed events that still have their place.
    pub(crate) fn passed(&self) -> u64 {
        self.live.iter().map(|segment| segment.passed).sum()
    }

    /// What should be done, when `head` is the oldest event's id.
    pub(crate) fn due(&self, head: Option<u64>, hurry: Hurry) -> Option<Due> {
        let oldest = self.live.front()?;
        let worth =
            |bytes: u64| oldest.passed > 0 && (hurry == Hurry::All || oldest.passed >= bytes);
        let all_passed = match self.live.get(1) {
            Some(next) => head.is_none_or(|id| id >= next.first),
            None => head.is_none() && worth(self.target / KEPT_WHEN_EMPTY),
        };
        if all_passed {
            return Some(Due::Empty((!oldest.is_estimate).then_some(oldest.stored)));
        }
        (head.is_some() && worth(self.target * MAX_PASSED)).then_some(Due::Sweep)
    }

    /// The oldest segment, for what is due.
    pub(crate) fn oldest(&self) -> &QueueSql {
        &self.live[0].sql
    }

    /// The oldest segment has been emptied.
    pub(crate) fn emptied(&mut self, next_id: u64) {
        if self.live.len() == 1 {
            let only = &mut self.live[0];
            (only.first, only.stored, only.passed) = (next_id, 0, 0);
            only.is_estimate = false;
        } else if let Some(segment) = self.live.pop_front() {
            self.spare.push(segment.sql.number);
        }
    }

    /// Drops an empty table that is hardly needed; false when there is none.
    pub(crate) fn drop_spare(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        if self.spare.len() <= MAX_SPARE {
            return Ok(false);
        }
        let Some(number) = self.spare.pop() else { return Ok(false) };
        drop_event_table(conn, self.row, number)?;
        Ok(true)
    }

    /// So many bytes of what was passed in the oldest segment have been deleted; `None`: all.
    pub(crate) fn swept(&mut self, bytes: Option<u64>) {
        let oldest = &mut self.live[0];
        oldest.passed = bytes.map_or(0, |bytes| oldest.passed.saturating_sub(bytes).max(1));
    }
}

impl Piece<'_> {
    /// The ids, as SQL takes them.
    pub(crate) fn span(&self) -> [i64; 2] {
        [sql_id(self.first), sql_id(self.last)]
    }
}
