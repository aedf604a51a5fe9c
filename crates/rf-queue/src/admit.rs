//! Admission: does a commit fit, and if not, what then?
//!
//! A request is admitted before any row of it is written, so that a refusal leaves no trace and its neighbours in the
//! group are untouched. Three limits are asked in turn: the queue's own, the database's pages, and the WAL that is left
//! beside them.

use rusqlite::{Connection, OptionalExtension};

use crate::errors::{CommitError, FullReason};
use crate::group::{Group, Tx};
use crate::limits::{
    Limits, PAGE, PageEstimate, base_pages, map_pages, moving_pages, removal_pages, removed_pages,
    stored_bytes,
};
use crate::sql;
use crate::types::{Append, Commit, MAX_BATCH_ID_BYTES, Remove, WhenFull};

/// Pages of the file, looked up in the database and counted on by estimates in between.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Room {
    pub(crate) pages: u64,
    pub(crate) free: u64,
    /// What the transaction had appended at the look.
    seen: PageEstimate,
}

impl Room {
    pub(crate) fn look(conn: &Connection, seen: PageEstimate) -> rusqlite::Result<Self> {
        let pages = conn.prepare_cached("PRAGMA page_count")?.query_row([], |row| row.get(0))?;
        let free = conn.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
        Ok(Self { pages, free, seen })
    }

    pub(crate) fn used(&self) -> u64 {
        self.pages.saturating_sub(self.free)
    }

    /// Pages of the file when the transaction will have appended so much.
    pub(crate) fn after(&self, appended: PageEstimate) -> u64 {
        self.pages + appended.since(self.seen).pages().saturating_sub(self.free)
    }

    /// The same, if all free pages were given back first.
    fn shrunk_after(&self, appended: PageEstimate) -> u64 {
        self.used() + appended.since(self.seen).pages()
    }
}

/// What a request will write, from above.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) rows: PageEstimate,
    /// Pages dirtied by removing and by small tables.
    pub(crate) other: u64,
    /// Pages that small tables may add to the file, if that is more than a few.
    growth: u64,
}

impl Cost {
    /// A change of a few rows that does not let the file grow.
    pub(crate) fn pages(other: u64) -> Self {
        Self { other, ..Self::default() }
    }

    pub(crate) fn of_rows(rows: PageEstimate, other: u64) -> Self {
        Self { rows, other, ..Self::default() }
    }

    /// A change of small tables that may add so many pages to the file.
    pub(crate) fn growing(other: u64, growth: u64) -> Self {
        Self { other, growth, ..Self::default() }
    }

    pub(crate) fn plus_pages(self, pages: u64) -> Self {
        Self { other: self.other + pages, ..self }
    }

    fn dirty(&self, file_pages: u64) -> u64 {
        self.rows.dirty_pages(file_pages) + self.other
    }
}

/// What the writer must do with a commit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Apply it, when the WAL has room for this.
    Now(Cost),
    /// Apply it in several transactions: the WAL cannot take it at once.
    InParts,
    /// Make room in this queue (its index) by dropping its oldest events, so many bytes if it has them, then ask again.
    DropOldest(usize, u64),
    /// Give the place of passed events back first, then ask again.
    Tidy,
    /// Give free pages back first, then ask again: the WAL needs their place.
    Shrink,
    /// Answer this.
    Refuse(CommitError),
}

impl Tx {
    /// Whether the WAL beside the database can take this on top of what the transaction has written, and the reserve can
    /// pay for what the database file will have to grow: else a disk that is full now could not even be checkpointed on.
    pub(crate) fn takes(&self, limits: &Limits, cost: &Cost, tables: u64) -> bool {
        let appended = self.appended.plus(cost.rows, tables);
        let growth = self.pages_after(appended, cost).saturating_sub(self.disk_pages);
        // One that is larger than the reserve by itself is asked for room on the disk instead.
        let alone = self.wal_frames == 0 && !self.has_written();
        (growth <= limits.reserve_pages() || alone) && self.wal_takes(limits, appended, cost)
    }

    /// Pages of the file, with what small tables add.
    fn pages_after(&self, appended: PageEstimate, cost: &Cost) -> u64 {
        self.room.after(appended) + self.lease_growth + cost.growth
    }

    /// Whether the transaction may write so many rows in all, and what a cost has beside its rows.
    fn wal_takes(&self, limits: &Limits, appended: PageEstimate, cost: &Cost) -> bool {
        let db_pages = self.file_pages.max(self.pages_after(appended, cost));
        let dirty = appended.dirty_pages(db_pages) + self.other + self.leases + cost.other;
        limits.wal_fits(self.wal_len, self.wal_frames, dirty, db_pages)
    }

    /// The same for a part of what it was admitted with. How long the WAL's file may be was asked then, beside a database that
    /// was to be no smaller: asked again, with an estimate that is a page off, it could be too long by now.
    pub(crate) fn still_takes(&self, limits: &Limits, appended: PageEstimate, other: u64) -> bool {
        let db_pages = self.file_pages.max(self.room.after(appended));
        let dirty = appended.dirty_pages(db_pages) + self.other + self.leases + other;
        limits.wal_fits(0, self.wal_frames, dirty, db_pages)
    }
}

impl Group<'_> {
    pub(crate) fn admit(&mut self, commit: &Commit) -> rusqlite::Result<Admission> {
        if let Some(id) = &commit.batch_id
            && id.len() > MAX_BATCH_ID_BYTES
        {
            let (bytes, limit) = (id.len() as u64, MAX_BATCH_ID_BYTES as u64);
            return Ok(Admission::Refuse(CommitError::TooLarge { bytes, limit }));
        }
        let cost = self.cost(commit)?;
        if !self.removes_fit(commit, &cost) {
            return Ok(self.too_large(commit));
        }
        if commit.appends.iter().all(|append| append.events.is_empty()) {
            return if commit.within_limit {
                self.admit_values(commit, cost)
            } else {
                Ok(self.without_events(commit, cost))
            };
        }
        let mut drops = None;
        for append in &commit.appends {
            match self.check_queue_limit(append) {
                // Nothing goes for what another queue refuses.
                Some(drop @ Admission::DropOldest(..)) => drops = drops.or(Some(drop)),
                Some(refused) => return Ok(refused),
                None => {}
            }
        }
        if let Some(drop) = drops {
            return Ok(if self.can_fit(commit, &cost) { drop } else { self.too_large(commit) });
        }
        if self.fits(&cost) {
            return Ok(Admission::Now(cost));
        }
        self.tx.room = self.look()?;
        if self.fits(&cost) { Ok(Admission::Now(cost)) } else { Ok(self.no_room(commit, &cost)) }
    }

    /// Whether the WAL takes the removes at once. Large ones are here only with something that is put into the store, and
    /// neither writing that in parts nor dropping events for it would make them fewer.
    fn removes_fit(&self, commit: &Commit, cost: &Cost) -> bool {
        let ids: usize = commit.removes.iter().map(|remove| remove.ids.len()).sum();
        if ids <= most_removed_at_once(self.limits) {
            return true;
        }
        let appended = self.tx.appended.plus(cost.rows, self.tables());
        let db_pages = self.tx.room.after(appended);
        let removes = Cost::pages(self.removes_pages(commit));
        self.limits.wal_fits(0, 0, removes.dirty(db_pages), db_pages)
    }

    fn too_large(&self, commit: &Commit) -> Admission {
        let limit = self.limits.largest_event(base_pages(self.state.queues.len() as u64));
        let bytes = commit.content_bytes() as u64;
        Admission::Refuse(CommitError::TooLarge { bytes, limit })
    }

    /// What appends nothing is always done, unless it asks for the limit: in the worst case a dead letter is not kept. But a
    /// large one may be saved by giving free pages back.
    fn without_events(&self, commit: &Commit, cost: Cost) -> Admission {
        let appended = self.tx.appended.plus(cost.rows, self.tables());
        let fits = |db_pages| self.limits.wal_fits(0, 0, cost.dirty(db_pages), db_pages);
        let shrinks = self.tx.room.free > 0 && fits(self.tx.room.shrunk_after(appended));
        let letters = !commit.dead.is_empty() || !commit.letters.is_empty();
        if letters && shrinks && !fits(self.tx.room.after(appended)) {
            return Admission::Shrink;
        }
        Admission::Now(cost)
    }

    /// Values that take the place of others, which are no shorter, do not let the file grow: where it is full, they are asked
    /// only whether the WAL has room beside it.
    fn admit_values(&mut self, commit: &Commit, cost: Cost) -> rusqlite::Result<Admission> {
        if self.fits(&cost) {
            return Ok(self.without_events(commit, cost));
        }
        self.tx.room = self.look()?;
        if self.fits(&cost) {
            return Ok(Admission::Now(cost));
        }
        if !self.grows(commit)? {
            let room = self.tx.room;
            let fits = |pages| self.limits.wal_fits(0, 0, cost.dirty(pages), pages);
            if fits(room.pages) {
                return Ok(self.without_events(commit, cost));
            }
            if room.free > 0 && fits(room.used()) {
                return Ok(Admission::Shrink);
            }
        }
        Ok(self.no_room(commit, &cost))
    }

    /// Whether a value that it sets is longer than what is there.
    fn grows(&self, commit: &Commit) -> rusqlite::Result<bool> {
        let mut select = self.conn.prepare_cached(sql::CHECKPOINT_BYTES)?;
        for point in commit.values() {
            let Some(value) = &point.value else { continue };
            let there: Option<u64> = select.query_row([&point.key], |row| row.get(0)).optional()?;
            if there.is_none_or(|bytes| bytes < value.len() as u64) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether it fits on an empty WAL. One that does not fit on the WAL as it is goes into the next transaction.
    pub(crate) fn fits(&self, cost: &Cost) -> bool {
        let appended = self.tx.appended.plus(cost.rows, self.tables());
        let db_pages = self.tx.room.after(appended);
        self.limits.append_fits(cost.dirty(db_pages), db_pages)
    }

    pub(crate) fn tables(&self) -> u64 {
        // Events of each queue, dead letters, checkpoints.
        self.state.queues.len() as u64 + 2
    }

    pub(crate) fn cost(&self, commit: &Commit) -> rusqlite::Result<Cost> {
        let mut cost = Cost::default();
        for append in commit.appends.iter().filter(|append| !append.events.is_empty()) {
            cost.rows.add_table(self.tables());
            append.events.iter().for_each(|event| cost.rows.add_row(event.len() as u64));
            let bytes = append.events.iter().map(|event| stored_bytes(event.len() as u64)).sum();
            let segments = &self.state.queues[append.queue.0].segments;
            let begun = segments.begun_by(append.events.len() as u64, bytes);
            cost.rows.add_segments(begun);
            cost.other += begun * moving_pages(self.tx.room.pages);
        }
        for point in commit.values().filter(|point| point.value.is_some()) {
            cost.rows.add_table(self.tables());
            cost.rows.add_row((point.key.len() + point.value.as_ref().map_or(0, Vec::len)) as u64);
        }
        let letters = commit.dead.len() + commit.letters.len();
        // Several may push out one another.
        let pushed_out = |size: u64| {
            let pages = removal_pages(1, stored_bytes(size), self.tx.room.pages);
            if letters > 1 { pages } else { 0 }
        };
        cost.other += if letters > 0 { self.tables() + ROUNDING_PAGES } else { 0 };
        for bury in &commit.dead {
            let size = self.size(bury.queue.0, bury.id)?.unwrap_or(0);
            cost.other += pushed_out(size);
            cost.rows.add_table(self.tables());
            cost.rows.add_row(
                size + letter_overhead(&bury.reason, &self.state.queues[bury.queue.0].name),
            );
            cost.other += removal_pages(1, stored_bytes(size), self.tx.room.pages);
        }
        for letter in &commit.letters {
            let queue = &self.state.queues[letter.queue.0].name;
            let size = letter.content.len() as u64;
            cost.other += pushed_out(size);
            cost.rows.add_table(self.tables());
            cost.rows.add_row(size + letter_overhead(&letter.reason, queue));
        }
        cost.other += self.removes_pages(commit) + commit.values().count() as u64;
        cost.other += if commit.batch_id.is_some() { BATCH_PAGES } else { 0 };
        Ok(cost)
    }

    /// Pages that its removes dirty. The size of the events is not looked at.
    fn removes_pages(&self, commit: &Commit) -> u64 {
        let ids: usize = commit.removes.iter().map(|remove| remove.ids.len()).sum();
        if ids == 0 {
            return 0;
        }
        let leases: u64 = commit.removes.iter().map(|remove| self.lease_pages(remove)).sum();
        removed_ids_pages(ids as u64) + leases + map_pages(u64::MAX, self.tx.room.pages)
    }

    /// Pages of leases that removing events dirties: each may cut a range in two.
    fn lease_pages(&self, remove: &Remove) -> u64 {
        match self.state.queues[remove.queue.0].book.count() {
            0 => 0,
            ranges => self.limits.lease_pages(2 * remove.ids.len() as u64, ranges),
        }
    }

    fn check_queue_limit(&self, append: &Append) -> Option<Admission> {
        let queue = &self.state.queues[append.queue.0];
        let bytes: u64 = append.events.iter().map(|event| stored_bytes(event.len() as u64)).sum();
        if bytes > queue.limit_bytes {
            let in_file = self.limits.largest_event(base_pages(self.state.queues.len() as u64));
            let limit = queue.limit_bytes.min(in_file);
            return Some(Admission::Refuse(CommitError::TooLarge { bytes, limit }));
        }
        if queue.stored + bytes <= queue.limit_bytes {
            return None;
        }
        Some(match queue.when_full {
            WhenFull::DropOldest => {
                Admission::DropOldest(append.queue.0, queue.stored + bytes - queue.limit_bytes)
            }
            _ => Admission::Refuse(CommitError::Full {
                queue: queue.name.clone(),
                reason: FullReason::Queue,
            }),
        })
    }

    /// Whether the file could take it if it were empty.
    fn can_fit(&self, commit: &Commit, cost: &Cost) -> bool {
        let (rows, _) = rows_of(commit, cost);
        let base = base_pages(self.state.queues.len() as u64);
        self.fits_at(commit, cost, base + rows.pages())
    }

    /// Whether the WAL takes it beside a file that then has so many pages: in parts, if it can be cut.
    fn fits_at(&self, commit: &Commit, cost: &Cost, db_pages: u64) -> bool {
        let (largest, parts) = largest_part(commit);
        let dirty = if parts {
            largest.dirty_pages(db_pages).max(self.limits.step_pages())
        } else {
            cost.dirty(db_pages)
        };
        self.limits.append_fits(dirty, db_pages)
    }

    /// The file cannot take it: find out what would help.
    fn no_room(&self, commit: &Commit, cost: &Cost) -> Admission {
        if !self.can_fit(commit, cost) {
            return self.too_large(commit);
        }
        let (rows, parts) = rows_of(commit, cost);
        if self.state.queues.iter().any(|queue| queue.segments.passed() > 0) {
            return Admission::Tidy;
        }
        let in_parts = self.tx.room.after(self.tx.appended.plus(rows, self.tables()));
        if parts && self.fits_at(commit, cost, in_parts) {
            return Admission::InParts;
        }
        let appended = self.tx.appended.plus(cost.rows, self.tables());
        let shrunk = self.tx.room.shrunk_after(appended);
        if self.tx.room.free > 0 && self.limits.append_fits(cost.dirty(shrunk), shrunk) {
            return Admission::Shrink;
        }
        let queues = commit.appends.iter().map(|append| append.queue.0);
        let droppable = |index: &usize| {
            let queue = &self.state.queues[*index];
            queue.when_full == WhenFull::DropOldest && queue.events > 0
        };
        let mut droppable: Vec<usize> = queues.clone().filter(droppable).collect();
        droppable.sort_unstable();
        droppable.dedup();
        let freed = |index: &usize| removed_pages(self.state.queues[*index].stored);
        let freed: u64 = droppable.iter().map(freed).sum();
        let least = self.tx.room.shrunk_after(self.tx.appended.plus(rows, self.tables()));
        // Nothing goes where others hold so much of the file that it would be for nothing.
        if let Some(index) = droppable.first()
            && self.fits_at(commit, cost, least.saturating_sub(freed))
        {
            return Admission::DropOldest(*index, cost.rows.pages() * PAGE);
        }
        let name = queues.clone().next().map(|index| self.state.queues[index].name.clone());
        Admission::Refuse(CommitError::Full {
            queue: name.unwrap_or_default(),
            reason: FullReason::Store,
        })
    }

    /// Content bytes of one event.
    pub(crate) fn size(&self, queue: usize, id: u64) -> rusqlite::Result<Option<u64>> {
        let Some(piece) = self.state.queues[queue].pieces(id, id).next() else { return Ok(None) };
        let [first, last] = piece.span();
        let mut select = self.conn.prepare_cached(&piece.sql.sizes)?;
        let mut rows = select.query(rusqlite::params![first, last, 1])?;
        rows.next()?.map(|row| row.get(2)).transpose()
    }
}

/// The rows of a commit as they are written where they need most room, and whether that is in parts: then the WAL must only
/// take the largest event at once, and no segments are begun.
fn rows_of(commit: &Commit, cost: &Cost) -> (PageEstimate, bool) {
    let (_largest, parts) = largest_part(commit);
    (if parts { cost.rows.in_one_segment() } else { cost.rows }, parts)
}

/// The largest event of a commit as rows, and whether there are others.
fn largest_part(commit: &Commit) -> (PageEstimate, bool) {
    let sizes =
        commit.appends.iter().flat_map(|append| &append.events).map(|event| event.len() as u64);
    (PageEstimate::of_row(sizes.clone().max().unwrap_or(0)), sizes.count() > 1)
}

/// An id in `batches` and its index, and the one that it pushes out there: two leaves each, which may split.
pub(crate) const BATCH_PAGES: u64 = 8;

/// With a page for each table: by so much less may be thought free when room is asked for again, letter by letter.
const ROUNDING_PAGES: u64 = 6;

const PAGES_PER_ID: u64 = 3;

/// Pages that removing so many ids dirties, wherever they lie.
pub(crate) fn removed_ids_pages(ids: u64) -> u64 {
    ids * PAGES_PER_ID
}

/// Ids that are removed in one step, wherever they lie.
pub(crate) fn most_removed_at_once(limits: &Limits) -> usize {
    usize::try_from(limits.step_pages() / PAGES_PER_ID).unwrap_or(usize::MAX).max(1)
}

/// Bytes of a dead letter beside its content.
pub(crate) fn letter_overhead(reason: &str, queue: &str) -> u64 {
    (reason.len() + queue.len() + 40) as u64
}

/// Whether events of these sizes fit together into a store of `max_bytes` that has one queue, without a limit of its own, and
/// is empty. If so, a commit of them alone is never [`CommitError::TooLarge`]; if not, it is, but for very little.
pub fn fit_when_empty(max_bytes: u64, sizes: impl Iterator<Item = u64> + Clone) -> bool {
    let limits = Limits::new(max_bytes);
    if sizes.clone().map(stored_bytes).sum::<u64>() > limits.share(1) {
        return false;
    }
    let mut rows = PageEstimate::default();
    rows.add_table(1);
    sizes.clone().for_each(|size| rows.add_row(size));
    // As in `Group::no_room`. What depends there on how full the file is, is here as if it were full.
    let is_alone = sizes.clone().nth(1).is_none();
    rows.add_segments(u64::from(is_alone && limits.segment_bytes() > 0));
    let db_pages = base_pages(1) + rows.pages();
    let dirty = if is_alone {
        rows.dirty_pages(db_pages) + moving_pages(limits.db_cap()) + BATCH_PAGES
    } else {
        let largest = PageEstimate::of_row(sizes.max().unwrap_or(0));
        largest.dirty_pages(db_pages).max(limits.step_pages())
    };
    limits.append_fits(dirty, db_pages)
}
