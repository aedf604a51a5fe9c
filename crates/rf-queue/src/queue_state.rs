//! What the writer knows of one queue: the counters and the lease book that make its work O(1).

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::clock::{Clock, millis};
use crate::ends::Ends;
use crate::lease::{LeaseBook, stored};
use crate::limits::stored_bytes;
use crate::removal::Measure;
use crate::schema::create_event_table;
use crate::segments::{Counted, Piece, Segments};
use crate::shared::QueueShared;
use crate::sizes::Sizes;
use crate::sql;
use crate::types::{Dropped, QueueOptions, QueueUsage, WhenFull};

/// Ids of a new database start at the unix second times this. A bucket that was deleted and made anew therefore does
/// not hand out ids that a player may still acknowledge from the old one, and ids stay below 2^53 (safe in JSON).
const IDS_PER_SECOND: u64 = 1 << 16;

/// A clock that is so far behind a queue was wrong before, or is now.
const CLOCK_BEHIND_MS: u64 = 60 * 60 * 1000;

/// Dropping that goes on is told again after so long.
const TELL_AGAIN_MS: u64 = 3 * 60 * 1000;

/// What each queue gets of the store's limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueShares {
    /// The equal share of one queue, which is its limit where it has none of its own.
    pub(crate) share_bytes: u64,
    /// What one of its segments holds.
    pub(crate) segment_bytes: u64,
}

/// One queue, as the writer sees it.
pub(crate) struct QueueState {
    pub(crate) row: i64,
    pub(crate) name: String,
    pub(crate) segments: Segments,
    pub(crate) next_id: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    /// Bytes that the events take in the file: what the limit counts.
    pub(crate) stored: u64,
    /// Events up to this id are gone.
    pub(crate) removed: u64,
    /// Wall clock of the newest append; `at` never goes back along the ids of a queue's events, so that the age limit is a prefix.
    pub(crate) last_at: u64,
    /// How far the clock was behind that at the newest append, if that is much; and whether it was told.
    behind_ms: Option<u64>,
    behind_told: bool,
    /// The oldest event, as (id, at).
    pub(crate) head: Option<(u64, u64)>,
    /// Dead letters that came from it.
    pub(crate) dead_letters: u64,
    pub(crate) book: LeaseBook,
    ends: Ends,
    pub(crate) sizes: Sizes,
    pub(crate) limit_bytes: u64,
    pub(crate) max_age_ms: Option<u64>,
    pub(crate) when_full: WhenFull,
    /// Events dropped since the store was opened, and by the open transaction, by [`Dropped`].
    dropped: [u64; 2],
    dropping: [u64; 2],
    /// Events that could not be salvaged when the store was opened.
    pub(crate) damaged: u64,
    /// What a watch picked of the events that the open transaction has dropped.
    pub(crate) picked: Vec<(Dropped, Vec<u128>)>,
    pub(crate) dirty: bool,
    /// Events were removed: `head` must be looked up again.
    pub(crate) head_moved: bool,
    /// Events became available: readers are told after the commit.
    pub(crate) announce: bool,
    /// Dead letters that are gone: pushed out by newer ones, or never written for want of room.
    dropped_dead: u64,
    dropping_dead: u64,
    /// When dropping was last told in the log (monotonic ms), by [`Dropped`], and then that of dead letters.
    told_at: [Option<u64>; 3],
}

impl QueueState {
    /// Creates its row and its first table, if there are none.
    pub(crate) fn create(
        conn: &Connection,
        options: &QueueOptions,
        clock: &dyn Clock,
    ) -> rusqlite::Result<()> {
        let first_id = clock.wall_ms() / 1000 * IDS_PER_SECOND + 1;
        conn.execute(
            "INSERT OR IGNORE INTO queues (name, next_id, events, bytes, stored, last_at) VALUES (?1, ?2, 0, 0, 0, 0)",
            params![options.name, first_id],
        )?;
        let row =
            conn.query_row("SELECT id FROM queues WHERE name = ?1", [&options.name], |r| r.get(0))?;
        create_event_table(conn, row, 0)
    }

    /// Reads the counters and leases; `ends` are those of leases that are known.
    pub(crate) fn load(
        conn: &Connection,
        options: &QueueOptions,
        shares: QueueShares,
        clock: &dyn Clock,
        mut ends: Ends,
    ) -> rusqlite::Result<Self> {
        let find = "SELECT id, next_id, events, bytes, stored, last_at, removed FROM queues WHERE name = ?1";
        let (row, bytes, last_at, counted): (i64, u64, u64, Counted) =
            conn.query_row(find, [&options.name], |r| {
                let (next_id, events) = (r.get(1)?, r.get(2)?);
                let counted = Counted { next_id, events, stored: r.get(4)?, removed: r.get(6)? };
                Ok((r.get(0)?, r.get(3)?, r.get(5)?, counted))
            })?;
        let Counted { next_id, removed, events, stored } = counted;
        let mut queue = Self {
            row,
            name: options.name.clone(),
            segments: Segments::load(conn, row, shares.segment_bytes, counted)?,
            next_id,
            events,
            bytes,
            stored,
            removed,
            last_at,
            behind_ms: None,
            behind_told: false,
            head: None,
            dead_letters: 0,
            book: stored::load(conn, row, &mut ends, clock)?,
            ends,
            sizes: Sizes::default(),
            limit_bytes: options.max_bytes.unwrap_or(shares.share_bytes),
            max_age_ms: options.max_age.map(millis),
            when_full: options.when_full,
            dropped: [0; 2],
            dropping: [0; 2],
            damaged: 0,
            dropped_dead: 0,
            dropping_dead: 0,
            picked: Vec::new(),
            dirty: false,
            head_moved: false,
            announce: false,
            told_at: [None; 3],
        };
        queue.head = queue.find_head(conn)?;
        Ok(queue)
    }

    /// Takes over from `old`, which is read anew, what is not in the database.
    pub(crate) fn go_on_from(&mut self, old: &Self) {
        (self.dropped, self.dropped_dead, self.told_at) =
            (old.dropped, old.dropped_dead, old.told_at);
        (self.damaged, self.behind_ms, self.behind_told) =
            (old.damaged, old.behind_ms, old.behind_told);
        // Of what was committed before, and is not shown yet.
        self.announce = old.announce;
    }

    /// Goes on counting from what was shown before the store slept.
    pub(crate) fn count_on(&mut self, shown: &QueueUsage) {
        self.dropped = [shown.dropped_full, shown.dropped_age];
        self.damaged = shown.dropped_damaged;
        self.dropped_dead = shown.dropped_dead;
    }

    /// The ends of its leases, for when it is read anew.
    pub(crate) fn take_ends(&mut self) -> Ends {
        std::mem::take(&mut self.ends)
    }

    /// The time of what is appended now. An empty queue begins anew, so that one start with a clock that was ahead is forgotten.
    pub(crate) fn time_of_next(&mut self, wall: u64) -> u64 {
        let at = if self.events == 0 { wall } else { wall.max(self.last_at) };
        self.behind_ms = Some(at - wall).filter(|behind| *behind > CLOCK_BEHIND_MS);
        at
    }

    /// Has the log say when the clock turns out to be far behind the queue, and when it is no longer.
    pub(crate) fn tell_of_clock(&mut self, path: &Path) {
        if self.behind_ms.is_some() == self.behind_told {
            return;
        }
        self.behind_told = self.behind_ms.is_some();
        let (path, queue) = (path.display(), self.name.as_str());
        if let Some(behind_ms) = self.behind_ms {
            let seconds = behind_ms / 1000;
            tracing::warn!(%path, queue, seconds, state = "down", "the clock is behind the events of this queue: their age counts only when it has caught up, or the queue was empty");
        } else {
            tracing::info!(%path, queue, state = "up", "the clock is no longer behind the events of this queue");
        }
    }

    /// Counts an event that was written.
    pub(crate) fn count_in(&mut self, id: u64, at: u64, content: u64) {
        self.head.get_or_insert((id, at));
        self.next_id = self.next_id.max(id + 1);
        self.events += 1;
        self.bytes += content;
        self.stored += stored_bytes(content);
    }

    /// Counts events that were removed.
    pub(crate) fn count_out(&mut self, first: u64, last: u64, gone: Measure) {
        self.events = self.events.saturating_sub(gone.events);
        self.bytes = self.bytes.saturating_sub(gone.bytes);
        self.stored = self.stored.saturating_sub(gone.stored);
        self.sizes.forget(first, last);
        self.dirty = true;
        self.head_moved |= self.head.is_some_and(|(id, _)| id >= first && id <= last);
    }

    /// Counts dropped events, as far as the transaction is concerned.
    pub(crate) fn count_dropped(&mut self, why: Dropped, events: u64) {
        self.dropping[why as usize] += events;
    }

    /// Counts a dead letter that is gone, as far as the transaction is concerned.
    pub(crate) fn count_letter_lost(&mut self) {
        self.dropping_dead += 1;
    }

    /// Counts what a committed transaction dropped; the log is told once in a while, the counters tell the rest.
    fn settle_dropped(&mut self, path: &Path, now: u64) {
        let texts = [
            "queue is full, its oldest events are dropped",
            "events older than the age limit are dropped",
        ];
        for (why, text) in texts.into_iter().enumerate() {
            let events = std::mem::take(&mut self.dropping[why]);
            self.dropped[why] += events;
            if events > 0 && self.may_tell(why, now) {
                let dropped = self.dropped[why];
                tracing::warn!(path = %path.display(), queue = self.name, dropped, "{text}");
            }
        }
        let letters = std::mem::take(&mut self.dropping_dead);
        self.dropped_dead += letters;
        if letters > 0 && self.may_tell(texts.len(), now) {
            let text = "dead letters are at their limit, the oldest are dropped";
            let dropped = self.dropped_dead;
            tracing::warn!(path = %path.display(), queue = self.name, dropped, "{text}");
        }
    }

    fn may_tell(&mut self, what: usize, now: u64) -> bool {
        let told_at = &mut self.told_at[what];
        let may = told_at.is_none_or(|at| now.saturating_sub(at) >= TELL_AGAIN_MS);
        if may {
            *told_at = Some(now);
        }
        may
    }

    /// What there may be of `first..=last`, in order.
    pub(crate) fn pieces(&self, first: u64, last: u64) -> impl Iterator<Item = Piece<'_>> {
        // From `next_id` on lie rows of an append in parts that did not end.
        self.segments.pieces(first.max(self.removed + 1), last.min(self.next_id.saturating_sub(1)))
    }

    /// The head, from the tables themselves; an empty queue has empty counters.
    pub(crate) fn look_again(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.head = self.find_head(conn)?;
        self.head_moved = false;
        if self.head.is_none() && (self.events, self.bytes, self.stored) != (0, 0, 0) {
            (self.events, self.bytes, self.stored, self.dirty) = (0, 0, 0, true);
        }
        Ok(())
    }

    fn find_head(&self, conn: &Connection) -> rusqlite::Result<Option<(u64, u64)>> {
        for piece in self.pieces(0, u64::MAX) {
            let head = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let found = conn.prepare_cached(&piece.sql.head)?.query_row(piece.span(), head);
            if let Some(head) = found.optional()? {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    /// Whether everything up to the end of a span that begins with `first` is in that span, so that it can be passed.
    pub(crate) fn is_front(&mut self, conn: &Connection, first: u64) -> rusqlite::Result<bool> {
        if !self.segments.can_pass() {
            return Ok(false);
        }
        if self.head_moved {
            self.look_again(conn)?;
        }
        Ok(self.head.is_some_and(|(head, _)| first <= head))
    }

    /// The age limit's next moment (wall clock), if any event is subject to it.
    pub(crate) fn age_due(&self) -> Option<u64> {
        Some(self.head?.1.saturating_add(self.max_age_ms?))
    }

    /// Writes what changed, inside the running transaction.
    pub(crate) fn save(&mut self, conn: &Connection, clock: &dyn Clock) -> rusqlite::Result<()> {
        if self.head_moved {
            self.look_again(conn)?;
        }
        if self.dirty {
            let counters = params![
                self.row,
                self.next_id,
                self.events,
                self.bytes,
                self.stored,
                self.last_at,
                self.removed
            ];
            conn.prepare_cached(sql::SAVE_COUNTERS)?.execute(counters)?;
            self.dirty = false;
        }
        if self.book.has_touched() {
            stored::save(conn, self.row, &mut self.book, &mut self.ends, clock)?;
        }
        Ok(())
    }

    /// Shows the committed state to other threads and wakes the readers.
    pub(crate) fn publish(&mut self, shared: &QueueShared, path: &Path, now_ms: u64) {
        self.settle_dropped(path, now_ms);
        *shared.usage.lock() = QueueUsage {
            events: self.events,
            bytes: self.bytes,
            oldest_at_ms: self.head.map(|(_, at)| at),
            next_id: self.next_id,
            dropped_full: self.dropped[Dropped::Full as usize],
            dropped_age: self.dropped[Dropped::Aged as usize],
            dropped_damaged: self.damaged,
            dead_letters: self.dead_letters,
            dropped_dead: self.dropped_dead,
        };
        if std::mem::take(&mut self.announce) {
            shared.available.send_modify(|version| *version += 1);
        }
    }

    /// Whether the open transaction has dropped events.
    pub(crate) fn has_dropped(&self) -> bool {
        self.dropping != [0; 2]
    }
}
