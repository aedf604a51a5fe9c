//! One transaction: the requests that are applied together and answered together.
//!
//! Everything here runs on the writer thread between BEGIN and COMMIT, on requests that [`crate::admit`] let in.

use std::borrow::Cow;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::admit::{BATCH_PAGES, Room, letter_overhead};
use crate::lease::{Hold, Span};
use crate::limits::{
    Limits, PAGE, PageEstimate, base_pages, moving_pages, removal_pages, stored_bytes,
};
use crate::rows::{read, runs, sql_id};
use crate::sql;
use crate::state::State;
use crate::step::reached;
use crate::types::{
    Append, Budget, Bury, Checkpoint, Commit, Leased, Letter, Receipt, StoredEvent,
};

/// What is counted while a transaction is open.
#[derive(Debug, Default)]
pub(crate) struct Tx {
    pub(crate) room: Room,
    /// Pages that the database file may still have, whatever its last commit says.
    pub(crate) file_pages: u64,
    /// Pages that the database file had at BEGIN; what it lacks it will need from the disk at the next checkpoint.
    pub(crate) disk_pages: u64,
    /// Length of the WAL file at BEGIN, and frames of it that hold something.
    pub(crate) wal_len: u64,
    pub(crate) wal_frames: u64,
    /// The number of frames is known, not only bounded.
    pub(crate) wal_exact: bool,
    pub(crate) wall_ms: u64,
    pub(crate) mono_ms: u64,
    /// Rows written so far.
    pub(crate) appended: PageEstimate,
    /// Pages dirtied otherwise so far, from above.
    pub(crate) other: u64,
    /// Pages dirtied by rows of leases that have changed so far, from above.
    pub(crate) leases: u64,
    /// Pages that those rows have added to the file since it was looked at, from above.
    pub(crate) lease_growth: u64,
}

impl Tx {
    /// Pages that the transaction will write at the most.
    pub(crate) fn dirty(&self) -> u64 {
        self.appended.dirty_pages(self.room.pages.max(self.file_pages)) + self.other + self.leases
    }
}

/// Of an event that is too large for a letter so many bytes are kept, so that a person sees what it was.
const HEADS_OF_LETTERS: [usize; 2] = [16 * 1024, 4 * 1024];

/// The content and reason of a letter as they are, then cut shorter and shorter; the reason says so.
fn forms(letter: &Letter) -> impl Iterator<Item = (&[u8], Cow<'_, str>)> {
    let whole = letter.content.len();
    let heads = HEADS_OF_LETTERS.into_iter().filter_map(move |len| {
        let reason = format!("{} (cut: the first {len} of {whole} bytes)", letter.reason);
        Some((letter.content.get(..len)?, Cow::Owned(reason)))
    });
    std::iter::once((&letter.content[..], Cow::Borrowed(letter.reason.as_str()))).chain(heads)
}

/// A letter with what its event's row said.
struct StoredLetter<'a> {
    /// 0 where it never was in a queue.
    id: u64,
    at: u64,
    letter: &'a Letter,
    attempts: u32,
}

/// Letters that a commit will write, as far as that can be told before.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Letters {
    number: u64,
    bytes: u64,
    rows: PageEstimate,
    /// Pages that become free when the events leave their queues.
    freed: u64,
}

/// A letter that may have to make room.
pub(crate) struct OldLetter {
    id: i64,
    pub(crate) bytes: u64,
    queue: String,
}

/// An open transaction.
pub(crate) struct Group<'a> {
    pub(crate) conn: &'a Connection,
    pub(crate) state: &'a mut State,
    pub(crate) limits: &'a Limits,
    pub(crate) max_dead: u64,
    pub(crate) tx: &'a mut Tx,
}

impl Group<'_> {
    /// Applies an admitted commit.
    pub(crate) fn apply(&mut self, commit: &Commit) -> rusqlite::Result<Receipt> {
        if let Some(id) = &commit.batch_id {
            self.remember_batch(id)?;
        }
        let mut receipt = Receipt::default();
        for value in &commit.first {
            self.checkpoint(value)?;
        }
        for remove in &commit.removes {
            for (first, last) in runs(&remove.ids) {
                receipt.removed += self.remove_run(remove.queue.0, first, last)?;
            }
        }
        reached("removed");
        for bury in &commit.dead {
            self.bury(bury)?;
        }
        for letter in &commit.letters {
            let at = self.tx.wall_ms;
            let id = 0;
            self.put_letter(letter.queue.0, StoredLetter { id, at, letter, attempts: 0 })?;
        }
        for append in &commit.appends {
            self.append(append)?;
        }
        for checkpoint in &commit.checkpoints {
            self.checkpoint(checkpoint)?;
        }
        reached("applied");
        Ok(receipt)
    }

    /// Whether the batch was stored by an earlier commit, be it one of this transaction. Its id is then remembered anew, since
    /// it may be repeated again: it moves to the newest ones, but only from the older half, so that somebody who repeats a batch
    /// all the time does not push the ids of others out.
    pub(crate) fn is_repeat(&mut self, commit: &Commit) -> rusqlite::Result<bool> {
        let Some(id) = &commit.batch_id else { return Ok(false) };
        let mut find = self.conn.prepare_cached(sql::FIND_BATCH)?;
        let found = find.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((seq, newest)): Option<(u64, u64)> = found else { return Ok(false) };
        if newest.saturating_sub(seq) > self.limits.max_batch_ids() / 2 {
            self.conn.prepare_cached(sql::MOVE_BATCH)?.execute([seq, newest + 1])?;
            self.tx.other += BATCH_PAGES;
        }
        Ok(true)
    }

    fn remember_batch(&mut self, id: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql::PUT_BATCH)?.execute([id])?;
        let seq = u64::try_from(self.conn.last_insert_rowid()).unwrap_or(0);
        let old = seq.saturating_sub(self.limits.max_batch_ids());
        if old > 0 {
            self.conn.prepare_cached(sql::PRUNE_BATCHES)?.execute([old])?;
        }
        self.tx.other += BATCH_PAGES;
        Ok(())
    }

    fn append(&mut self, append: &Append) -> rusqlite::Result<()> {
        if append.events.is_empty() {
            return Ok(());
        }
        let tables = self.tables();
        self.tx.appended.add_table(tables);
        let queue = &mut self.state.queues[append.queue.0];
        let at = queue.time_of_next(self.tx.wall_ms);
        (queue.dirty, queue.announce, queue.last_at) = (true, true, at);
        let mut rest = &append.events[..];
        while !rest.is_empty() {
            let sizes = rest.iter().map(|event| event.len() as u64);
            let (count, begun) = queue.segments.take(self.conn, queue.next_id, sizes)?;
            self.tx.appended.add_segments(begun.into());
            if begun {
                self.tx.other += moving_pages(self.tx.room.pages);
            }
            let (events, later) = rest.split_at(count);
            rest = later;
            let mut insert = self.conn.prepare_cached(&queue.segments.newest().insert)?;
            for event in events {
                insert.execute(params![queue.next_id, at, &event[..]])?;
                queue.count_in(queue.next_id, at, event.len() as u64);
                self.tx.appended.add_row(event.len() as u64);
                reached("row inserted");
            }
        }
        Ok(())
    }

    /// Takes over an event with the id and the time that it has elsewhere, unless that id is here already. Counts no pages: it
    /// may land between others, so whoever adopts knows what that costs.
    pub(crate) fn adopt(&mut self, queue: usize, event: &StoredEvent) -> rusqlite::Result<()> {
        self.bring_back(queue, event.id)?;
        let queue = &mut self.state.queues[queue];
        let row = params![sql_id(event.id), sql_id(event.at_ms), &event.content[..]];
        if self.conn.prepare_cached(&queue.segments.of(event.id).adopt)?.execute(row)? == 0 {
            return Ok(());
        }
        queue.segments.adopted(event.id, event.content.len() as u64);
        queue.sizes.forget(event.id, event.id);
        queue.book.offer(event.id);
        queue.book.limit(self.limits.max_ranges());
        queue.last_at = queue.last_at.max(event.at_ms);
        queue.head_moved |= queue.head.is_some_and(|(first, _)| first > event.id);
        queue.count_in(event.id, event.at_ms, event.content.len() as u64);
        (queue.dirty, queue.announce) = (true, true);
        Ok(())
    }

    /// Makes ids from `id` on count again, without the events that have been passed there, if their rows are there still.
    fn bring_back(&mut self, queue: usize, id: u64) -> rusqlite::Result<()> {
        let queue = &mut self.state.queues[queue];
        if id > queue.removed {
            return Ok(());
        }
        for piece in queue.segments.pieces(id, queue.removed) {
            self.conn.prepare_cached(&piece.sql.delete)?.execute(piece.span())?;
        }
        (queue.removed, queue.dirty) = (id - 1, true);
        Ok(())
    }

    pub(crate) fn checkpoint(&mut self, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
        let Some(value) = &checkpoint.value else {
            self.conn.prepare_cached(sql::DELETE_CHECKPOINT)?.execute([&checkpoint.key])?;
            self.tx.other += 1;
            return Ok(());
        };
        self.conn.prepare_cached(sql::PUT_CHECKPOINT)?.execute(params![checkpoint.key, value])?;
        let tables = self.tables();
        self.tx.appended.add_table(tables);
        self.tx.appended.add_row((checkpoint.key.len() + value.len()) as u64);
        Ok(())
    }

    /// The event leaves its queue before the letter is written, so that the letter can have its pages.
    fn bury(&mut self, bury: &Bury) -> rusqlite::Result<()> {
        let index = bury.queue.0;
        let one = Budget { events: 1, bytes: 0 };
        let found = read(self.conn, self.state.queues[index].pieces(bury.id, bury.id), one, true)?;
        let Some(event) = found.events.into_iter().next() else { return Ok(()) };
        let there = self.measure(index, bury.id, bury.id)?;
        self.forget_leases(index, (bury.id, bury.id));
        // Passed, its pages would not be free.
        self.delete(index, (bury.id, bury.id), there)?;
        let letter =
            Letter { queue: bury.queue, content: event.content, reason: bury.reason.clone() };
        let (id, at, attempts) = (bury.id, event.at_ms, bury.attempts);
        self.put_letter(index, StoredLetter { id, at, letter: &letter, attempts })
    }

    fn put_letter(&mut self, queue: usize, stored: StoredLetter<'_>) -> rusqlite::Result<()> {
        let StoredLetter { id, at, letter, attempts } = stored;
        let name = self.state.queues[queue].name.clone();
        for (content, reason) in forms(letter) {
            let size = content.len() as u64;
            let row = PageEstimate::of_row(size + letter_overhead(&reason, &name));
            if !self.make_room_for_letter(size, row)? {
                continue;
            }
            let columns = params![name, at, self.tx.wall_ms, reason, attempts, content];
            self.conn.prepare_cached(sql::PUT_DEAD)?.execute(columns)?;
            self.state.count_letter_in(queue, size);
            self.tx.appended = self.tx.appended.plus(row, self.tables());
            return Ok(());
        }
        let bytes = letter.content.len();
        tracing::error!(queue = name, id, bytes, "no room for a dead letter: the event is lost");
        self.state.count_letter_lost(queue);
        Ok(())
    }

    /// The letters that a commit will write.
    pub(crate) fn letters_of(&self, commit: &Commit) -> rusqlite::Result<Letters> {
        let mut letters = Letters::default();
        for bury in &commit.dead {
            if let Some(size) = self.size(bury.queue.0, bury.id)? {
                self.expect_letter(&mut letters, size, bury.queue.0, bury.reason.as_str());
                letters.freed += stored_bytes(size) / PAGE;
            }
        }
        for letter in &commit.letters {
            let size = letter.content.len() as u64;
            self.expect_letter(&mut letters, size, letter.queue.0, letter.reason.as_str());
        }
        Ok(letters)
    }

    /// One that can never be kept whole will be cut.
    fn expect_letter(&self, letters: &mut Letters, size: u64, queue: usize, reason: &str) {
        let overhead = letter_overhead(reason, &self.state.queues[queue].name);
        let whole = PageEstimate::of_row(size + overhead);
        let appended = self.tx.appended.plus(whole, self.tables());
        let db_pages = self.tx.room.after(appended).min(self.letter_cap());
        let alone = whole.pages() + base_pages(self.state.queues.len() as u64);
        let fits = alone <= self.letter_cap()
            && self.limits.wal_fits(0, 0, whole.dirty_pages(db_pages), db_pages);
        let kept = if fits { size } else { size.min(HEADS_OF_LETTERS[0] as u64) };
        letters.number += 1;
        letters.bytes += kept;
        letters.rows = letters.rows.plus(PageEstimate::of_row(kept + overhead), self.tables());
    }

    /// Whether letters are within the bounds beside those that there are.
    pub(crate) fn has_place_for(&self, letters: &Letters) -> rusqlite::Result<bool> {
        let appended = self.tx.appended.plus(letters.rows, self.tables());
        let pages = self.look()?.after(appended).saturating_sub(letters.freed);
        let counted = self.state.dead_letters + letters.number <= self.max_dead
            && self.state.dead_bytes + letters.bytes <= self.limits.dead_bytes();
        Ok(letters.number == 0 || (counted && pages <= self.letter_cap()))
    }

    /// Pushes old letters out until a new one of `size` is within the bounds; false when it can never be. Mostly they have gone
    /// ahead of the commit (see [`crate::ahead`]).
    fn make_room_for_letter(&mut self, size: u64, row: PageEstimate) -> rusqlite::Result<bool> {
        loop {
            self.tx.room = self.look()?;
            let appended = self.tx.appended.plus(row, self.tables());
            let after = self.tx.room.after(appended);
            if !self.tx.still_takes(self.limits, appended, 0) {
                return Ok(false);
            }
            let in_file = after <= self.letter_cap();
            let counted = self.state.dead_letters < self.max_dead
                && self.state.dead_bytes + size <= self.limits.dead_bytes();
            if in_file && (counted || self.state.dead_letters == 0) {
                return Ok(self.max_dead > 0);
            }
            let Some(oldest) = self.oldest_letter()? else { return Ok(false) };
            let pages = removal_pages(1, stored_bytes(oldest.bytes), self.tx.room.pages);
            if !self.tx.still_takes(self.limits, appended, pages) {
                return Ok(false);
            }
            self.drop_letter(&oldest)?;
        }
    }

    fn letter_cap(&self) -> u64 {
        let ranges = self.state.queues.iter().map(|queue| queue.book.count()).sum();
        self.limits.letter_cap(ranges)
    }

    pub(crate) fn oldest_letter(&self) -> rusqlite::Result<Option<OldLetter>> {
        let mut select = self.conn.prepare_cached(sql::OLDEST_DEAD)?;
        let letter = |row: &Row<'_>| {
            Ok(OldLetter { id: row.get(0)?, bytes: row.get(1)?, queue: row.get(2)? })
        };
        select.query_row([], letter).optional()
    }

    pub(crate) fn drop_letter(&mut self, letter: &OldLetter) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql::DELETE_DEAD)?.execute([letter.id])?;
        self.state.count_letter_out(&letter.queue, letter.bytes);
        self.tx.other += removal_pages(1, stored_bytes(letter.bytes), self.tx.room.pages);
        reached("letter dropped");
        Ok(())
    }

    /// The file's pages as they are by now.
    pub(crate) fn look(&self) -> rusqlite::Result<Room> {
        Room::look(self.conn, self.tx.appended)
    }

    /// Gives events to a reader until `mono_ms + ttl_ms`: first those that came back, oldest first, then new ones.
    pub(crate) fn lease(
        &mut self,
        queue: usize,
        budget: Budget,
        ttl_ms: u64,
    ) -> rusqlite::Result<Leased> {
        let state = &mut self.state.queues[queue];
        let mut left = budget;
        let mut events: Vec<StoredEvent> = Vec::new();
        let mut given: Vec<(Span, (u64, u64))> = Vec::new();
        let most = self.limits.max_ranges();
        if state.book.limit(most) {
            return Ok(Leased::default());
        }
        for span in state.book.available(budget.events) {
            let found =
                read(self.conn, state.pieces(span.first, span.last), left, events.is_empty())?;
            if let Some((span, there)) = found.measured() {
                state.sizes.remember(span, there);
            }
            let ids: Vec<u64> = found.events.iter().map(|event| event.id).collect();
            let mut rest = span;
            for run in runs(&ids) {
                given.push((rest, run));
                rest.first = run.1 + 1;
            }
            left.events -= ids.len();
            left.bytes = left
                .bytes
                .saturating_sub(found.events.iter().map(|event| event.content.len()).sum());
            events.extend(
                found
                    .events
                    .into_iter()
                    .map(|event| StoredEvent { attempts: span.attempts, ..event }),
            );
            // The next span would overtake what did not fit.
            if found.more {
                break;
            }
            state.book.forget(rest.first, rest.last, most);
        }
        if events.is_empty() {
            return Ok(Leased::default());
        }
        let token = self.state.take_token(self.conn)?;
        let hold = Hold { until: self.tx.mono_ms.saturating_add(ttl_ms), ttl_ms, token };
        let book = &mut self.state.queues[queue].book;
        given.into_iter().for_each(|(span, run)| book.grant(span, run, hold));
        // Of a span with gaps each run has become a range.
        book.limit(most);
        self.tx.other += 3;
        Ok(Leased { token, events })
    }

    pub(crate) fn release(&mut self, queue: usize, ids: &[u64]) -> u64 {
        let state = &mut self.state.queues[queue];
        let (runs, most) = (runs(ids), self.limits.max_ranges());
        // Each may cut a range in three.
        state.book.limit(most.saturating_sub(2 * runs.len() as u64));
        let released =
            runs.into_iter().map(|(first, last)| state.book.release(first, last, most)).sum();
        state.announce |= released > 0;
        self.tx.other += 2;
        released
    }

    pub(crate) fn extend(&mut self, queue: usize, token: u64, ttl_ms: u64) -> bool {
        let hold = Hold { until: self.tx.mono_ms.saturating_add(ttl_ms), ttl_ms, token };
        self.tx.other += 2;
        self.state.queues[queue].book.extend(hold)
    }

    /// Returns the leases whose time is over.
    pub(crate) fn expire(&mut self, queue: usize, now_ms: u64) {
        let state = &mut self.state.queues[queue];
        state.announce |= state.book.expire(now_ms);
        self.count_leases();
    }

    /// The events of a span are gone.
    pub(crate) fn forget_leases(&mut self, queue: usize, (first, last): (u64, u64)) {
        self.state.queues[queue].book.forget(first, last, self.limits.max_ranges());
        self.count_leases();
    }

    /// Counts what the changes of leases will write.
    pub(crate) fn count_leases(&mut self) {
        let limits = self.limits;
        let books = || self.state.queues.iter().map(|queue| &queue.book);
        self.tx.leases = books().map(|book| limits.lease_pages(book.touched(), book.count())).sum();
        self.tx.lease_growth = books().map(|book| limits.lease_growth(book.touched())).sum();
    }
}
